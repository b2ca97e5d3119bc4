"""Every statement that the embedded log runs, by name.

Times are ISO 8601 in UTC with microseconds, so that text order is time order.

`entries` is the truth, `tiles` and `head` its tree; `streams`, `effects`, `counters` and `control` are the guards.
Tiles and guards can be rebuilt from the entries; `leases` belong to nobody's history. The triggers stop accidents, not
attackers: whoever may write the file may drop them, and `verify` finds what they did.
"""

from __future__ import annotations

SCHEMA_VERSION = 2  # also set by the two scripts below

SCHEMA = """
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
CREATE TABLE IF NOT EXISTS tiles (
    level INTEGER NOT NULL,
    number INTEGER NOT NULL,
    root BLOB NOT NULL,
    hashes BLOB NOT NULL,
    PRIMARY KEY (level, number)
) STRICT, WITHOUT ROWID;
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
PRAGMA user_version = 2;
COMMIT;
"""

# What version 1 did not have. The tiles themselves are derived from the entries in the same transaction.
MIGRATE_FROM_1 = (
    """
    CREATE TABLE tiles (
        level INTEGER NOT NULL,
        number INTEGER NOT NULL,
        root BLOB NOT NULL,
        hashes BLOB NOT NULL,
        PRIMARY KEY (level, number)
    ) STRICT, WITHOUT ROWID
    """,
    "PRAGMA user_version = 2",
)
VERSION = "PRAGMA user_version"

# --- entries and their tree -------------------------------------------------------------------------------------------

HEAD = "SELECT size, frontier, last_time FROM head"
MOVE_HEAD = "UPDATE head SET size = ?, frontier = ?, last_time = ?"
ADD_ENTRY = "INSERT INTO entries (idx, stream, version, kind, leaf) VALUES (?, ?, ?, ?, ?)"
STREAM_LEAVES = "SELECT idx, leaf FROM entries WHERE stream = ? AND version > ? ORDER BY version"
LEAVES = "SELECT idx, leaf FROM entries WHERE idx >= ? ORDER BY idx LIMIT ?"
LEAVES_OF_KINDS = (
    "SELECT idx, leaf FROM entries WHERE idx >= ? AND kind IN (SELECT value FROM json_each(?)) ORDER BY idx LIMIT ?"
)
ALL_ENTRIES = "SELECT idx, stream, version, kind, leaf FROM entries ORDER BY idx"
SIZE = "SELECT size FROM head"
LEAF = "SELECT leaf FROM entries WHERE idx = ?"
LEAVES_FROM_TO = "SELECT leaf FROM entries WHERE idx >= ? AND idx < ? ORDER BY idx"

# `root` stands before `hashes`, so that reading it alone does not touch the pages that the hashes spill to.
TILE = "SELECT hashes FROM tiles WHERE level = ? AND number = ?"
TILE_AND_ROOT = "SELECT hashes, root FROM tiles WHERE level = ? AND number = ?"
TILE_ROOTS = "SELECT root FROM tiles WHERE level = ? AND number >= ? AND number < ? ORDER BY number"
TILES = "SELECT level, number FROM tiles ORDER BY level, number"
TILES_STORED = "SELECT coalesce(max(number) + 1, 0) FROM tiles WHERE level = ?"
ADD_TILE = "INSERT OR REPLACE INTO tiles (level, number, root, hashes) VALUES (?, ?, ?, ?)"

# --- guards -----------------------------------------------------------------------------------------------------------

_STREAM = "SELECT stream, version, terminal, wake_at, waits_on, waits_since FROM streams"
STREAM = f"{_STREAM} WHERE stream = ?"
STREAMS = f"{_STREAM} ORDER BY stream"
LIVE = f"{_STREAM} WHERE terminal = 0 AND stream >= ? AND stream < ? ORDER BY stream"
WAITING_ON = f"{_STREAM} WHERE waits_on = ? AND terminal = 0 ORDER BY waits_since"
PUT_STREAM = "INSERT OR REPLACE INTO streams VALUES (?, ?, ?, ?, ?, ?)"

EFFECT = "SELECT key, state, owner, fence, deadline FROM effects WHERE key = ?"
EFFECTS = "SELECT key, state, owner, fence, deadline FROM effects ORDER BY key"
PUT_EFFECT = "INSERT OR REPLACE INTO effects VALUES (?, ?, ?, ?, ?)"

COUNTER = "SELECT reserved, spent FROM counters WHERE scope = ? AND window = ?"
COUNTERS = "SELECT scope, window, reserved, spent FROM counters ORDER BY scope, window"
ADD_TO_COUNTER = (
    "INSERT INTO counters VALUES (?, ?, ?, ?) ON CONFLICT (scope, window) "
    "DO UPDATE SET reserved = reserved + excluded.reserved, spent = spent + excluded.spent"
)

CONTROL_OF = "SELECT scope, state, reason, since FROM control WHERE scope = ?"
CONTROL_ALL = "SELECT scope, state, reason, since FROM control ORDER BY scope"
CONTROL_NOT_RUNNING = "SELECT scope, state, reason, since FROM control WHERE state <> 'running' ORDER BY scope"
PUT_CONTROL = "INSERT OR REPLACE INTO control VALUES (?, ?, ?, ?)"

# --- leases -----------------------------------------------------------------------------------------------------------

CLEAR_LEASE = "DELETE FROM leases WHERE stream = ? AND (owner = ? OR until <= ?)"
LEASE_OWNER = "SELECT owner FROM leases WHERE stream = ?"
TAKE_LEASE = (
    "INSERT INTO leases (stream, owner, until) VALUES (?, ?, ?) ON CONFLICT (stream) DO NOTHING RETURNING fence"
)
RENEW_LEASE = "UPDATE leases SET until = ? WHERE stream = ? AND fence = ? AND until > ?"
DROP_LEASE = "DELETE FROM leases WHERE stream = ? AND fence = ?"
