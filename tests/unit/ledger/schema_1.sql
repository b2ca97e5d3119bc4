-- The schema of the log as version 1 wrote it, kept as it was.
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS entries (
    idx INTEGER PRIMARY KEY,
    stream TEXT NOT NULL,
    version INTEGER NOT NULL,
    kind TEXT NOT NULL,
    leaf BLOB NOT NULL,
    UNIQUE (stream, version)
) STRICT;
CREATE TRIGGER IF NOT EXISTS entries_are_never_changed BEFORE UPDATE ON entries
    BEGIN SELECT RAISE(ABORT, 'entries are append-only: they are never changed'); END;
CREATE TRIGGER IF NOT EXISTS entries_are_never_removed BEFORE DELETE ON entries
    BEGIN SELECT RAISE(ABORT, 'entries are append-only: they are never removed'); END;
CREATE TABLE IF NOT EXISTS head (
    only INTEGER PRIMARY KEY CHECK (only = 0),
    size INTEGER NOT NULL,
    frontier BLOB NOT NULL,
    last_time TEXT NOT NULL
) STRICT;
INSERT OR IGNORE INTO head VALUES (0, 0, x'', '');
CREATE TABLE IF NOT EXISTS streams (
    stream TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    terminal INTEGER NOT NULL,
    wake_at TEXT NOT NULL,
    waits_on TEXT,
    waits_since INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS live_streams ON streams (stream) WHERE terminal = 0;
CREATE INDEX IF NOT EXISTS waiting_streams ON streams (waits_on, waits_since) WHERE waits_on IS NOT NULL;
CREATE TABLE IF NOT EXISTS effects (
    key TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    owner TEXT NOT NULL,
    fence INTEGER NOT NULL,
    deadline TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS counters (
    scope TEXT NOT NULL,
    window TEXT NOT NULL,
    reserved INTEGER NOT NULL,
    spent INTEGER NOT NULL,
    PRIMARY KEY (scope, window)
) STRICT;
CREATE TABLE IF NOT EXISTS control (
    scope TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    since INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS leases (
    fence INTEGER PRIMARY KEY AUTOINCREMENT,
    stream TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    until TEXT NOT NULL
) STRICT;
PRAGMA user_version = 1;
COMMIT;
