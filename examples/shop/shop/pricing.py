"""What a cart costs: the lines, then shipping. Everything is computed in euro cents and converted at the end."""

from dataclasses import dataclass

from shop.cart import Cart
from shop.currency import convert

SHIPPING_CENTS = 490
FREE_SHIPPING_FROM_CENTS = 5_000


@dataclass(frozen=True)
class Price:
    """Amounts in minor units of `currency`."""

    currency: str
    subtotal: int
    shipping: int
    total: int


def price_cart(cart: Cart) -> Price:
    subtotal = sum(line.product.price_cents * line.quantity for line in cart.lines)
    shipping = shipping_cents(subtotal)
    total = subtotal + shipping
    return Price(
        currency=cart.currency,
        subtotal=convert(subtotal, cart.currency),
        shipping=convert(shipping, cart.currency),
        total=convert(total, cart.currency),
    )


def shipping_cents(subtotal_cents: int) -> int:
    return 0 if subtotal_cents >= FREE_SHIPPING_FROM_CENTS else SHIPPING_CENTS
