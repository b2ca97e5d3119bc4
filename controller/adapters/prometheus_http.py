"""Questions to a Prometheus server over its HTTP API, and what its answers mean.

An empty answer is an answer: nothing was counted. No answer, a broken one, a partial one or one without end is none,
and never zero. What the server refuses for good is `Permanent`, what may be otherwise in a moment `Unavailable`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import httpx2
from pydantic import BaseModel, ValidationError

from controller.errors import ConfigError, Permanent, Unavailable

WITHIN_S = 8.0  # an answer; a step of the loop asks for some of them within its 30 s
MAX_ANSWER_BYTES = 32 * 1024 * 1024
MOST_SERIES = 20_000  # of one answer: 14 bounds of some thousand combinations of labels
SAID_CHARACTERS = 300
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
OK = 200
Data = TypeVar("Data")
WAYS_OUT = {
    400: "Correct the metric, label or matcher under [prometheus] that it names",
    401: "Set prometheus.token_env to the environment variable that holds a token it takes",
    403: "Give the token of prometheus.token_env the right to read these series",
    404: "Set prometheus.url to the address that /api/v1/query is below",
    422: "Ask for less: fewer labels on the metrics, or narrower matchers in prometheus.only",
}


@dataclass(frozen=True, slots=True)
class Series:
    labels: Mapping[str, str]
    samples: list[tuple[int, float]]  # epoch ms and value, in order of time


class _Found(BaseModel):
    metric: dict[str, str] = {}
    value: tuple[float, str] | None = None  # of a vector
    values: list[tuple[float, str]] = []  # of a matrix
    histogram: Any = None
    histograms: Any = None


class _Result(BaseModel):
    result: list[_Found]


class _Exemplar(BaseModel):
    labels: dict[str, str]
    timestamp: float


class _Exemplars(BaseModel):
    seriesLabels: dict[str, str]  # noqa: N815 - its wire name
    exemplars: list[_Exemplar]


class _Answer(BaseModel, Generic[Data]):
    data: Data
    warnings: list[str] = []


class PrometheusApi:
    """One server. `url`: what /api/v1 is below; `token`: a bearer's, empty where it asks for none."""

    def __init__(self, url: str, token: str = "") -> None:
        """Raises ConfigError for what is no address, and for a token that would travel in clear."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.username:
            raise ConfigError(f"prometheus.url is {url!r}", "Give an address such as http://127.0.0.1:9090")
        if token and parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise ConfigError(
                f"prometheus.url is {url!r}, where a token would travel in clear", "Give an https URL, or no token_env"
            )
        if not token.isascii() or not all(character.isprintable() for character in token):
            raise ConfigError("the token of prometheus.token_env has characters that no header can have", "Set it anew")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._api = f"{url.rstrip('/')}/api/v1"
        self._http = httpx2.AsyncClient(timeout=WITHIN_S, follow_redirects=False, trust_env=False, headers=headers)

    async def close(self) -> None:
        await self._http.aclose()

    async def at(self, query: str, at_ms: int) -> list[Series]:
        """A vector as series of one sample, or the raw samples of a range selector."""
        return _series(await self._asked(_Result, "/query", {"query": query, "time": _seconds(at_ms)}))

    async def every(self, query: str, step_ms: int, from_ms: int, to_ms: int) -> list[Series]:
        """The query's value at `from_ms` and at every step after it, to `to_ms` and with it."""
        told = {"query": query, "start": _seconds(from_ms), "end": _seconds(to_ms), "step": _seconds(step_ms)}
        return _series(await self._asked(_Result, "/query_range", told))

    async def names(self, selectors: Iterable[str], from_ms: int, to_ms: int) -> list[dict[str, str]]:
        """The labels of the series that match any of the selectors, and may have samples in that time."""
        told = {"match[]": list(selectors), "start": _seconds(from_ms), "end": _seconds(to_ms)}
        return await self._asked(list[dict[str, str]], "/series", told)

    async def exemplars(self, selector: str, from_ms: int, to_ms: int) -> list[tuple[int, dict[str, str], str]]:
        """Epoch ms, labels of the series and 32 hex digits of the trace, the oldest first."""
        told = {"query": selector, "start": _seconds(from_ms), "end": _seconds(to_ms)}
        found = await self._asked(list[_Exemplars], "/query_exemplars", told)
        named = [
            (round(one.timestamp * 1000), series.seriesLabels, _trace_of(one.labels))
            for series in found
            for one in series.exemplars
        ]
        return sorted((one for one in named if one[2]), key=lambda one: one[0])

    async def _asked(self, kind: type[Data], path: str, told: Mapping[str, Any]) -> Data:
        status, body = await self._told(path, told)
        if status != OK:
            raise _refusal(self._api + path, status, body)
        try:
            answer = _Answer[kind].model_validate_json(body)  # type: ignore[valid-type]
        except ValidationError as error:
            raise Unavailable(
                f"{self._api}{path} answered with what is no answer of a Prometheus ({error.error_count()} faults)",
                "See what listens at prometheus.url",
            ) from error
        if answer.warnings:
            said = answer.warnings[0][:SAID_CHARACTERS]
            raise Unavailable(f"{self._api}{path} gave a partial answer: {said}", "Look at that server's stores")
        return answer.data

    async def _told(self, path: str, told: Mapping[str, Any]) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(WITHIN_S), self._http.stream("POST", self._api + path, data=told) as answer:
                return answer.status_code, await _bounded(answer)
        except (TimeoutError, httpx2.HTTPError) as error:
            raise Unavailable(
                f"Prometheus did not answer {self._api}{path} within {WITHIN_S:g} s ({type(error).__name__})",
                "See whether it runs and prometheus.url reaches it; it is asked again",
            ) from error


