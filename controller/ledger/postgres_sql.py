"""Every statement that the log runs on Postgres, by name, and how its schema came about.

One database holds one log, in a schema of its own. `entries` is the truth and `head` its tree; `tiles`, `streams`,
`effects`, `counters` and `control` are derived and can be rebuilt from it; `leases` belong to nobody's history.

An index comes from `head`, under its row lock, and never from a sequence: a sequence leaves a gap for every transaction
that is rolled back. The triggers stop accidents. What stops an operator's application is that it does not own the
tables: the appender's role may add entries and read them, and no more (`GRANTS`). The owner can do anything to the
tables, and is found out by whoever kept an earlier root.
"""

from __future__ import annotations

from dataclasses import dataclass

SCHEMA = "flyball"
MIGRATION_LOCK = 0x666C7962616C6C  # "flyball": the advisory lock that migrations of this database run under
NEWS = "flyball_log"  # the channel on which a commit tells the size of the log; a hint, and nothing rests on it

# --- schema -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Migration:
    number: int
    name: str
    script: str


_FIRST = """
CREATE TABLE entries (
    idx bigint PRIMARY KEY,
    stream text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    kind text COLLATE "C" NOT NULL,
    leaf bytea NOT NULL,
    UNIQUE (stream, version)
);
CREATE TABLE head (
    singleton smallint PRIMARY KEY CHECK (singleton = 0),
    size bigint NOT NULL,
    frontier bytea NOT NULL,
    last_time timestamptz
) WITH (fillfactor = 10);
INSERT INTO head VALUES (0, 0, '', NULL);
CREATE TABLE streams (
    stream text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL,
    terminal boolean NOT NULL,
    wake_at timestamptz NOT NULL,
    waits_on text COLLATE "C",
    waits_since bigint NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX live_streams ON streams (stream) WHERE NOT terminal;
CREATE INDEX waiting_streams ON streams (waits_on, waits_since) WHERE waits_on IS NOT NULL;
CREATE TABLE effects (
    key text COLLATE "C" PRIMARY KEY,
    state text NOT NULL,
    owner text NOT NULL,
    fence bigint NOT NULL,
    deadline timestamptz NOT NULL
) WITH (fillfactor = 70);
CREATE TABLE counters (
    scope text COLLATE "C" NOT NULL,
    "window" text COLLATE "C" NOT NULL,
    reserved bigint NOT NULL,
    spent bigint NOT NULL,
    PRIMARY KEY (scope, "window")
) WITH (fillfactor = 70);
CREATE TABLE control (
    scope text COLLATE "C" PRIMARY KEY,
    state text NOT NULL,
    reason text NOT NULL,
    since bigint NOT NULL
);
CREATE TABLE leases (
    fence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream text COLLATE "C" NOT NULL UNIQUE,
    owner text NOT NULL,
    until timestamptz NOT NULL
) WITH (fillfactor = 70);
CREATE FUNCTION entries_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'entries are append-only: they are never changed or removed' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER entries_are_never_changed BEFORE UPDATE OR DELETE ON entries
    FOR EACH ROW EXECUTE FUNCTION entries_are_append_only();
CREATE TRIGGER entries_are_never_emptied BEFORE TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION entries_are_append_only();
CREATE FUNCTION head_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.size <= OLD.size THEN
        RAISE EXCEPTION 'the log only grows: from % entries to %', OLD.size, NEW.size
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER head_never_goes_back BEFORE UPDATE ON head FOR EACH ROW EXECUTE FUNCTION head_only_grows();
"""

_TILES = """
CREATE TABLE tiles (
    level smallint NOT NULL,
    number bigint NOT NULL,
    hashes bytea NOT NULL CHECK (octet_length(hashes) = 8192),
    root bytea NOT NULL CHECK (octet_length(root) = 32),
    PRIMARY KEY (level, number)
);
ALTER TABLE tiles ALTER hashes SET STORAGE EXTERNAL;
"""

MIGRATIONS = (
    Migration(1, "entries, head, guards, leases", _FIRST),
    Migration(2, "tiles, filled from the entries", _TILES),
)
TILES_SINCE = 2
SCHEMA_VERSION = MIGRATIONS[-1].number

