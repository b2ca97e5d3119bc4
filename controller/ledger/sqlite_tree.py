"""The tree of the log on SQLite, read only: whoever signs, proves or serves it needs nothing else of the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from controller.errors import Permanent
from controller.ledger import sql
from controller.ledger.database import explaining, open_reader
from controller.ledger.tile_rows import SqliteTree

__all__ = ["SqliteTree", "snapshot"]


@contextmanager
def snapshot(path: Path | str) -> Iterator[SqliteTree]:
    """The tree as it stands now. What is appended meanwhile is not seen, and nobody waits for anybody.

    Raises Unavailable when the file cannot be opened, and Permanent when it is no log or an older Flyball's.
    """
    with closing(open_reader(str(path))) as db, explaining(str(path)):
        (version,) = db.execute(sql.VERSION).fetchone()
        if version != sql.SCHEMA_VERSION:
            raise Permanent(
                f"the log at {path} has schema {version}, not {sql.SCHEMA_VERSION}",
                "Open it once with the newer Flyball of the two, e.g. by `flyball status`",
            )
        db.execute("BEGIN")
        yield SqliteTree(db)
