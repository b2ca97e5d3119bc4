from collections.abc import Iterator
from typing import Any

import pytest
from shop.app import create_app
from starlette.testclient import TestClient


@pytest.fixture
def shop() -> Iterator[TestClient]:
    with TestClient(create_app(), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def cart() -> dict[str, Any]:
    """Two cups and a scale, 66.80 EUR, for a member."""
    return {
        "currency": "EUR",
        "lines": [{"product": "espresso-cup", "quantity": 2}, {"product": "scale", "quantity": 1}],
        "customer": {"id": "c-17", "tier": "standard"},
    }