async def _bounded(answer: httpx2.Response) -> bytes:
    body = bytearray()
    async for piece in answer.aiter_bytes():
        body.extend(piece)
        if len(body) > MAX_ANSWER_BYTES:
            raise Permanent(f"Prometheus answered with more than {MAX_ANSWER_BYTES} bytes", WAYS_OUT[422])
    return bytes(body)


def _series(answer: _Result) -> list[Series]:
    found = answer.result
    if len(found) > MOST_SERIES:
        raise Permanent(f"Prometheus answered with {len(found)} series, more than {MOST_SERIES}", WAYS_OUT[422])
    if native := next((one for one in found if one.histogram or one.histograms), None):
        raise Permanent(
            f"{native.metric.get('__name__', 'a metric')} is a native histogram, and only classic ones are read",
            "Have its classic buckets scraped too, or set prometheus.latency to a metric that has them",
        )
    return [
        Series(
            one.metric, [(round(at * 1000), _number(value)) for at, value in one.values or filter(None, [one.value])]
        )
        for one in found
    ]


def _number(text: str) -> float:
    """Prometheus' own spelling of floats; what is none is no number either."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _refusal(address: str, status: int, body: bytes) -> Permanent | Unavailable:
    said = body[:SAID_CHARACTERS].decode(errors="replace")
    message = f"Prometheus answered {address} with {status}: {said}"
    if status in WAYS_OUT:
        return Permanent(message, WAYS_OUT[status])
    if status < 400:  # noqa: PLR2004 - it sends us elsewhere
        return Permanent(message, WAYS_OUT[404])
    return Unavailable(message, "Look at that server; it is asked again")


def _trace_of(labels: Mapping[str, str]) -> str:
    """Empty: the exemplar names no trace."""
    value = next((labels[name].lower() for name in ("trace_id", "traceID", "traceId") if name in labels), "")
    return value if len(value) == 32 and set(value) <= set("0123456789abcdef") else ""  # noqa: PLR2004 - hex digits


def _seconds(ms: int) -> str:
    return f"{ms // 1000}.{ms % 1000:03d}"
