from typing import Any

import pytest
from shop.cart import MOST_LINES, FieldError, parse_cart

LINE = {"product": "scale", "quantity": 1}


def test_currency_is_euro_unless_said_otherwise(cart: dict[str, Any]) -> None:
    del cart["currency"]
    assert parse_cart(cart).currency == "EUR"


def test_lines_keep_their_order(cart: dict[str, Any]) -> None:
    assert [line.product.id for line in parse_cart(cart).lines] == ["espresso-cup", "scale"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"currency": "XAU"}, "currency"),
        ({"lines": []}, "lines"),
        ({"lines": [LINE] * (MOST_LINES + 1)}, "lines"),
        ({"lines": [{"product": "sofa", "quantity": 1}]}, "lines[0].product"),
        ({"lines": [LINE, {"product": "scale", "quantity": 0}]}, "lines[1].quantity"),
        ({"lines": [{"product": "scale", "quantity": True}]}, "lines[0].quantity"),
        ({"lines": [{"product": "scale", "quantity": 1.5}]}, "lines[0].quantity"),
        ({"customer": "c-17"}, "customer"),
        ({"customer": {"id": "c-17", "tier": 3}}, "customer.tier"),
    ],
)
def test_error_names_the_field(cart: dict[str, Any], change: dict[str, Any], field: str) -> None:
    with pytest.raises(FieldError) as error:
        parse_cart(cart | change)
    assert error.value.field == field
