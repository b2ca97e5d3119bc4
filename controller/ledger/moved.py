"""Whether a log has left its file: the seal of a move, which refuses every append and names the new place."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from controller.ledger.database import explaining

SEALED = "this log has moved to "
SEAL = "CREATE TRIGGER moved BEFORE INSERT ON entries BEGIN SELECT RAISE(ABORT, '{}'); END"
UNSEAL = "DROP TRIGGER IF EXISTS moved"
THE_SEAL = "SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name = 'moved'"


def moved_to(path: Path | str) -> str | None:
    """Where the log in this file has gone: "DATABASE on HOST". None: it is still here."""
    with closing(sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)) as db, explaining(str(path)):
        return seal_of(db)


def seal_of(file: sqlite3.Connection) -> str | None:
    """None: there is no seal."""
    found = file.execute(THE_SEAL).fetchone()
    if found is None:
        return None
    text: str = found[0]
    return text.partition(SEALED)[2].rpartition("')")[0].replace("''", "'")
