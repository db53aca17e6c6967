-- Daemons at work. `beat` grows as long as one lives; `beaten_at` is when it last did, by the database's own clock.
CREATE TABLE workers (
    id TEXT NOT NULL PRIMARY KEY,
    host TEXT NOT NULL,
    pid BIGINT NOT NULL,
    roles TEXT NOT NULL,
    version TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    beat BIGINT NOT NULL,
    beaten_at BIGINT NOT NULL
);
-- The fence of the end of a spread child run (`gate` 0, with a parent) that its parent was told of.
ALTER TABLE runs ADD COLUMN told BIGINT NOT NULL DEFAULT 0;
CREATE INDEX runs_untold ON runs (parent_run)
    WHERE parent_run IS NOT NULL AND gate = 0 AND ended_at IS NOT NULL AND told <> fence;
