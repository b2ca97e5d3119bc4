"""A process that appends to a log as fast as it is let, and says on its standard output what has been acknowledged.

Arguments: the file, this writer's name, concurrent writers, entries each. It says "ready", waits for a line on its
standard input, and then says one line per acknowledged entry: index, stream, version.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime

from controller.domain import events as e
from controller.domain.entry import Caller, Draft
from controller.domain.ids import Digest, MicroUsd, StreamId
from controller.ledger.sqlite import SqliteLog
from controller.ports import Receipt

NOBODY = Digest("sha256:" + "0" * 64)


class WallClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def write(log: SqliteLog, stream: StreamId, entries: int) -> None:
    by = Caller("service:controller", NOBODY)
    row = await log.stream(stream)
    begun = row.version if row else 0
    for version in range(begun, begun + entries):
        event = e.ModelCallReserved(turn=version, micro_usd=MicroUsd(1), request_digest=NOBODY)
        outcome = await log.append([Draft(stream, event)], expect={stream: version}, by=by)
        if not isinstance(outcome, Receipt):
            sys.exit(f"{stream} has one writer only, and yet: {outcome.reason}")
        sys.stdout.write(f"{outcome.index} {stream} {version + 1}\n")
        sys.stdout.flush()


async def main(path: str, name: str, writers: str, entries: str) -> None:
    log = SqliteLog(path, WallClock())
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    streams = [StreamId(f"session/{name}-{number}/1") for number in range(int(writers))]
    await asyncio.gather(*[write(log, stream, int(entries)) for stream in streams])
    log.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
