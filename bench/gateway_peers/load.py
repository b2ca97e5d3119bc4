"""The client of the gateway bench, a process of its own: bytes made once, one kept connection, one call after another.

A client library costs several times what a server does, and would hide every difference. Reads one job a line from
standard input and answers each with one line: `{"host", "port", "request" (base64), "expect", "seconds", "calls"}` ->
`{"latencies_us": [...], "seconds"}`. An answer without `expect` in it ends the process: figures of refusals are none.
"""

from __future__ import annotations

import base64
import json
import socket
import sys
import time

TIMEOUT_S = 30.0


def read_answer(sock: socket.socket) -> bytes:
    got = bytearray()
    while b"\r\n\r\n" not in got:
        got += _more(sock)
    head, _, body = bytes(got).partition(b"\r\n\r\n")
    lowered = head.lower()
    if b"transfer-encoding: chunked" in lowered:
        while not body.endswith(b"0\r\n\r\n"):
            body += _more(sock)
        return head + body
    length = int(lowered.split(b"content-length:")[1].split(b"\r\n")[0]) if b"content-length:" in lowered else 0
    while len(body) < length:
        body += _more(sock)
    return head + body


def _more(sock: socket.socket) -> bytes:
    part = sock.recv(262_144)
    if not part:
        raise SystemExit("the server closed the connection in the middle of an answer")
    return part


def burst(job: dict[str, object]) -> dict[str, object]:
    request, expect = base64.b64decode(str(job["request"])), str(job["expect"]).encode()
    calls, seconds = int(str(job["calls"])), float(str(job["seconds"]))
    latencies: list[float] = []
    with socket.create_connection((str(job["host"]), int(str(job["port"]))), timeout=TIMEOUT_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        begun = time.perf_counter()
        while (at := time.perf_counter()) < begun + seconds and len(latencies) < calls:
            sock.sendall(request)
            answer = read_answer(sock)
            latencies.append((time.perf_counter() - at) * 1e6)
            if expect not in answer:
                raise SystemExit(f"answered without {expect!r}: {answer[:1500]!r}")
        took = time.perf_counter() - begun
    return {"latencies_us": latencies, "seconds": took}


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(burst(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
