-- Triggers that do not go by time. Since when files and ends of runs count for one; 0 where nobody has looked yet.
ALTER TABLE schedules ADD COLUMN begun BIGINT NOT NULL DEFAULT 0;
-- When the trigger's bucket is full again; how it last fired.
ALTER TABLE schedules ADD COLUMN full_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE schedules ADD COLUMN fired_at BIGINT;

-- What has fired (a delivery, the end of a run), remembered for longer than it can come again, whatever becomes of its run.
CREATE TABLE firings (
    pipeline TEXT NOT NULL,
    trigger_id TEXT NOT NULL,
    mark TEXT NOT NULL,
    run_id TEXT NOT NULL,
    fired_at BIGINT NOT NULL,
    PRIMARY KEY (pipeline, trigger_id, mark)
);
CREATE INDEX firings_by_age ON firings (fired_at);

-- Each content that a file had: `stamp` is what the file system said of it. `left_at` is set when the file has another
-- content, or is gone.
CREATE TABLE trigger_files (
    pipeline TEXT NOT NULL,
    trigger_id TEXT NOT NULL,
    path TEXT NOT NULL,
    hash TEXT NOT NULL,
    size BIGINT NOT NULL,
    stamp TEXT NOT NULL,
    seen_at BIGINT NOT NULL,
    left_at BIGINT,
    PRIMARY KEY (pipeline, trigger_id, path, hash)
);
CREATE INDEX trigger_files_left ON trigger_files (left_at) WHERE left_at IS NOT NULL;
