-- One row for each job of any kind: what was asked and what became of it. What the
-- notifier does not have yet stands in the outbox.
CREATE TABLE jobs (
    id             TEXT    PRIMARY KEY,     -- UUIDv7, on all events of the job
    kind           TEXT    NOT NULL,        -- `image`, …
    resource_id    TEXT    NOT NULL UNIQUE, -- UUIDv7 of the document, report, …
    user_id        TEXT    NOT NULL,
    status         TEXT    NOT NULL CHECK (status IN ('pending', 'completed', 'failed')),
    attempts       INTEGER NOT NULL DEFAULT 0, -- how often it was begun
    input          TEXT    NOT NULL,        -- what was asked: JSON of the kind
    output         TEXT,                    -- what was made: JSON of the kind, once completed
    error_code     TEXT,                    -- stable, once failed
    error          TEXT,                    -- for people, once failed
    created_at_ms  INTEGER NOT NULL,
    finished_at_ms INTEGER
) STRICT;

CREATE INDEX jobs_of_user ON jobs (user_id, kind, resource_id DESC);
CREATE INDEX jobs_to_finish ON jobs (id) WHERE status = 'pending';

-- Documents of 0.1.0. One whose last event the notifier does not have is ended
-- anew: its event was not kept then.
INSERT INTO jobs (id, kind, resource_id, user_id, status, input, output, error_code, error,
                  created_at_ms, finished_at_ms)
SELECT job_id, 'image', id, user_id,
       CASE terminal_pending WHEN 1 THEN 'pending' ELSE status END,
       json_object('documentType', document_type),
       CASE WHEN status = 'completed' AND terminal_pending = 0
            THEN json_object('width', width, 'height', height, 'thumbnailKey', thumbnail_key) END,
       CASE terminal_pending WHEN 1 THEN NULL ELSE error_code END,
       CASE terminal_pending WHEN 1 THEN NULL ELSE error END,
       created_at_ms,
       CASE terminal_pending WHEN 1 THEN NULL ELSE finished_at_ms END
FROM documents;

DROP TABLE documents;
