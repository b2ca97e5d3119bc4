"""Serve until SIGTERM, answer what is in flight, hand over the telemetry."""

import signal
import sys

import uvicorn
from starlette.types import ASGIApp

from shop.telemetry import Instrumented, Telemetry

ANSWER_IN_FLIGHT_S = 1
MOST_CONNECTIONS = 512


def serve(app: ASGIApp, telemetry: Telemetry, port: int) -> int:
    """The exit code: 1 when it never served."""
    config = uvicorn.Config(
        Instrumented(app, telemetry),
        host="127.0.0.1",
        port=port,
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="off",
        access_log=False,
        log_level="warning",
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=ANSWER_IN_FLIGHT_S,
    )
    server = uvicorn.Server(config)

    def leave(*_: object) -> None:
        """uvicorn handles signals itself while it serves, and raises them again after; then nothing is left to do."""
        if not server.started:
            sys.exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    server.run()
    telemetry.close()
    return 0 if server.started else 1
