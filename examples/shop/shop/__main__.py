"""`python -m shop`: serve until SIGTERM, answer what is in flight, hand over the telemetry, exit 0."""

import os
import sys
from collections.abc import Mapping

from shop.app import create_app
from shop.asking import Other
from shop.faults import FAULTS, Switchboard, leak, wire
from shop.serving import serve
from shop.telemetry import start_telemetry


def main(env: Mapping[str, str]) -> int:
    switches = Switchboard(FAULTS, env)
    at_start = switches.at_start()
    if "crash-on-start" in at_start:
        raise SystemExit("crash-on-start is switched on")
    if "leak" in at_start:
        leak()
    telemetry = start_telemetry({} if "silent" in at_start else env)
    rates = Other(env["SHOP_RATES_URL"], telemetry.tracer) if env.get("SHOP_RATES_URL") else None
    return serve(wire(create_app(rates), switches), telemetry, int(env.get("PORT", "8000")))


if __name__ == "__main__":
    sys.exit(main(os.environ))
