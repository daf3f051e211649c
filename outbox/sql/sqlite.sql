-- The outbox, for SQLite 3.37 and newer: events that the notifier does not have
-- yet. A service writes its own change and the event of it in ONE transaction; a
-- relay (`belfry relay`, or the processors' own) publishes the rows and removes
-- them. docs/guide/add-a-service.md shows it from several languages.
--
-- `request` is all that a service has to give:
--   INSERT INTO belfry_outbox (request) VALUES (?)
CREATE TABLE belfry_outbox (
    -- The order of events. Never used twice.
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    -- The idempotency key: 1 to 255 printable ASCII characters, one for each event
    -- for ever.
    id            TEXT    NOT NULL UNIQUE DEFAULT (lower(hex(randomblob(16)))),
    -- A belfry.v1.PublishRequest, encoded. Its own idempotency_key does not count.
    request       BLOB    NOT NULL,
    created_at_ms INTEGER NOT NULL
        DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),
    -- Set by the relay for what the notifier refuses for good: it is out of the way,
    -- and counted. To try it again: set both to NULL.
    parked_at_ms  INTEGER,
    parked_reason TEXT
) STRICT;

CREATE INDEX belfry_outbox_waiting ON belfry_outbox (seq) WHERE parked_at_ms IS NULL;
