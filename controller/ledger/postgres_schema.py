"""How a database becomes a log, and an older log a newer one.

Migrations are numbered, run once each, and are written down in the database that they changed. They run under an
advisory lock, all in one transaction: of two controllers that start at once, one migrates and the other finds it done.
Whoever opens a log with a role that may not change the schema only looks whether it is the right one.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any, LiteralString

from psycopg import Connection
from psycopg import sql as quoting

from controller.errors import ConfigError, Permanent
from controller.ledger import postgres_sql as sql
from controller.ledger.postgres_db import connected, explaining, named
from controller.ledger.postgres_tree import fill_tiles

Db = Connection[Any]


def migrate(dsn: str, *, grant: str | None = None, to: int = sql.SCHEMA_VERSION) -> int:
    """Bring the schema to `to` as its owner, and let the role `grant` append (None: nobody else). The version it had.

    A second call changes nothing. The role must exist.

    Raises ConfigError when this connection's role may not, and Permanent when the schema is newer than this Flyball.
    """
    name = named(dsn)
    with closing(connected(dsn, name)) as db, explaining(name):
        before = brought_up_to_date(db, name, to)
        if grant is not None:
            db.execute(quoting.SQL(sql.GRANTS).format(role=quoting.Identifier(grant)))
    return before


def brought_up_to_date(db: Db, name: str, to: int = sql.SCHEMA_VERSION) -> int:
    """The version that it had."""
    found = version_of(db)
    if found > sql.SCHEMA_VERSION:
        raise Permanent(
            f"the log at {name} has schema {found}, this Flyball knows {sql.SCHEMA_VERSION}", "Run a newer Flyball"
        )
    if found < to:
        _demand_owner(db, name, found)
        with db.transaction():
            _migrate(db, to)
    return found


def version_of(db: Db) -> int:
    """0: there is no log in this database."""
    return int(_one(db, sql.MIGRATED)) if _one(db, sql.HAS_LOG) else 0


def _demand_owner(db: Db, name: str, found: int) -> None:
    if not _one(db, sql.MAY_MIGRATE):
        what = (
            f"the log at {name} has schema {found}, this Flyball needs {sql.SCHEMA_VERSION}, and this role is no owner"
        )
        raise ConfigError(what, "Let the owner run `flyball log migrate --grant ROLE`")


def _migrate(db: Db, to: int) -> None:
    db.execute(sql.TAKE_TIME)
    db.execute(sql.LOCK_MIGRATIONS, [sql.MIGRATION_LOCK])
    if not _one(db, sql.HAS_SCHEMA):
        db.execute(sql.CREATE_SCHEMA)
    db.execute(sql.BEGIN_MIGRATIONS)
    done = version_of(db)  # another may have been first while this one waited
    for migration in sql.MIGRATIONS:
        if done < migration.number <= to:
            db.execute(migration.script)
            if migration.number == sql.TILES_SINCE:
                fill_tiles(db)
            db.execute(sql.NOTE_MIGRATION, [migration.number, migration.name])


def _one(db: Db, question: LiteralString) -> Any:
    """The one value that answers it."""
    (value,) = db.execute(question).fetchone() or (None,)
    return value
