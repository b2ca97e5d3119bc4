"""A cart as the storefront sends it, checked field by field.

    {"currency": "EUR", "lines": [{"product": "scale", "quantity": 1}], "customer": {"id": "c-17", "tier": "gold"}}

`currency` is EUR if left out. `customer` and its `tier` are optional.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shop.catalog import PRODUCTS, Product
from shop.currency import RATES

MOST_LINES = 50
MOST_OF_ONE_PRODUCT = 99
LONGEST_ID = 64


class FieldError(Exception):
    """The request names `field`, and `problem` says what is wrong with it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field
        self.problem = problem


@dataclass(frozen=True)
class Line:
    product: Product
    quantity: int


@dataclass(frozen=True)
class Cart:
    lines: tuple[Line, ...]
    currency: str
    customer: str | None
    tier: str | None


def parse_cart(body: Any) -> Cart:
    """The cart in a JSON body. Raises `FieldError`."""
    if not isinstance(body, dict):
        raise FieldError("body", "must be a JSON object")
    currency = body.get("currency", "EUR")
    if currency not in RATES:
        raise FieldError("currency", f"must be one of {', '.join(RATES)}")
    customer = body.get("customer", {})
    if not isinstance(customer, dict):
        raise FieldError("customer", "must be an object")
    return Cart(
        lines=_lines(body.get("lines")),
        currency=currency,
        customer=_short_text(customer, "id"),
        tier=_short_text(customer, "tier"),
    )


def _lines(raw: Any) -> tuple[Line, ...]:
    if not isinstance(raw, list) or not 1 <= len(raw) <= MOST_LINES:
        raise FieldError("lines", f"must be a list of 1 to {MOST_LINES} lines")
    return tuple(_line(line, f"lines[{position}]") for position, line in enumerate(raw))


def _line(raw: Any, field: str) -> Line:
    if not isinstance(raw, dict):
        raise FieldError(field, "must be an object")
    product = raw.get("product")
    if not isinstance(product, str) or product not in PRODUCTS:
        raise FieldError(f"{field}.product", "is not in the catalogue")
    quantity = raw.get("quantity")
    if type(quantity) is not int or not 1 <= quantity <= MOST_OF_ONE_PRODUCT:
        raise FieldError(f"{field}.quantity", f"must be a whole number from 1 to {MOST_OF_ONE_PRODUCT}")
    return Line(PRODUCTS[product], quantity)


def _short_text(customer: Mapping[str, Any], key: str) -> str | None:
    value = customer.get(key)
    if value is not None and not (isinstance(value, str) and 1 <= len(value) <= LONGEST_ID):
        raise FieldError(f"customer.{key}", f"must be a text of 1 to {LONGEST_ID} characters")
    return value
