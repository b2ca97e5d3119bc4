"""What becomes of every answer that a Prometheus server, or what stands in its place, may give: scripted answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Self

import pytest

from controller.adapters import prometheus_http
from controller.adapters.prometheus_http import PrometheusApi
from controller.adapters.prometheus_selectors import Selectors, one_of, quoted
from controller.domain.ids import Commit, Service
from controller.errors import ConfigError, FlyballError, Permanent, Unavailable
from controller.settings import PrometheusSection

NOTHING: dict[str, Any] = {"status": "success", "data": {"resultType": "vector", "result": []}}
HANG = 0


class Scripted:
    """Gives one answer to everybody, and remembers the last question."""

    def __init__(self) -> None:
        self.status, self.body, self.more = 200, json.dumps(NOTHING).encode(), ""
        self.asked = b""
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        self.asked = head + await reader.readexactly(length)
        if self.status != HANG:
            said = (
                f"HTTP/1.1 {self.status} Said\r\nContent-Length: {len(self.body)}\r\nConnection: close\r\n{self.more}"
            )
            writer.write(said.encode() + b"\r\n" + self.body)
        else:
            await reader.read()  # until whoever asked has had enough
        writer.close()

    def says(self, code: int = 200, **answer: Any) -> None:
        self.status, self.body = code, json.dumps(answer).encode()


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with Scripted() as found:
        yield found


async def asked(server: Scripted, token: str = "") -> Any:
    api = PrometheusApi(server.url, token)
    try:
        return await api.at("up", 1_500)
    finally:
        await api.close()


async def test_empty_vector_is_an_answer(server: Scripted) -> None:
    assert await asked(server) == []
    assert server.asked.startswith(b"POST /api/v1/query HTTP/1.1")
    assert server.asked.endswith(b"query=up&time=1.500")


async def test_token_is_sent_as_a_bearers(server: Scripted) -> None:
    await asked(server, "s3cret")
    assert b"authorization: bearer s3cret" in server.asked.lower()


@pytest.mark.parametrize(
    ("status", "kind", "way_out"),
    [
        (400, Permanent, "[prometheus]"),
        (401, Permanent, "prometheus.token_env"),
        (403, Permanent, "prometheus.token_env"),
        (404, Permanent, "prometheus.url"),
        (302, Permanent, "prometheus.url"),
        (422, Permanent, "narrower matchers"),
        (429, Unavailable, "asked again"),
        (500, Unavailable, "asked again"),
        (503, Unavailable, "asked again"),
    ],
)
async def test_refusal_says_what_to_do_and_whether_to_try_again(
    server: Scripted, status: int, kind: type[FlyballError], way_out: str
) -> None:
    server.says(status, status="error", errorType="bad_data", error="parse error: unexpected <")
    with pytest.raises(kind, match=f"{status}: .*parse error") as refused:
        await asked(server)
    assert way_out in refused.value.way_out


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>not me</html>",
        b"[]",
        b'{"status": "success"}',
        b'{"data": {"result": 3}}',
        b'{"data": {"result": [{"metric": {}, "values": [[1]]}]}}',
        b'{"data": {"result": [{"metric": {"a": 1}, "value": [1, "1"]}]}}',
        b'{"data": {"result": [' + b"[" * 10_000,
    ],
)
async def test_what_is_no_answer_of_a_prometheus_is_never_zero_counts(server: Scripted, body: bytes) -> None:
    server.body = body
    with pytest.raises(Unavailable, match="no answer of a Prometheus"):
        await asked(server)


async def test_partial_answer_is_no_answer(server: Scripted) -> None:
    server.says(**NOTHING, warnings=["store 10.0.0.3 did not answer"])
    with pytest.raises(Unavailable, match=r"partial answer: store 10\.0\.0\.3"):
        await asked(server)


async def test_server_that_keeps_silent_is_unavailable(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus_http, "WITHIN_S", 0.2)
    server.status = HANG
    with pytest.raises(Unavailable, match=r"did not answer .* within 0\.2 s"):
        await asked(server)


async def test_server_that_is_not_there_is_unavailable() -> None:
    async with Scripted() as gone:
        pass
    with pytest.raises(Unavailable, match="did not answer"):
        await asked(gone)


async def test_answer_that_is_cut_off_is_unavailable(server: Scripted) -> None:
    server.more = "Transfer-Encoding: chunked\r\n"
    with pytest.raises(Unavailable):
        await asked(server)


async def test_answer_without_end_is_refused(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus_http, "MAX_ANSWER_BYTES", 1_000)
    server.body = b" " * 1_001
    with pytest.raises(Permanent, match="more than 1000 bytes"):
        await asked(server)


async def test_too_many_series_are_refused(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus_http, "MOST_SERIES", 2)
    server.says(data={"result": [{"metric": {"n": str(number)}, "value": [1, "1"]} for number in range(3)]})
    with pytest.raises(Permanent, match="3 series, more than 2"):
        await asked(server)


async def test_native_histogram_is_refused_by_name(server: Scripted) -> None:
    server.says(data={"result": [{"metric": {"__name__": "latency"}, "histogram": [1, {"count": "3"}]}]})
    with pytest.raises(Permanent, match="latency is a native histogram"):
        await asked(server)


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:9090", "ftp://host", "http://", "http://host/?a=b", "http://me:secret@host"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"prometheus\.url"):
        PrometheusApi(url)


def test_token_does_not_travel_in_clear() -> None:
    with pytest.raises(ConfigError, match="in clear"):
        PrometheusApi("http://prometheus.example:9090", "s3cret")


def test_token_that_no_header_can_have_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigError, match=r"prometheus\.token_env") as refused:
        PrometheusApi("https://prometheus.example", "s3cret\r\nx: y")
    assert "s3cret" not in str(refused.value)


def test_strings_are_quoted_and_regular_expressions_are_literal() -> None:
    assert quoted('a"b\\c\nd') == r'"a\"b\\c\nd"'
    assert one_of("version", {"a.b", "c|d"}) == r'version=~"a\\.b|c\\|d"'


def test_every_way_to_fail_is_asked_of_this_service_and_version() -> None:
    found = Selectors(PrometheusSection(), "/health").failures(Service("shop"), (Commit("a1"),))
    of = 'http_server_request_duration_seconds_count{job="shop",service_version=~"a1",http_route!="/health",'
    assert found == [of + 'http_response_status_code=~"5.."}', of + 'error_type!=""}']
