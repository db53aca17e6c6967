-- What a daemon looks for: runs that nobody holds and that can go on, and those whose owner may be gone. Child runs are
-- executed by their parents.
CREATE INDEX runs_to_claim ON runs (state, priority DESC, created_at, waiting_until)
    WHERE owner IS NULL AND parent_run IS NULL AND state IN ('queued', 'waiting');
CREATE INDEX runs_held ON runs (owner) WHERE owner IS NOT NULL AND parent_run IS NULL;
