-- The one schema for SQLite and PostgreSQL: TEXT and BIGINT only. Times are microseconds since 1970 in UTC, truth
-- values are 0 and 1, structured data is JSON text in the stored form of `model`.

CREATE TABLE versions (
    id TEXT NOT NULL PRIMARY KEY,
    pipeline TEXT NOT NULL,
    definition TEXT NOT NULL
);

CREATE TABLE runs (
    id TEXT NOT NULL PRIMARY KEY,
    pipeline TEXT NOT NULL,
    version TEXT NOT NULL,
    inputs TEXT NOT NULL,
    slot TEXT,
    priority BIGINT NOT NULL,
    parent_run TEXT,
    parent_path TEXT,
    created_at BIGINT NOT NULL,
    state TEXT NOT NULL,
    error TEXT,
    outputs TEXT,
    started_at BIGINT,
    ended_at BIGINT,
    waiting_until BIGINT,
    reason TEXT,
    -- The lease: who works on the run, the number of the claim, and a count that shows that the owner lives.
    owner TEXT,
    fence BIGINT NOT NULL,
    beat BIGINT NOT NULL,
    -- How many rows of the inbox are not yet taken. Kept here so that going to sleep and waking up meet on one row.
    signals BIGINT NOT NULL,
    last_signal BIGINT NOT NULL,
    UNIQUE (pipeline, slot)
);
CREATE INDEX runs_by_parent ON runs (parent_run) WHERE parent_run IS NOT NULL;

-- A row is a chunk of consecutive events, `seq` to `last_seq`, one JSON object a line.
CREATE TABLE journal (
    run_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    last_seq BIGINT NOT NULL,
    events TEXT NOT NULL,
    PRIMARY KEY (run_id, seq)
);

CREATE TABLE effects (
    id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    path TEXT NOT NULL,
    business_key TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    send_before BIGINT NOT NULL,
    -- After this moment no answer comes any more.
    answer_before BIGINT NOT NULL,
    intended_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    error TEXT,
    remote_id TEXT,
    settled_by TEXT,
    -- Equal for effects that the remote cannot tell apart; only where it can be asked.
    fingerprint TEXT,
    -- The event that holds the request.
    intent_seq BIGINT NOT NULL,
    -- With the run first it also lists a run's effects: one index the less to write for each effect.
    PRIMARY KEY (run_id, id)
);
CREATE INDEX effects_in_doubt ON effects (intended_at) WHERE state = 'in_doubt';
CREATE INDEX effects_by_fingerprint ON effects (fingerprint) WHERE fingerprint IS NOT NULL;

CREATE TABLE remote_objects (
    scope TEXT NOT NULL,
    remote_id TEXT NOT NULL,
    effect_id TEXT NOT NULL,
    PRIMARY KEY (scope, remote_id)
);

CREATE TABLE inbox (
    run_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL,
    sent_at BIGINT NOT NULL,
    PRIMARY KEY (run_id, number)
);

CREATE TABLE cache (
    cache_key TEXT NOT NULL PRIMARY KEY,
    output TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX cache_by_expiry ON cache (expires_at);

CREATE TABLE logs (
    run_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    logged_at BIGINT NOT NULL,
    path TEXT,
    level TEXT NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (run_id, number)
);

CREATE TABLE datasets (
    id TEXT NOT NULL PRIMARY KEY,
    run_id TEXT NOT NULL,
    name TEXT NOT NULL,
    row_count BIGINT NOT NULL,
    next_cursor TEXT,
    complete BIGINT NOT NULL
);

-- A row is a page of rows, one JSON value a line.
CREATE TABLE dataset_pages (
    dataset_id TEXT NOT NULL,
    first_row BIGINT NOT NULL,
    row_count BIGINT NOT NULL,
    page TEXT NOT NULL,
    PRIMARY KEY (dataset_id, first_row)
);

CREATE TABLE secrets (
    name TEXT NOT NULL PRIMARY KEY,
    sealed TEXT NOT NULL
);
