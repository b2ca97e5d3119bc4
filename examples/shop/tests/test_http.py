from typing import Any

from starlette.testclient import TestClient


def test_shop_says_that_it_is_healthy(shop: TestClient) -> None:
    assert shop.get("/health").json() == {"status": "ok"}


def test_catalogue_can_be_listed_and_looked_up(shop: TestClient) -> None:
    listed = shop.get("/products").json()["products"]
    assert shop.get(f"/products/{listed[0]['id']}").json() == listed[0]


def test_unknown_product_is_not_found(shop: TestClient) -> None:
    answer = shop.get("/products/sofa")
    assert answer.status_code == 404
    assert answer.json() == {"error": {"message": "no such product"}}


def test_cart_is_priced(shop: TestClient, cart: dict[str, Any]) -> None:
    answer = shop.post("/cart/price", json=cart)
    assert answer.status_code == 200
    assert answer.json()["subtotal"] == 6680


def test_placed_order_can_be_read_back(shop: TestClient, cart: dict[str, Any]) -> None:
    placed = shop.post("/orders", json=cart)
    assert placed.status_code == 201
    assert shop.get(f"/orders/{placed.json()['id']}").json() == placed.json()


def test_order_that_was_never_placed_is_not_found(shop: TestClient) -> None:
    assert shop.get("/orders/order-1").status_code == 404


def test_invalid_cart_is_refused_and_the_field_named(shop: TestClient, cart: dict[str, Any]) -> None:
    answer = shop.post("/cart/price", json=cart | {"currency": "XAU"})
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == "currency"


def test_body_that_is_no_json_is_refused(shop: TestClient) -> None:
    assert shop.post("/cart/price", content=b"{").json()["error"] == {"field": "body", "message": "must be JSON"}


def test_body_that_is_too_large_is_refused(shop: TestClient) -> None:
    assert shop.post("/orders", content=b" " * 70_000).status_code == 400
