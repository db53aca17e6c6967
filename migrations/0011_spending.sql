-- What requests to outside systems cost. `state`: `reserved`, `settled`, `released`, `unknown`. What is reserved, or unknown,
-- counts as it was reserved: after a crash nobody knows better. Amounts are decimal text; null is unknown, never zero.
CREATE TABLE spending (
    id TEXT NOT NULL PRIMARY KEY,
    asked_at BIGINT NOT NULL,
    -- The date then, where the project counts its days.
    day TEXT NOT NULL,
    -- The run above all, the run itself and its step; nothing outside of runs.
    top_run TEXT,
    run_id TEXT,
    path TEXT,
    -- That of the run above all.
    pipeline TEXT NOT NULL,
    connection TEXT NOT NULL,
    connector TEXT NOT NULL,
    operation TEXT NOT NULL,
    model TEXT,
    tokens_in BIGINT,
    tokens_out BIGINT,
    unit TEXT NOT NULL,
    reserved TEXT,
    settled TEXT,
    state TEXT NOT NULL
);
CREATE INDEX spending_by_age ON spending (asked_at, id);

-- What is spent in each scope that can have a budget: `step:RUN/PATH`, `run:ID`, `pipeline:DAY:NAME`, `project:DAY`.
CREATE TABLE spending_totals (
    scope TEXT NOT NULL,
    unit TEXT NOT NULL,
    amount TEXT NOT NULL,
    -- Grows with every change, so that nobody changes what he has not seen.
    version BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (scope, unit)
);
CREATE INDEX spending_totals_by_age ON spending_totals (changed_at);
