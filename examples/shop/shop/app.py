"""The HTTP side: JSON in, JSON out. An error names the field that caused it."""

import json
from dataclasses import asdict
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from shop.asking import NoAnswerError, Other
from shop.cart import FieldError, parse_cart
from shop.catalog import PRODUCTS
from shop.currency import learn
from shop.orders import Order, Orders
from shop.pricing import price_cart

LARGEST_BODY_BYTES = 64 * 1024


def create_app(rates: Other | None = None) -> Starlette:
    """`rates`: who knows today's currency rates. None: they are those in the source."""
    app = Starlette(
        routes=[
            Route("/health", health),
            Route("/products", products),
            Route("/products/{id}", product),
            Route("/cart/price", cart_price, methods=["POST"]),
            Route("/orders", place_order, methods=["POST"]),
            Route("/orders/{id}", order),
        ],
        exception_handlers={FieldError: invalid, HTTPException: refused, Exception: failed},
    )
    app.state.orders = Orders()
    app.state.rates = rates
    return app


async def health(_: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


async def products(_: Request) -> JSONResponse:
    return JSONResponse({"products": [asdict(product) for product in PRODUCTS.values()]})


async def product(request: Request) -> JSONResponse:
    found = PRODUCTS.get(request.path_params["id"])
    if found is None:
        raise HTTPException(404, "no such product")
    return JSONResponse(asdict(found))


async def cart_price(request: Request) -> JSONResponse:
    cart = parse_cart(await read_json(request))
    await learn_rates(request)
    return JSONResponse(asdict(price_cart(cart)))


async def place_order(request: Request) -> JSONResponse:
    cart = parse_cart(await read_json(request))
    await learn_rates(request)
    placed = request.app.state.orders.place(cart, price_cart(cart))
    return JSONResponse(order_json(placed), status_code=201)


async def order(request: Request) -> JSONResponse:
    found = request.app.state.orders.find(request.path_params["id"])
    if found is None:
        raise HTTPException(404, "no such order")
    return JSONResponse(order_json(found))


def order_json(placed: Order) -> dict[str, Any]:
    return {
        "id": placed.id,
        "lines": [{"product": line.product.id, "quantity": line.quantity} for line in placed.cart.lines],
        "price": asdict(placed.price),
    }


async def learn_rates(request: Request) -> None:
    """Of today, before a cart is priced. Without them nothing is sold: a wrong price is worse than none."""
    if request.app.state.rates is None:
        return
    try:
        learn(await request.app.state.rates.get("/rates"))
    except (NoAnswerError, ValueError) as error:
        raise HTTPException(502, "today's currency rates cannot be had, please try again") from error


async def read_json(request: Request) -> Any:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY_BYTES:
            raise FieldError("body", f"must be at most {LARGEST_BODY_BYTES} bytes")
    try:
        return json.loads(body)
    except ValueError as error:
        raise FieldError("body", "must be JSON") from error


async def invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, FieldError)
    return JSONResponse({"error": {"field": error.field, "message": error.problem}}, status_code=400)


async def refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": {"message": error.detail}}, status_code=error.status_code, headers=error.headers)


async def failed(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse({"error": {"message": "the shop failed, please try again"}}, status_code=500)
