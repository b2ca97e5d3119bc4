"""How the shop asks another service: one GET, in a client span, its trace carried along."""

import asyncio
import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.propagate import inject
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, use_span

ANSWER_WITHIN_S = 1.0
LARGEST_ANSWER_BYTES = 64 * 1024


class NoAnswerError(Exception):
    """The other service did not answer, or not as it should."""


class Other:
    """A service at `url` (http://HOST:PORT)."""

    def __init__(self, url: str, tracer: Tracer) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.port is None:
            raise ValueError(f"{url!r} is not http://HOST:PORT")
        self._host, self._port = parts.hostname, parts.port
        self._tracer = tracer

    async def get(self, path: str) -> Any:
        """The JSON in its answer. Raises `NoAnswerError`."""
        span = self._tracer.start_span("GET", kind=SpanKind.CLIENT)
        span.set_attributes(
            {
                "http.request.method": "GET",
                "server.address": self._host,
                "server.port": self._port,
                "url.full": f"http://{self._host}:{self._port}{path}",
            }
        )
        with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            headers: dict[str, str] = {}
            inject(headers)
            try:
                return json.loads(await asyncio.to_thread(self._ask, path, headers, span))
            except (OSError, http.client.HTTPException, ValueError, NoAnswerError) as error:
                span.set_attribute("error.type", type(error).__qualname__)
                span.set_status(Status(StatusCode.ERROR))
                raise NoAnswerError(str(error)) from error

    def _ask(self, path: str, headers: dict[str, str], span: Span) -> bytes:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=ANSWER_WITHIN_S)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            span.set_attribute("http.response.status_code", answer.status)
            if answer.status != 200:
                raise NoAnswerError(f"it answered {answer.status}")
            return answer.read(LARGEST_ANSWER_BYTES)
        finally:
            connection.close()
