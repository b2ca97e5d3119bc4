from shop.cart import parse_cart
from shop.orders import Orders
from shop.pricing import price_cart

CART = parse_cart({"lines": [{"product": "scale", "quantity": 1}], "customer": {"id": "c-17", "tier": "standard"}})


def test_oldest_order_makes_room_for_a_new_one() -> None:
    orders = Orders(most=2)
    first, second, third = (orders.place(CART, price_cart(CART)) for _ in range(3))
    assert orders.find(first.id) is None
    assert orders.find(second.id) == second
    assert orders.find(third.id) == third
