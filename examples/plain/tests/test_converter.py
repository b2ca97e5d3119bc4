import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from converter.answers import answer
from converter.temperature import TooColdError, fahrenheit


@pytest.mark.parametrize(("celsius", "expected"), [(0, 32), (21.5, 70.7), (100, 212), (-40, -40)])
def test_celsius_becomes_fahrenheit(celsius: float, expected: float) -> None:
    assert fahrenheit(celsius) == expected


def test_nothing_is_colder_than_absolute_zero() -> None:
    with pytest.raises(TooColdError):
        fahrenheit(-274)


def test_conversion_shows_both_scales() -> None:
    status, value = answer("/convert?celsius=21.5")
    assert status == 200
    assert value["celsius"] == 21.5
    assert value["fahrenheit"] == 70.7


@pytest.mark.parametrize("query", ["", "?celsius=warm", "?celsius=-300"])
def test_nonsense_is_the_askers_fault(query: str) -> None:
    assert answer(f"/convert{query}")[0] == 400


@pytest.fixture
def port() -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = int(probe.getsockname()[1])
    process = subprocess.Popen([sys.executable, "-m", "converter"], env={**os.environ, "PORT": str(free)})
    try:
        yield free
    finally:
        process.terminate()
        process.wait(10)


def test_service_answers_over_http(port: int) -> None:
    assert until_answered(port, "/health") == 200
    assert until_answered(port, "/convert?celsius=20") == 200
    assert until_answered(port, "/nowhere") == 404


def until_answered(port: int, target: str) -> int:
    deadline = time.monotonic() + 10
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", target)
            return connection.getresponse().status
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
        finally:
            connection.close()