# Asked of the catalogue's tables: to_regclass may answer from a cache that has not heard of what another has created.
HAS_SCHEMA = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'flyball')"
HAS_LOG = "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'flyball' AND tablename = 'migrations')"
LOCK_MIGRATIONS = "SELECT pg_advisory_xact_lock(%s)"
TAKE_TIME = (
    "SET LOCAL lock_timeout = '10min'; SET LOCAL statement_timeout = 0; "
    "SET LOCAL idle_in_transaction_session_timeout = 0"
)
CREATE_SCHEMA = "CREATE SCHEMA flyball"  # IF NOT EXISTS would ask for the privilege even where it exists
BEGIN_MIGRATIONS = """
CREATE TABLE IF NOT EXISTS flyball.migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
"""
MIGRATED = "SELECT coalesce(max(number), 0) FROM migrations"
NOTE_MIGRATION = "INSERT INTO migrations (number, name) VALUES (%s, %s)"
MAY_MIGRATE = (
    "SELECT coalesce((SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'flyball'), "
    "has_database_privilege(current_database(), 'CREATE'))"
)

# What the appender's role may do. {role} is quoted by whoever runs it. Nothing here lets it change or remove an entry,
# a tile or a migration; what it may update is derived, and checked against the entries by `flyball log verify`.
GRANTS = """
REVOKE ALL ON ALL TABLES IN SCHEMA flyball FROM PUBLIC, {role};
GRANT USAGE ON SCHEMA flyball TO {role};
GRANT SELECT ON flyball.migrations TO {role};
GRANT SELECT, INSERT ON flyball.entries, flyball.tiles TO {role};
GRANT SELECT, UPDATE ON flyball.head TO {role};
GRANT SELECT, INSERT, UPDATE ON flyball.streams, flyball.effects, flyball.counters, flyball.control TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON flyball.leases TO {role};
"""

# --- a connection -----------------------------------------------------------------------------------------------------

# A lock is held for milliseconds. Whoever holds one and does nothing (a stopped process) loses it after seconds.
PREPARE_SESSION = """
SET search_path = flyball, pg_catalog;
SET TIME ZONE 'UTC';
SET lock_timeout = '5s';
SET statement_timeout = '60s';
SET idle_in_transaction_session_timeout = '10s';
"""
# `remote_apply` promises more than `on`; everything else promises less than "acknowledged is durable".
WAIT_FOR_DISK = (
    "SELECT set_config('synchronous_commit', "
    "CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)"
)
DO_NOT_WAIT_FOR_DISK = "SET synchronous_commit = off"
READ_ONLY = "SET default_transaction_read_only = on"
SERVER = (
    "SELECT current_setting('fsync'), current_setting('full_page_writes'), "
    "getdatabaseencoding(), current_setting('server_version_num')::int"
)
BEGIN = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"  # each statement sees what was committed before it, lock or not
)
BEGIN_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
COMMIT = "COMMIT"
ROLLBACK = "ROLLBACK"

# --- entries and their tree -------------------------------------------------------------------------------------------

LOCK_HEAD = "SELECT size, frontier, last_time, pg_current_xact_id()::text FROM head FOR UPDATE"
BEGIN_AND_LOCK_HEAD = f"{BEGIN}; {LOCK_HEAD}"
HEAD = "SELECT size, frontier, last_time FROM head"
MOVE_HEAD = "UPDATE head SET size = %s, frontier = %s, last_time = %s"
TELL_NEWS = "SELECT pg_notify(%s, %s)"
LISTEN = f"LISTEN {NEWS}"
BECAME_OF = "SELECT pg_xact_status(%s::xid8)"
ADD_ENTRIES = (
    "INSERT INTO entries (idx, stream, version, kind, leaf) "
    "SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::text[], %s::bytea[])"
)
COPY_ENTRIES = "COPY entries (idx, stream, version, kind, leaf) FROM STDIN (FORMAT BINARY)"
COPIED_TYPES = ("int8", "text", "int8", "text", "bytea")
STREAM_LEAVES = "SELECT idx, leaf FROM entries WHERE stream = %s AND version > %s ORDER BY version"
LEAVES = "SELECT idx, leaf FROM entries WHERE idx >= %s ORDER BY idx LIMIT %s"
LEAVES_OF_KINDS = "SELECT idx, leaf FROM entries WHERE idx >= %s AND kind = ANY(%s::text[]) ORDER BY idx LIMIT %s"
LEAF = "SELECT leaf FROM entries WHERE idx = %s"
LEAVES_BETWEEN = "SELECT leaf FROM entries WHERE idx >= %s AND idx < %s ORDER BY idx"
ALL_ENTRIES = "SELECT idx, stream, version, kind, leaf FROM entries ORDER BY idx"
ADD_TILES = (
    "INSERT INTO tiles (level, number, hashes, root) "
    "SELECT * FROM unnest(%s::smallint[], %s::bigint[], %s::bytea[], %s::bytea[])"
)
TILE = "SELECT hashes FROM tiles WHERE level = %s AND number = %s"
TILE_ROOTS = "SELECT root FROM tiles WHERE level = %s AND number >= %s AND number < %s ORDER BY number"
TILE_AND_ROOT = "SELECT hashes, root FROM tiles WHERE level = %s AND number = %s"
TILE_NUMBERS = "SELECT level, number FROM tiles ORDER BY level, number"
IS_EMPTY = "SELECT size = 0 AND NOT EXISTS (SELECT FROM entries) FROM head"

