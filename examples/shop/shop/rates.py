"""`python -m shop.rates`: today's currency rates, as a service of its own that the shop may be told to ask.

`GET /rates` answers {"EUR": 10000, "USD": 10850, ...}, per 10,000 EUR. Settings as the shop's.
"""

import os
import sys

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from shop.currency import RATES
from shop.serving import serve
from shop.telemetry import start_telemetry


def create_app() -> Starlette:
    return Starlette(routes=[Route("/health", health), Route("/rates", rates)])


async def health(_: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


async def rates(_: Request) -> JSONResponse:
    return JSONResponse(RATES)


if __name__ == "__main__":
    sys.exit(serve(create_app(), start_telemetry(os.environ, "rates"), int(os.environ.get("PORT", "8001"))))
