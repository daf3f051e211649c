-- One row for each document: what was asked, what became of it, and which of its
-- events the notifier does not have yet.
CREATE TABLE documents (
    id                TEXT    PRIMARY KEY, -- UUIDv7
    job_id            TEXT    NOT NULL,
    user_id           TEXT    NOT NULL,
    document_type     TEXT    NOT NULL,
    status            TEXT    NOT NULL CHECK (status IN ('pending', 'completed', 'failed')),
    original_stored   INTEGER NOT NULL,
    created_at_ms     INTEGER NOT NULL,
    finished_at_ms    INTEGER,
    urls_expire_at_s  INTEGER,
    thumbnail_key     TEXT,
    width             INTEGER,
    height            INTEGER,
    error_code        TEXT,
    error             TEXT,
    started_pending   INTEGER NOT NULL DEFAULT 1,
    terminal_pending  INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX documents_of_user ON documents (user_id, id DESC);
CREATE INDEX documents_to_announce ON documents (id) WHERE started_pending = 1 OR terminal_pending = 1;
CREATE INDEX documents_to_finish ON documents (id) WHERE status = 'pending';