# --- guards -----------------------------------------------------------------------------------------------------------

_STREAM = "SELECT stream, version, terminal, wake_at, waits_on, waits_since FROM streams"
STREAM = f"{_STREAM} WHERE stream = %s"
STREAMS = f"{_STREAM} ORDER BY stream"
STREAMS_NAMED = f"{_STREAM} WHERE stream = ANY(%s::text[])"
LIVE = f"{_STREAM} WHERE NOT terminal AND starts_with(stream, %s) ORDER BY stream"
WAITING_ON = f"{_STREAM} WHERE waits_on = %s AND NOT terminal ORDER BY waits_since"
PUT_STREAMS = (
    "INSERT INTO streams (stream, version, terminal, wake_at, waits_on, waits_since) SELECT * FROM "
    "unnest(%s::text[], %s::bigint[], %s::boolean[], %s::timestamptz[], %s::text[], %s::bigint[]) "
    "ON CONFLICT (stream) DO UPDATE SET version = excluded.version, terminal = excluded.terminal, "
    "wake_at = excluded.wake_at, waits_on = excluded.waits_on, waits_since = excluded.waits_since"
)

_EFFECT = "SELECT key, state, owner, fence, deadline FROM effects"
EFFECTS = f"{_EFFECT} ORDER BY key"
OPEN_EFFECTS = f"{_EFFECT} WHERE state = 'open' ORDER BY key"
EFFECTS_NAMED = f"{_EFFECT} WHERE key = ANY(%s::text[])"
PUT_EFFECTS = (
    "INSERT INTO effects (key, state, owner, fence, deadline) SELECT * FROM "
    "unnest(%s::text[], %s::text[], %s::text[], %s::bigint[], %s::timestamptz[]) "
    "ON CONFLICT (key) DO UPDATE SET state = excluded.state, owner = excluded.owner, "
    "fence = excluded.fence, deadline = excluded.deadline"
)

COUNTER = 'SELECT reserved, spent FROM counters WHERE scope = %s AND "window" = %s'
COUNTERS = 'SELECT scope, "window", reserved, spent FROM counters ORDER BY scope, "window"'
COUNTERS_NAMED = (
    'SELECT scope, "window", reserved, spent FROM counters '
    'WHERE (scope, "window") IN (SELECT * FROM unnest(%s::text[], %s::text[]))'
)
ADD_TO_COUNTERS = (
    'INSERT INTO counters (scope, "window", reserved, spent) SELECT * FROM '
    "unnest(%s::text[], %s::text[], %s::bigint[], %s::bigint[]) "
    'ON CONFLICT (scope, "window") DO UPDATE SET '
    "reserved = counters.reserved + excluded.reserved, spent = counters.spent + excluded.spent"
)

_CONTROL = "SELECT scope, state, reason, since FROM control"
CONTROL_NAMED = f"{_CONTROL} WHERE scope = ANY(%s::text[])"
CONTROL_ALL = f"{_CONTROL} ORDER BY scope"
CONTROL_NOT_RUNNING = f"{_CONTROL} WHERE state <> 'running' ORDER BY scope"
PUT_CONTROL = (
    "INSERT INTO control (scope, state, reason, since) SELECT * FROM "
    "unnest(%s::text[], %s::text[], %s::text[], %s::bigint[]) "
    "ON CONFLICT (scope) DO UPDATE SET state = excluded.state, reason = excluded.reason, since = excluded.since"
)

# --- leases -----------------------------------------------------------------------------------------------------------

LOCK_LEASE = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
CLEAR_LEASE = "DELETE FROM leases WHERE stream = %s AND (owner = %s OR until <= %s)"
LEASE_OWNER = "SELECT owner FROM leases WHERE stream = %s"
TAKE_LEASE = (
    "INSERT INTO leases (stream, owner, until) VALUES (%s, %s, %s) ON CONFLICT (stream) DO NOTHING RETURNING fence"
)
RENEW_LEASE = "UPDATE leases SET until = %s WHERE stream = %s AND fence = %s AND until > %s"
DROP_LEASE = "DELETE FROM leases WHERE stream = %s AND fence = %s"
GIVE_FENCES_ABOVE = "SELECT setval(pg_get_serial_sequence('flyball.leases', 'fence'), %s)"
