"""What a sandbox costs an instance's requests, and how long one takes to start. `python bench/sandboxes.py [requests]`.

The same small server on every rung that starts here: requests one after the other, each on a connection of its own
(the worst case: the proxy keeps connections), and all on one connection.
"""

from __future__ import annotations

import asyncio
import platform
import statistics
import sys
import tempfile
import time
from asyncio import StreamReader, StreamWriter
from datetime import UTC, datetime
from pathlib import Path

from controller.adapters.edge_processes import free_port
from controller.adapters.sandbox import Sandbox
from controller.adapters.sandbox_running import Running

STARTS = 20
SERVER = """
import asyncio, sys
ANSWER = b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\nok"
async def answer(reader, writer):
    while await reader.readline():
        while (await reader.readline()).strip():
            pass
        writer.write(ANSWER)
    writer.close()
async def main():
    async with await asyncio.start_server(answer, "127.0.0.1", int(sys.argv[1])) as server:
        await server.serve_forever()
asyncio.run(main())
"""


async def ask(reader: StreamReader, writer: StreamWriter) -> None:
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await reader.readexactly(len(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"))


async def connected(running: Running, port: int) -> tuple[StreamReader, StreamWriter]:
    while True:
        try:
            return await running.connect(port, 1 << 15)
        except OSError:
            await asyncio.sleep(0.01)


async def requests_us(running: Running, port: int, number: int, *, fresh: bool) -> list[float]:
    took = []
    reader, writer = await connected(running, port)
    for _ in range(number):
        began = time.perf_counter()
        if fresh:
            writer.close()
            reader, writer = await running.connect(port, 1 << 15)
        await ask(reader, writer)
        took.append((time.perf_counter() - began) * 1e6)
    writer.close()
    return took


def shown(took: list[float]) -> str:
    cuts = statistics.quantiles(took, n=100)
    return f"p50 {cuts[49]:.0f}, p99 {cuts[98]:.0f} us"


async def measure(box: Sandbox, tree: Path, number: int) -> None:
    port, starts = free_port(), []
    for _ in range(STARTS):
        began = time.perf_counter()
        await box.run(["true"], tree=tree)
        starts.append((time.perf_counter() - began) * 1e3)
    running = await box.start([sys.executable, "-c", SERVER, str(port)], tree=tree, on_output=lambda _: None)
    kept = await requests_us(running, port, number, fresh=False)
    fresh = await requests_us(running, port, number, fresh=True)
    await running.end()
    print(f"{box.rung:>11}: start to end p50 {statistics.median(starts):.0f} ms; ", end="")
    print(f"kept connection {shown(kept)}; a connection each {shown(fresh)}")


async def main(number: int) -> None:
    print(f"{datetime.now(UTC):%Y-%m-%d} python {platform.python_version()} {platform.machine()}, {number} requests")
    with tempfile.TemporaryDirectory() as folder:
        for box in await Sandbox.available():
            await measure(box, Path(folder), number)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3_000))
