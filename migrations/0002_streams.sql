-- Where incremental reads stand, from run to run.
CREATE TABLE streams (
    stream_key TEXT NOT NULL PRIMARY KEY,
    state TEXT NOT NULL
);

-- What went over the wire in the attempts of a run; bounded for each run.
CREATE TABLE wire (
    run_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    path TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (run_id, number)
);
