-- Time triggers: up to which logical time the slots of each have been decided on, and whether a person has switched it off.
CREATE TABLE schedules (
    pipeline TEXT NOT NULL,
    trigger_id TEXT NOT NULL,
    seen BIGINT NOT NULL,
    disabled BIGINT NOT NULL,
    PRIMARY KEY (pipeline, trigger_id)
);
