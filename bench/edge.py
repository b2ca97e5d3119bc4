"""What the edge's proxy costs: CPU and added latency at 200 requests a second. `python bench/edge.py [rps] [seconds]`.

Three processes: an upstream that answers at once, the proxy before it, and this one, which sends an open-loop Poisson
load first straight to the upstream and then through the proxy, with half of the traces going to a canary (the same
upstream).
"""

from __future__ import annotations

import asyncio
import json
import platform
import signal
import sys
import tempfile
import time
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from controller.adapters.edge_http import LOOPBACK, loopback, read_head
from controller.adapters.edge_proxy import Proxy
from controller.adapters.edge_routes import Routes, arm_of
from controller.adapters.loadgen import LoadGenerator, LoadPlan, target_of
from controller.adapters.loadgen_traffic import Profile
from controller.adapters.otlp_counts import ServiceCounts

PROFILE = Profile.model_validate({"traffic": [{"name": "get", "method": "GET", "path": "/products", "weight": 1}]})
BODY = json.dumps({"products": [{"id": f"p-{number}", "price": number} for number in range(30)]}).encode()
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)


@dataclass(frozen=True)
class Fixed:
    name: str
    port: int
    serving: bool = True

    async def connect(self) -> tuple[StreamReader, StreamWriter]:
        return await loopback(self.port)()


async def answer(reader: StreamReader, writer: StreamWriter) -> None:
    while await read_head(reader) is not None:
        writer.write(ANSWER)
    writer.close()


async def upstream() -> None:
    server = await asyncio.start_server(answer, LOOPBACK, 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def proxy(port: int) -> None:
    """Says its port, and at SIGTERM the CPU seconds that it has used since."""
    one = Proxy(ServiceCounts(), "/health", lambda: time.time_ns() // 1_000_000)
    one.routes = Routes(arm_of("1" * 40, 1, [Fixed("old", port)]), arm_of("2" * 40, 2, [Fixed("new", port)]), 50)
    server = await one.listen(0)
    print(server.sockets[0].getsockname()[1], flush=True)
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    began = time.process_time()
    await ending.wait()
    print(time.process_time() - began, flush=True)


async def spawned(*words: str) -> tuple[asyncio.subprocess.Process, int]:
    process = await asyncio.create_subprocess_exec(sys.executable, __file__, *words, stdout=PIPE)
    assert process.stdout is not None
    return process, int(await process.stdout.readline())


async def load(port: int, rps: float, seconds: float) -> dict[str, object]:
    plan = LoadPlan(target_of(f"http://{LOOPBACK}:{port}"), PROFILE, rps, seconds, int(rps * seconds * 2), seed=7)
    generator = LoadGenerator(plan)
    with tempfile.TemporaryDirectory() as folder:
        await generator.run(Path(folder, "stats.json"))
    return generator.stats.snapshot()


async def main(rps: float, seconds: float) -> None:
    machine = f"python {platform.python_version()} {platform.machine()}"
    print(f"{datetime.now(UTC):%Y-%m-%d} {machine}, {rps:g} rps for {seconds:g} s")
    (up, up_port), shown = await spawned("upstream"), ("sent", "ok", "p50_ms", "p99_ms")
    (between, port) = await spawned("proxy", str(up_port))
    for name, where in (("straight", up_port), ("through the proxy", port)):
        seen = await load(where, rps, seconds)
        print(f"{name:>18}: " + ", ".join(f"{key} {seen[key]}" for key in shown))
    between.send_signal(signal.SIGTERM)
    assert between.stdout is not None
    spent = float(await between.stdout.readline())
    print(f"proxy CPU: {100 * spent / seconds:.1f} % of a core, {1e6 * spent / (rps * seconds):.0f} us a request")
    up.kill()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["upstream"]:
            asyncio.run(upstream())
        case ["proxy", wanted]:
            asyncio.run(proxy(int(wanted)))
        case words:
            asyncio.run(main(float(words[0]) if words else 200, float(words[1]) if len(words) > 1 else 10))
