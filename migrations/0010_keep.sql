-- Runs whose own rows are gone. What belonged to them is removed in small transactions; a row goes when all of it is gone.
CREATE TABLE removals (
    run_id TEXT NOT NULL PRIMARY KEY
);
CREATE INDEX datasets_by_run ON datasets (run_id);
-- Since when no run and no active pipeline has needed a version, and since when no file has had a schedule.
ALTER TABLE versions ADD COLUMN idle_since BIGINT;
ALTER TABLE schedules ADD COLUMN gone_since BIGINT;
-- What is done now and then by one of all processes: whoever moves `due` on does it.
CREATE TABLE chores (
    name TEXT NOT NULL PRIMARY KEY,
    due BIGINT NOT NULL
);
