-- The number of the journal's event with which the attempt began that has asked: after a crash it tells what the attempt that
-- was cut off may have cost.
ALTER TABLE spending ADD COLUMN begun BIGINT;
CREATE INDEX spending_by_step ON spending (run_id, path) WHERE run_id IS NOT NULL;
