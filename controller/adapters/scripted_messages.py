"""A Messages API server on loopback that follows scripts instead of thinking, for the same client as the real one.

It keeps nothing between requests: the conversation that every request carries decides what is said next. Ids begin with
`msg_scripted_`, so that no reply of it can pass for a live model's. It also misbehaves on demand, as networks and
models do: by `[[fault:stall]]` or `[[fault:empty@2]]` (at the third reply) in the first message, by the header
`x-scripted-fault`, or by `inject` for the next so many requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from controller.adapters.scripted_book import (
    Conversation,
    Said,
    ScriptBook,
    ToolCall,
    load_book,
    read_conversation,
    task_script,
)
from controller.adapters.scripted_wire import (
    Invalid,
    Message,
    check_headers,
    check_request,
    error_body,
    message_of,
    sse,
)
from controller.errors import ConfigError, Unavailable

HOST = "127.0.0.1"
STOP_S = 5.0
BACKLOG = 128
MARK = re.compile(r"\[\[fault:(\w+)(?:@(\d+))?\]\]")


class Fault(StrEnum):
    RATE_LIMITED = "rate_limited"  # 429 at the first try, then as scripted
    OVERLOADED = "overloaded"  # 529 at the first try, then as scripted
    DOWN = "down"  # 500, always
    STALL = "stall"  # begins, then silence
    CUT = "cut"  # begins, then the connection is gone
    BROKEN_OFF = "broken_off"  # begins, then an error event
    INVALID_JSON = "invalid_json"  # a tool call whose arguments are no JSON
    REFUSAL = "refusal"
    MAX_TOKENS = "max_tokens"  # cut off inside a tool call
    EMPTY = "empty"
    UNKNOWN_TOOL = "unknown_tool"
    ENDLESS = "endless"  # calls a tool, for ever


REFUSED_AT_FIRST = {Fault.RATE_LIMITED: 429, Fault.OVERLOADED: 529}
HALF_SENT = frozenset({Fault.STALL, Fault.CUT, Fault.BROKEN_OFF})
INSTEAD = {
    Fault.REFUSAL: (Said("I will not do that."), "refusal"),
    Fault.MAX_TOKENS: (Said("I begin.", (ToolCall(tool="write_file", arguments={"path": "a.py"}),)), "max_tokens"),
    Fault.EMPTY: (Said(""), "end_turn"),
    Fault.UNKNOWN_TOOL: (Said("", (ToolCall(tool="launch_rocket"),)), ""),
    Fault.ENDLESS: (Said("Once more.", (ToolCall(tool="list_files"),)), ""),
}


class ScriptedServer:
    """`start` gives the address for the client's `base_url`; `stop` closes every connection, stalled ones too.

    A server that was stopped stays stopped: make another one.
    """

    def __init__(self, book: ScriptBook, *, api_key: str | None = None, port: int = 0) -> None:
        """`api_key=None`: any key will do. `port=0`: any free one."""
        self._book = book
        self._api_key = api_key
        self._port = port
        self._injected: deque[Fault] = deque()
        app = Starlette(routes=[Route("/v1/messages", self._messages, methods=["POST"])])
        config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread: threading.Thread | None = None  # None: not started
        self.requests: list[dict[str, Any]] = []  # bodies of those it took, for whoever wants to look at prompts

    def start(self) -> str:
        listening = self.listen()
        self._thread = threading.Thread(target=self.serve, args=(listening,), name="scripted-messages", daemon=True)
        self._thread.start()
        return f"http://{HOST}:{listening.getsockname()[1]}"

    def stop(self) -> None:
        if self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(STOP_S)
        if self._thread.is_alive():
            raise Unavailable(f"the scripted server is still there {STOP_S} s after it was stopped")
        self._thread = None

    def inject(self, fault: Fault, times: int = 1) -> None:
        """The next `times` requests are met with this fault."""
        self._injected.extend([fault] * times)

    def listen(self) -> socket.socket:
        """From now on connections queue up, whenever serving begins."""
        listening = socket.create_server((HOST, self._port), backlog=BACKLOG)
        # Taken over by every accepted connection: asyncio does not see that this socket is TCP's, and a stream of small
        # events would wait 40 ms for each.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening

    def serve(self, listening: socket.socket) -> None:
        """Blocks until `stop`, or in a main thread until a signal."""
        self._server.run(sockets=[listening])

    async def _messages(self, request: Request) -> Response:
        try:
            check_headers(request.headers, self._api_key)
            body = _json(await request.body())
            check_request(body)
        except Invalid as invalid:
            return _error(invalid.status, invalid.message)
        self.requests.append(body)
        talk = read_conversation(body)
        fault = self._fault(request, talk)
        if fault in REFUSED_AT_FIRST and request.headers.get("x-stainless-retry-count", "0") == "0":
            return _error(REFUSED_AT_FIRST[fault], "Try again", {"retry-after": "0"})
        if fault is Fault.DOWN:
            return _error(500, "Internal server error")
        return self._reply(body, talk, fault)

    def _reply(self, body: dict[str, Any], talk: Conversation, fault: Fault | None) -> Response:
        said, stop_reason = INSTEAD.get(fault, (None, "")) if fault else (None, "")
        if said is None:
            script = self._book.script_for(talk)
            if script is None:
                return _error(400, "no script matches this conversation")
            said = script.says(talk)
        message = message_of(body, said, stop_reason)
        headers = {"request-id": f"req_{message.id.removeprefix('msg_')}"}
        if not body.get("stream"):
            return JSONResponse(message.body(), headers=headers)
        return StreamingResponse(_stream(message, fault), media_type="text/event-stream", headers=headers)

    def _fault(self, request: Request, talk: Conversation) -> Fault | None:
        """None: it behaves."""
        if self._injected:
            return self._injected.popleft()
        if named := request.headers.get("x-scripted-fault"):
            return Fault(named)
        for name, at in MARK.findall(talk.first):
            if not at or int(at) == len(talk.exchanges):
                return Fault(name)
        return None


async def _stream(message: Message, fault: Fault | None) -> AsyncIterator[bytes]:
    """`fault=None`: the whole reply."""
    events = list(message.events())
    if fault is Fault.INVALID_JSON:
        events = _garbled(events)
    if fault not in HALF_SENT:
        for event in events:
            yield sse(event)
        return
    for event in events[: len(events) // 2]:
        yield sse(event)
    if fault is Fault.STALL:
        await asyncio.Event().wait()  # until the client has had enough, or the server stops
    if fault is Fault.BROKEN_OFF:
        yield sse(("error", error_body(529, "Overloaded", message.id)))
        return
    raise ConnectionAbortedError("cut on purpose")


def _garbled(events: Sequence[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    bad = {"type": "input_json_delta", "partial_json": '{"path": nonsense}'}
    return [
        (name, data | {"delta": bad} if data.get("delta", {}).get("partial_json") else data) for name, data in events
    ]


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise Invalid(400, "The request body is not valid JSON") from error


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """`headers=None`: none besides the request's id."""
    request_id = "req_scripted_error"
    return JSONResponse(
        error_body(status, message, request_id),
        status_code=status,
        headers={"request-id": request_id} | (headers or {}),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until a signal comes. `arguments=None`: the process's own."""
    parser = argparse.ArgumentParser(description="A scripted Messages API server on loopback.")
    parser.add_argument("--scripts", type=Path, help="YAML list of scripts")
    parser.add_argument("--task", type=Path, action="append", default=[], help="a task file; may be repeated")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--port-file", type=Path, help="where the port is written once connections are accepted")
    given = parser.parse_args(arguments)
    scripts = load_book(given.scripts).scripts if given.scripts else ()
    book = ScriptBook(scripts=(*scripts, *(task_script(path) for path in given.task)))
    if not book.scripts:
        raise ConfigError("the scripted server has nothing to say", "Give it --scripts or --task")
    server = ScriptedServer(book, port=given.port)
    listening = server.listen()
    if given.port_file:
        unfinished = given.port_file.with_suffix(".unfinished")
        unfinished.write_text(str(listening.getsockname()[1]), encoding="utf-8")
        unfinished.replace(given.port_file)
    sys.stdout.write(f"scripted messages on http://{HOST}:{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    server.serve(listening)


if __name__ == "__main__":
    main()
