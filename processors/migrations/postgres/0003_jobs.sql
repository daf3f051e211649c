-- One row for each job of any kind: what was asked and what became of it. What the
-- notifier does not have yet stands in the outbox.
CREATE TABLE jobs (
    id             TEXT    PRIMARY KEY,     -- UUIDv7, on all events of the job
    kind           TEXT    NOT NULL,        -- `image`, …
    resource_id    TEXT    NOT NULL UNIQUE, -- UUIDv7 of the document, report, …
    user_id        TEXT    NOT NULL,
    status         TEXT    NOT NULL CHECK (status IN ('pending', 'completed', 'failed')),
    attempts       BIGINT  NOT NULL DEFAULT 0, -- how often it was begun
    input          TEXT    NOT NULL,        -- what was asked: JSON of the kind
    output         TEXT,                    -- what was made: JSON of the kind, once completed
    error_code     TEXT,                    -- stable, once failed
    error          TEXT,                    -- for people, once failed
    created_at_ms  BIGINT  NOT NULL,
    finished_at_ms BIGINT
);

CREATE INDEX jobs_of_user ON jobs (user_id, kind, resource_id DESC);
CREATE INDEX jobs_to_finish ON jobs (id) WHERE status = 'pending';
