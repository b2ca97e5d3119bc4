"""Names of things. A stream's name says what it is about; a key says which single effect is meant."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, NewType

DeliveryId = NewType("DeliveryId", str)
StreamId = NewType("StreamId", str)
SessionId = NewType("SessionId", str)
EffectKey = NewType("EffectKey", str)
Digest = NewType("Digest", str)  # "sha256:<64 hex>"
Commit = NewType("Commit", str)  # 40 hex
Repository = NewType("Repository", str)
Branch = NewType("Branch", str)
Service = NewType("Service", str)
MicroUsd = NewType("MicroUsd", int)
NO_MONEY = MicroUsd(0)
NO_DIGEST = Digest("")  # of nothing

CONTROL = StreamId("control")
DOOR = StreamId("door")  # what the tool gateway turned away
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


def delivery_stream(delivery: DeliveryId) -> StreamId:
    return StreamId(f"delivery/{delivery}")


def people_stream(delivery: DeliveryId) -> StreamId:
    """What people say about a delivery (hold, consent, promote): beside its own stream, never racing its steps."""
    return StreamId(f"people/{delivery}")


def session_stream(session: SessionId) -> StreamId:
    return StreamId(f"session/{session}")


CLIENTS = "client."  # how the sessions of programs outside begin; no delivery's id does


def client_stream(client: str) -> StreamId:
    return StreamId(f"client/{client}")


def client_session(client: str, number: int) -> SessionId:
    return SessionId(f"{CLIENTS}{client}/{number}")


def agent_stream(session: str) -> StreamId:
    """Where a session is written down: Flyball's own under session/, those of programs outside under client/."""
    if session.startswith(CLIENTS):
        return StreamId(f"client/{session.removeprefix(CLIENTS)}")
    return session_stream(SessionId(session))


def session_behind(stream: StreamId) -> str | None:
    """The agent's session whose stream it is. None: it is no session's."""
    kind, rest = kind_of(stream), rest_of(stream)
    if kind == "session":
        return rest
    return f"{CLIENTS}{rest}" if kind == "client" and "/" in rest else None


def session_of(delivery: DeliveryId, iteration: int) -> SessionId:
    return SessionId(f"{delivery}/{iteration}")


def queue_stream(repository: Repository, branch: Branch) -> StreamId:
    return StreamId(f"queue/{repository}@{branch}")


def rollout_stream(service: Service, environment: str) -> StreamId:
    return StreamId(f"rollout/{service}@{environment}")


def effect_stream(key: EffectKey) -> StreamId:
    return StreamId(f"effect/{key}")


def kind_of(stream: StreamId) -> str:
    return stream.partition("/")[0]


def rest_of(stream: StreamId) -> str:
    return stream.partition("/")[2]


def delivery_from_event(repository: Repository, event_id: str) -> DeliveryId:
    """One delivery per accepted request: a request that arrives twice names the same delivery."""
    return DeliveryId(f"{repository}-{hashlib.sha256(event_id.encode()).hexdigest()[:6]}")


def author_branch(delivery: DeliveryId, iteration: int) -> Branch:
    return Branch(f"agent/{delivery}/{iteration}")


def digest_bytes(content: bytes) -> Digest:
    return Digest("sha256:" + hashlib.sha256(content).hexdigest())


def canonical(value: Mapping[str, Any]) -> bytes:
    """The one spelling of a JSON object (RFC 8785 for ASCII keys and no floats): what is hashed is what is stored."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_of(value: Mapping[str, Any]) -> Digest:
    return digest_bytes(canonical(value))
