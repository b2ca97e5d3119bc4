"""The gateway's end of the wire: what waits has a deadline, keeps nobody out, and can be read in one way only.

A client sends the headers of a request within seconds, or is sent away; so is one whose body does not come. When there
is no room for another connection, the one that has waited longest goes, of whichever peer has most of them: whoever
sends a whole request at once is served, however many half-open connections stand beside it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from controller.domain.events import DoorKind

HEAD_S = 10.0  # from the first byte, or the connection, to the last header
BODY_S = 30.0  # from the headers to the end of the body: 4 MiB at 140 kB/s
LONG_BODY_S = 600.0  # of paths whose own bounds are longer: a pack over a slow line
LINGER_S = 5.0  # for the rest of a body whose request is answered already
SENDS_BODY = "SEND_BODY"  # h11's name for a client whose body has not ended
CLIENT_ERROR, SERVER_ERROR = 400, 500
_KINDS = {404: DoorKind.NO_ROUTE, 405: DoorKind.NO_ROUTE, 408: DoorKind.SLOW, 421: DoorKind.WRONG_HOST}

Note = Callable[[DoorKind], None]


@dataclass(frozen=True, slots=True)
class House:
    """What all connections of one server share."""

    note: Note  # of what is turned away
    most: int  # connections
    long_paths: tuple[str, ...]  # beneath which a body may take long


class PatientProtocol(H11Protocol):
    """HTTP/1.1 by uvicorn and h11, with deadlines. uvicorn makes it by its class alone: see `protocol_of`."""

    house: ClassVar[House]

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.since = self.loop.time()  # it waits for the client since then
        self.served = False  # a request of it has been answered
        self._deadline: asyncio.TimerHandle | None = None  # None: nothing is waited for
        self._waits_for = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= self.house.most:
            self._make_room()
        super().connection_made(transport)
        self._wait_for("head", HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_for("", 0)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        self.served = True
        super().on_response_complete()
        self._look()

    def send_400_response(self, msg: str) -> None:
        self.house.note(DoorKind.FRAMING)
        super().send_400_response(msg)

    # --- deadlines ---------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """What is waited for now, and until when. The same wait keeps its deadline, however many bytes trickle in."""
        if self.transport.is_closing():
            self._wait_for("", 0)
        elif self.cycle is not None and not self.cycle.response_complete:
            seconds = LONG_BODY_S if self.scope["path"].startswith(self.house.long_paths) else BODY_S
            self._wait_for("body" if self.cycle.more_body else "", seconds)
        elif str(self.conn.their_state) == SENDS_BODY:
            self._wait_for("rest", LINGER_S)
        elif self.conn.trailing_data[0]:
            self._wait_for("head", HEAD_S)
        elif self.served:
            self._wait_for("", 0)  # idle between two requests: the server's own bound on that holds

    def _wait_for(self, what: str, seconds: float) -> None:
        if what == self._waits_for:
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self._waits_for, self.since = what, self.loop.time()
        self._deadline = self.loop.call_later(seconds, self._too_late) if what else None

    def _too_late(self) -> None:
        self.house.note(DoorKind.SLOW)
        self.send_away()

    # --- room --------------------------------------------------------------------------------------------------------

    @property
    def rank(self) -> int | None:
        """How readily it goes when there is no room: the lowest first. None: it is being served."""
        if self.cycle is None or self.cycle.response_complete:
            return 1 if self.served else 0
        return 2 if self.cycle.more_body else None

    def _make_room(self) -> None:
        waiting = [(one.rank, one) for one in self.connections if isinstance(one, PatientProtocol)]
        least = min((rank for rank, _ in waiting if rank is not None), default=None)
        candidates = [one for rank, one in waiting if rank == least and rank is not None]
        if not candidates:
            return
        peers = Counter(one.peer for one in candidates)
        crowd = peers.most_common(1)[0][0]
        goes = min((one for one in candidates if one.peer == crowd), key=lambda one: one.since)
        self.house.note(DoorKind.CROWDED)
        goes.send_away()

    @property
    def peer(self) -> str:
        return self.client[0] if self.client else ""

    def send_away(self) -> None:
        self.connections.discard(self)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()


def protocol_of(house: House) -> type[PatientProtocol]:
    return type("HouseProtocol", (PatientProtocol,), {"house": house})


class Watched:
    """ASGI before every door. Ambiguous framing is refused here; every 4xx, whichever door says it, is counted."""

    def __init__(self, app: ASGIApp, note: Note, credential_paths: frozenset[str]) -> None:
        self._app = app
        self._note = note
        self._credential_paths = credential_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        names = [name for name, _ in scope["headers"]]
        if b"content-length" in names and b"transfer-encoding" in names:
            self._note(DoorKind.FRAMING)
            why = {"error": "a request has a Content-Length or a Transfer-Encoding, never both"}
            await JSONResponse(why, 400, {"Connection": "close"})(scope, receive, send)
            return

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(
                    message["status"], message.get("headers", []), scope["path"], tried=b"authorization" in names
                )
            await send(message)

        await self._app(scope, receive, watched)

    def _count(self, status: int, headers: Any, path: str, *, tried: bool) -> None:
        if not CLIENT_ERROR <= status < SERVER_ERROR:
            return
        if any(b"insufficient_scope" in value for _, value in headers):
            return  # the desk has written that one down, with the session's name
        if path in self._credential_paths:
            self._note(DoorKind.WRONG_CREDENTIAL)
        elif status == 401:  # noqa: PLR2004 - HTTP's own number
            self._note(DoorKind.WRONG_TOKEN if tried else DoorKind.NO_TOKEN)
        elif status == 403:  # noqa: PLR2004 - HTTP's own number
            self._note(DoorKind.WRONG_HOST)
        else:
            self._note(_KINDS.get(status, DoorKind.MALFORMED))
