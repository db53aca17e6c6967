-- What was generated, and notes beside it. `part` tells several of one step run apart; the id is made of run, path and part,
-- so a step that is performed again writes the same row.
CREATE TABLE generations (
    id TEXT NOT NULL PRIMARY KEY,
    made_at BIGINT NOT NULL,
    run_id TEXT NOT NULL,
    path TEXT NOT NULL,
    part TEXT NOT NULL,
    pipeline TEXT NOT NULL,
    kind TEXT NOT NULL,
    topic TEXT,
    connection TEXT,
    model TEXT,
    -- The prompt's name, and the hash of its text.
    prompt TEXT,
    prompt_version TEXT,
    inputs TEXT NOT NULL,
    output TEXT NOT NULL,
    value TEXT NOT NULL,
    tokens TEXT NOT NULL,
    -- Decimal text; null is unknown, never zero.
    cost TEXT,
    unit TEXT,
    tags TEXT NOT NULL,
    -- How many terms its text has.
    terms BIGINT NOT NULL
);
-- Holds all that the whole collection's figures need.
CREATE INDEX generations_by_age ON generations (made_at, terms);
CREATE INDEX generations_by_topic ON generations (topic, made_at) WHERE topic IS NOT NULL;

-- The inverted index: how often a term is in a text, and how many terms the text has.
CREATE TABLE generation_terms (
    term TEXT NOT NULL,
    generation TEXT NOT NULL,
    times BIGINT NOT NULL,
    terms BIGINT NOT NULL,
    PRIMARY KEY (term, generation)
);
CREATE INDEX generation_terms_of ON generation_terms (generation);

-- `vector`: 32-bit floats, little-endian, in base64. Vectors of two models do not compare.
CREATE TABLE generation_vectors (
    generation TEXT NOT NULL PRIMARY KEY,
    model TEXT NOT NULL,
    vector TEXT NOT NULL
);
CREATE INDEX generation_vectors_by_model ON generation_vectors (model, generation);

-- What was learned from posts. `state`: `active` or `retired`. `weight` is what it was when it was last confirmed.
CREATE TABLE lessons (
    id TEXT NOT NULL PRIMARY KEY,
    learned_at BIGINT NOT NULL,
    content TEXT NOT NULL,
    labels TEXT NOT NULL,
    feature TEXT,
    direction TEXT,
    weight TEXT NOT NULL,
    evidence TEXT NOT NULL,
    generation TEXT,
    state TEXT NOT NULL,
    retired_at BIGINT,
    reason TEXT,
    confirmed_at BIGINT NOT NULL,
    -- The step run that confirmed it last: one that is performed again confirms once.
    confirmed_by TEXT NOT NULL
);
CREATE INDEX lessons_active ON lessons (confirmed_at) WHERE state = 'active';

-- The calendar, and what became of each post. `state`: `scheduled`, `publishing`, `published`, `canceled`, `failed`, `deleted`.
CREATE TABLE posts (
    id TEXT NOT NULL PRIMARY KEY,
    run_id TEXT NOT NULL,
    path TEXT NOT NULL,
    pipeline TEXT NOT NULL,
    connection TEXT NOT NULL,
    connector TEXT,
    post TEXT NOT NULL,
    labels TEXT NOT NULL,
    generations TEXT NOT NULL,
    state TEXT NOT NULL,
    made_at BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    -- When its pipeline wants it; a person may have moved it since.
    wanted_at BIGINT NOT NULL,
    published_at BIGINT,
    remote_id TEXT,
    ids TEXT NOT NULL,
    url TEXT,
    error TEXT,
    -- What its run asks while it sleeps over it.
    ask TEXT,
    -- Grows with every change, so that nobody changes what he has not seen.
    revision BIGINT NOT NULL
);
CREATE INDEX posts_by_due ON posts (due_at);
CREATE INDEX posts_asked ON posts (ask) WHERE ask IS NOT NULL;
CREATE INDEX posts_by_remote ON posts (connection, remote_id) WHERE remote_id IS NOT NULL;
CREATE INDEX posts_published ON posts (published_at) WHERE published_at IS NOT NULL;

-- Measurements over time. What a platform does not say is null.
CREATE TABLE post_metrics (
    post TEXT NOT NULL,
    measured_at BIGINT NOT NULL,
    -- How old the post was.
    age BIGINT NOT NULL,
    impressions BIGINT,
    reach BIGINT,
    likes BIGINT,
    comments BIGINT,
    shares BIGINT,
    clicks BIGINT,
    saves BIGINT,
    video_views BIGINT,
    raw TEXT NOT NULL,
    PRIMARY KEY (post, measured_at)
);
