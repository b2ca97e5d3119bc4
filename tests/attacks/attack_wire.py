"""Requests as an attacker would send them: over HTTP by a client that checks nothing, or byte by byte."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx2
from attack_corpus import Call, spelt_out

REVISION = "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": REVISION, "io.modelcontextprotocol/clientCapabilities": {}}
PLACE = {"flyball/turn": 1, "flyball/index": 0}
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
ANSWER_S, MORE_S = 10.0, 1.0
MAX_ANSWER_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Answer:
    statuses: tuple[int, ...]  # one; more where one stream of bytes was read as several requests
    text: str  # everything that came back
    result: Mapping[str, Any]  # of the call; empty when there is none

    @property
    def refused(self) -> bool:
        return bool((self.result.get("_meta") or {}).get("flyball/refused"))

    @property
    def failed(self) -> bool:
        return bool(self.result.get("isError")) or not self.result

    @property
    def told(self) -> str:
        return "\n".join(part.get("text", "") for part in self.result.get("content", []))


async def send(http: httpx2.AsyncClient, call: Call, names: Mapping[str, str]) -> Answer:
    if call.raw is not None:
        host, port = names["host"].split(":")
        return await _send_bytes(host, int(port), _bytes_of(spelt_out(call.raw, names)))
    headers = _headers(call, names)
    body = _body(call, names).encode("utf-8", "surrogatepass")
    answer = await http.request(call.method, spelt_out(call.url, names), content=body, headers=headers)
    return Answer((answer.status_code,), answer.text, _result(answer.text))


def _headers(call: Call, names: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    usual: dict[str, str | None] = {
        "Authorization": "Bearer <token>",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": REVISION,
        "Mcp-Method": "tools/call",
        "Mcp-Name": call.tool if call.tool.isascii() else None,
    }
    wanted = [(name, value) for name, value in {**usual, **call.headers}.items() if value is not None]
    return [(name.encode(), str(spelt_out(value, names)).encode("utf-8")) for name, value in [*wanted, *call.also]]


def _body(call: Call, names: Mapping[str, str]) -> str:
    if call.body is not None:
        return str(spelt_out(call.body, names))
    arguments = call.arguments_json if call.arguments_json is not None else json.dumps(call.arguments)
    meta = json.dumps({**META, **PLACE, **call.meta})
    params = f'{{"name": {json.dumps(call.tool)}, "arguments": {arguments}, "_meta": {meta}}}'
    return str(spelt_out(f'{{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {params}}}', names))


def _bytes_of(raw: str) -> bytes:
    """Lines end in CRLF unless they say otherwise: ¶ is a line feed alone, and ¤ a zero byte."""
    text = raw.replace("\n", "\r\n").replace("¶\r\n", "\n").replace("¤", "\0")
    head, gap, body = text.partition("\r\n\r\n")
    return (head + gap).replace("<length>", str(len(body.encode()))).encode() + body.encode()


async def _send_bytes(host: str, port: int, sent: bytes) -> Answer:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(sent)
        got = await _all(reader)
    finally:
        writer.close()
    text = got.decode(errors="replace")
    return Answer(tuple(int(found) for found in STATUS.findall(got)), text, _result(text.rpartition("\r\n\r\n")[2]))


async def _all(reader: asyncio.StreamReader) -> bytes:
    """Until the other side closes, as the requests ask it to; a side that says nothing more is not waited for."""
    got = bytearray()
    with suppress(ConnectionResetError, TimeoutError):
        while part := await asyncio.wait_for(reader.read(65_536), ANSWER_S if not got else MORE_S):
            got += part
            assert len(got) < MAX_ANSWER_BYTES, "an answer without end"
    return bytes(got)


def _result(text: str) -> Mapping[str, Any]:
    try:
        answer = json.loads(text)
    except ValueError:
        return {}
    found = answer.get("result", {}) if isinstance(answer, dict) else {}
    return found if isinstance(found, dict) else {}
