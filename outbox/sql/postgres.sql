-- The outbox, for PostgreSQL 13 and newer: events that the notifier does not have
-- yet. A service writes its own change and the event of it in ONE transaction; a
-- relay (`belfry relay`, or the processors' own) publishes the rows and removes
-- them. docs/guide/add-a-service.md shows it from several languages.
--
-- `request` is all that a service has to give:
--   INSERT INTO belfry_outbox (request) VALUES ($1)
CREATE TABLE belfry_outbox (
    -- The order of events: of two transactions, one of which began after the other
    -- had committed, the later one has the higher number.
    seq           BIGINT  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The idempotency key: 1 to 255 printable ASCII characters, one for each event
    -- for ever.
    id            TEXT    NOT NULL UNIQUE DEFAULT (gen_random_uuid()::text),
    -- A belfry.v1.PublishRequest, encoded. Its own idempotency_key does not count.
    request       BYTEA   NOT NULL,
    created_at_ms BIGINT  NOT NULL
        DEFAULT (floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint),
    -- Set by the relay for what the notifier refuses for good: it is out of the way,
    -- and counted. To try it again: set both to NULL.
    parked_at_ms  BIGINT,
    parked_reason TEXT
);

CREATE INDEX belfry_outbox_waiting ON belfry_outbox (seq) WHERE parked_at_ms IS NULL;
