-- The order of the queue. `turn` is microseconds since 1970: when a run was made, moved by its priority, and behind those of
-- its pipeline and priority that were queued before. The lowest goes first.
ALTER TABLE runs ADD COLUMN turn BIGINT NOT NULL DEFAULT 0;
-- Who may claim a run: 0 anybody, 1 nobody before it has its permits, 2 nobody: its parent executes it.
ALTER TABLE runs ADD COLUMN gate BIGINT NOT NULL DEFAULT 0;
-- Who or what started it.
ALTER TABLE runs ADD COLUMN started_by TEXT;
UPDATE runs SET turn = created_at - priority * 3600000000;
UPDATE runs SET gate = 2 WHERE parent_run IS NOT NULL;

DROP INDEX runs_to_claim;
CREATE INDEX runs_to_claim ON runs (turn) WHERE owner IS NULL AND gate = 0 AND state = 'queued';
CREATE INDEX runs_lined_up ON runs (pipeline, priority, turn) WHERE owner IS NULL AND state = 'queued';
CREATE INDEX runs_asleep ON runs (waiting_until) WHERE owner IS NULL AND gate = 0 AND state = 'waiting';
DROP INDEX runs_held;
CREATE INDEX runs_held ON runs (owner) WHERE owner IS NOT NULL AND gate < 2;
CREATE INDEX runs_ended ON runs (pipeline, ended_at) WHERE ended_at IS NOT NULL;

-- What runs and steps hold: a place of a `concurrency` group or a lock. A scope with a limit of n has the numbers 1 to n.
-- A run's own have an empty path.
CREATE TABLE permits (
    scope TEXT NOT NULL,
    number BIGINT NOT NULL,
    run_id TEXT NOT NULL,
    path TEXT NOT NULL,
    PRIMARY KEY (scope, number)
);
CREATE UNIQUE INDEX permits_by_run ON permits (run_id, path, scope);

-- Who waits for what. Whoever waits for several takes all at once; in each scope the lowest turn goes first.
CREATE TABLE requests (
    run_id TEXT NOT NULL,
    path TEXT NOT NULL,
    scope TEXT NOT NULL,
    -- How many may hold it at a time.
    most BIGINT NOT NULL,
    turn BIGINT NOT NULL,
    -- `queue`, `skip` or `replace`.
    when_full TEXT NOT NULL,
    PRIMARY KEY (run_id, path, scope)
);
CREATE INDEX requests_by_scope ON requests (scope, turn, run_id, path);
CREATE INDEX requests_impatient ON requests (scope) WHERE when_full <> 'queue';
