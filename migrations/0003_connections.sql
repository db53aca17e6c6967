-- Tokens of connections, sealed. `version` grows with every change, so that nobody overwrites what he has not seen.
-- `state`: `kept`; `spending` while a refresh token is on its way to be exchanged; `broken` when the provider refused it.
-- `ticket` names whoever renews it now, until `ticket_until` (microseconds since 1970).
CREATE TABLE tokens (
    connection TEXT NOT NULL PRIMARY KEY,
    sealed TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    version BIGINT NOT NULL,
    ticket TEXT,
    ticket_until BIGINT NOT NULL
);

-- How much of the limits of outside systems is used; a restart forgets none of it.
CREATE TABLE budgets (
    budget TEXT NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL,
    state TEXT NOT NULL
);
