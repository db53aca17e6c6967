-- What runs ask people; a projection of their journals, but for the decision. `state`: `open`, `approved`, `rejected`,
-- `expired`, or `canceled` where the run ended without a decision.
CREATE TABLE approvals (
    id TEXT NOT NULL PRIMARY KEY,
    run_id TEXT NOT NULL,
    path TEXT NOT NULL,
    asked_at BIGINT NOT NULL,
    -- From this moment on nobody decides any more.
    expires_at BIGINT,
    state TEXT NOT NULL,
    ended_at BIGINT,
    -- The event that holds what is asked.
    event_seq BIGINT NOT NULL,
    -- Grows with every vote, so that nobody decides on votes that he has not seen.
    revision BIGINT NOT NULL
);
CREATE INDEX approvals_by_run ON approvals (run_id);
CREATE INDEX approvals_open ON approvals (asked_at) WHERE state = 'open';

-- One vote a person; the last one counts. `verdict`: `approve` or `reject`. `form` is what the person filled in.
CREATE TABLE votes (
    approval TEXT NOT NULL,
    person TEXT NOT NULL,
    verdict TEXT NOT NULL,
    comment TEXT,
    form TEXT NOT NULL,
    voted_at BIGINT NOT NULL,
    PRIMARY KEY (approval, person)
);
