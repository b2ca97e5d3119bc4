import pytest
from shop.cart import Cart, Line
from shop.catalog import PRODUCTS
from shop.currency import convert
from shop.pricing import FREE_SHIPPING_FROM_CENTS, price_cart, shipping_cents


def cart_of(*lines: tuple[str, int], currency: str = "EUR", tier: str = "standard") -> Cart:
    return Cart(tuple(Line(PRODUCTS[product], quantity) for product, quantity in lines), currency, "c-17", tier)


def test_lines_add_up_by_quantity() -> None:
    assert price_cart(cart_of(("filters", 3), ("beans-250", 1))).subtotal == 3 * 550 + 950


def test_small_cart_pays_shipping() -> None:
    price = price_cart(cart_of(("scale", 1)))
    assert (price.subtotal, price.shipping, price.total) == (4900, 490, 5390)


def test_shipping_is_free_from_fifty_euros_on() -> None:
    assert shipping_cents(FREE_SHIPPING_FROM_CENTS - 1) == 490
    assert shipping_cents(FREE_SHIPPING_FROM_CENTS) == 0


@pytest.mark.parametrize(("currency", "total"), [("EUR", 5390), ("USD", 5848), ("GBP", 4614), ("CHF", 5077)])
def test_total_is_given_in_the_currency_of_the_cart(currency: str, total: int) -> None:
    assert price_cart(cart_of(("scale", 1), currency=currency)).total == total


def test_conversion_rounds_halves_up() -> None:
    assert convert(10, "USD") == 11
    assert convert(0, "CHF") == 0
