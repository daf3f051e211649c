-- Keys of files that have to go: of uploads that have no record yet, and of records
-- that were removed or failed.
CREATE TABLE file_removals (
    key       TEXT    PRIMARY KEY,
    due_at_ms BIGINT  NOT NULL      -- Unix milliseconds: removed for good by then
);

CREATE INDEX file_removals_due ON file_removals (due_at_ms);
