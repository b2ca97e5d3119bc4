"""`python -m shop`: serve until SIGTERM, answer what is in flight, hand over the telemetry, exit 0."""

import os
import signal
import sys

import uvicorn

from shop.app import create_app
from shop.telemetry import Instrumented, start_telemetry

ANSWER_IN_FLIGHT_S = 1
MOST_CONNECTIONS = 512


def main() -> int:
    telemetry = start_telemetry(os.environ)
    config = uvicorn.Config(
        Instrumented(create_app(), telemetry),
        host="127.0.0.1",
        port=int(os.environ.get("PORT", "8000")),
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


if __name__ == "__main__":
    sys.exit(main())
