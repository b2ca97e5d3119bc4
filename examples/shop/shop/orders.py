"""Orders, kept in memory. The oldest ones make room for new ones."""

from collections import OrderedDict
from dataclasses import dataclass

from shop.cart import Cart
from shop.pricing import Price

MOST_ORDERS = 10_000


@dataclass(frozen=True)
class Order:
    id: str
    cart: Cart
    price: Price


class Orders:
    def __init__(self, most: int = MOST_ORDERS) -> None:
        self._most = most
        self._placed = 0
        self._orders: OrderedDict[str, Order] = OrderedDict()

    def place(self, cart: Cart, price: Price) -> Order:
        self._placed += 1
        order = Order(f"order-{self._placed}", cart, price)
        self._orders[order.id] = order
        if len(self._orders) > self._most:
            self._orders.popitem(last=False)
        return order

    def find(self, order_id: str) -> Order | None:
        """None: never placed here, or long ago."""
        return self._orders.get(order_id)
