"""What may be arranged before an attack, and what may break under it: each verb of the corpus is one row of `VERBS`.

What breaks is real wherever it can be: SQLite refuses to write, a folder is gone, a process swaps a folder for a link.
Only the policy engine is replaced, by one that fails in the ways that are known of such engines.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import cedarpy

from controller.domain.events import EffectIntended, Stopped
from controller.domain.ids import CONTROL, SessionId
from controller.off_loop import OffLoop
from tools import search, wire

if TYPE_CHECKING:
    from attack_stage import Session, Stage

RACER = Path(__file__).with_name("attack_racer.py")
RACER_S = 20.0

Verb = Callable[["Stage", "Session", Any], Awaitable[None]]


async def _file(_: Stage, session: Session, value: Any) -> None:
    path = session.root / value["path"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value["content"])


async def _link(_: Stage, session: Session, value: Any) -> None:
    path = session.root / value["at"]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        path.unlink()
    path.symlink_to(value["to"])


async def _hard_link(_: Stage, session: Session, value: Any) -> None:
    (session.root / value["at"]).hardlink_to(value["to"])


async def _pipe(_: Stage, session: Session, value: Any) -> None:
    os.mkfifo(session.root / value)


async def _race(stage: Stage, session: Session, value: Any) -> None:
    """A folder is swapped for a link to elsewhere and back, by another process, while calls go through it."""
    real, link, aside = session.root / value["at"], session.root / "swapped", session.root / "aside"
    link.symlink_to(value["to"])
    racer = await asyncio.create_subprocess_exec(
        sys.executable, "-I", str(RACER), str(real), str(link), str(aside), stdout=asyncio.subprocess.PIPE
    )
    assert racer.stdout is not None
    await asyncio.wait_for(racer.stdout.readline(), RACER_S)

    async def stop() -> None:
        racer.kill()
        await racer.wait()

    stage.undo.push_async_callback(stop)


async def _call(stage: Stage, session: Session, value: Any) -> None:
    """Calls that the session has made before, in process: they are no part of the attack."""
    for at in range(value.get("times", 1)):
        index = value.get("from", 1) + at
        await stage.world.toolbox.call(session.badge, value["tool"], value["arguments"], turn=1, index=index)


async def _taint(stage: Stage, session: Session, _: Any) -> None:
    stage.world.desk.taint(session.badge.session)


async def _sign_out(stage: Stage, session: Session, _: Any) -> None:
    stage.world.desk.sign_out(session.badge.session)


async def _sign_in_again(stage: Stage, session: Session, _: Any) -> None:
    stage.world.desk.sign_in(session.badge)


async def _sign_in_for(stage: Stage, session: Session, value: Any) -> None:
    """For so many seconds, of which some then pass."""
    session.token = stage.world.desk.sign_in(session.badge, seconds=value["seconds"])
    stage.world.clock.at += timedelta(seconds=value["pass"])


async def _act_as(stage: Stage, session: Session, value: Any) -> None:
    """Another role, other scopes, a task of its own."""
    found: dict[str, Any] = dict(value)
    for name in ("allowed", "protected"):
        found |= {name: tuple(found[name])} if name in found else {}
    if "scopes" in found:
        found["scopes"] = frozenset(found["scopes"])
    session.badge = replace(session.badge, **found)
    session.token = stage.world.desk.sign_in(session.badge)


async def _lent_by(stage: Stage, session: Session, value: Any) -> None:
    """The session was begun by another one, whose badge is this one but for `value`."""
    found: dict[str, Any] = {k: tuple(inner) if isinstance(inner, list) else inner for k, inner in value.items()}
    if "scopes" in found:
        found["scopes"] = frozenset(found["scopes"])
    parent = replace((await stage.session()).badge, **found)
    stage.world.desk.sign_in(parent)
    session.badge = replace(session.badge, parent=parent)
    session.token = stage.world.desk.sign_in(session.badge)


async def _revoke(stage: Stage, session: Session, _: Any) -> None:
    await stage.world.revoke(SessionId(session.badge.session))


async def _stop(stage: Stage, _: Session, value: Any) -> None:
    await stage.world.add(CONTROL, Stopped(scope=value, by="person:0123456789ab", reason="enough", event_id=value))


async def _patience(stage: Stage, _: Session, seconds: Any) -> None:
    """How long an expression may search: nothing is learnt from waiting longer."""
    stage.undo.enter_context(patch.object(search, "REGEX_S", float(seconds)))


async def _clock(stage: Stage, _: Session, seconds: Any) -> None:
    """Steps, forward or back."""
    stage.world.clock.at += timedelta(seconds=seconds)


async def _engine(stage: Stage, _: Session, value: Any) -> None:
    """The policy engine itself fails in one of the ways that are known of such engines."""

    class Errs:
        allowed = True

        class diagnostics:  # noqa: N801 - the engine's own name
            errors = ("while evaluating policy `policy7`: attribute missing",)
            id_annotations_by_reason: Mapping[str, str] = {"policy0": "granted-in-repository"}

    class Mute(Errs):
        class diagnostics:  # noqa: N801 - the engine's own name
            errors = ()
            id_annotations_by_reason: Mapping[str, str] = {}

    def raises(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the engine crashed")

    def hangs(*_: Any, **__: Any) -> Any:
        time.sleep(2)
        return real(*_, **__)

    def panics(*_: Any, **__: Any) -> Any:
        raise BaseException("a panic in native code")  # noqa: TRY002 - pyo3's PanicException is exactly that

    real = cedarpy.is_authorized
    ways: dict[str, Callable[..., Any]] = {
        "raises": raises,
        "takes two seconds": hangs,
        "panics": panics,
        "allows and errs": lambda *_, **__: Errs(),
        "allows by nothing": lambda *_, **__: Mute(),
    }
    stage.world.authority.reload()  # nothing that was decided before may answer for the broken engine
    stage.undo.enter_context(patch.object(cedarpy, "is_authorized", ways[value]))


async def _log(stage: Stage, _: Session, value: Any) -> None:
    """SQLite itself says no: the file may not be written, or not even be read."""
    db: sqlite3.Connection = stage.world.log._writer.db
    if value == "read-only":
        db.execute("PRAGMA query_only = ON")
        stage.undo.callback(db.execute, "PRAGMA query_only = OFF")
    else:
        stage.world.log._closed = True
        stage.undo.callback(setattr, stage.world.log, "_closed", False)


async def _limiter(stage: Stage, _: Session, value: Any) -> None:
    """The file of the shared counts is gone, and so is the folder that it was in."""
    assert value == "unreachable"
    limits = stage.world.limits
    limits.close()
    stage.undo.enter_context(patch.object(limits, "_path", str(stage.folder / "gone" / "limits.db")))
    stage.undo.callback(limits.close)


async def _engine_patience(stage: Stage, _: Session, seconds: Any) -> None:
    """How long a decision is waited for."""
    stage.undo.enter_context(patch.object(stage.world.desk._engine, "_runner", OffLoop(within_s=float(seconds))))


async def _quicker(stage: Stage, session: Session, value: Any) -> None:
    """A person's no is in the log right before the session's next entry that is no refusal: nobody could read it."""
    log, append = stage.world.log, stage.world.log.append

    async def behind_it(drafts: Any, **how: Any) -> Any:
        if any(isinstance(draft.event, EffectIntended) for draft in drafts):
            patched.stop()
            if value == "revoke":
                await stage.world.revoke(SessionId(session.badge.session))
            elif value == "revoke lender":
                await stage.world.revoke(SessionId(session.badge.chain[-1].session))
            else:
                await _stop(stage, session, value)
        return await append(drafts, **how)

    patched = patch.object(log, "append", behind_it)
    patched.start()

    def stop() -> None:
        with suppress(RuntimeError):  # it has been quicker
            patched.stop()

    stage.undo.callback(stop)


async def _wire(stage: Stage, _: Session, value: Any) -> None:
    """Shorter deadlines: nothing is learnt from waiting longer."""
    for name, seconds in value.items():
        stage.undo.enter_context(patch.object(wire, name, float(seconds)))


async def _crowd(stage: Stage, session: Session, value: Any) -> None:
    """So many connections that have begun a request and say no more."""
    host, port = stage.url.split("/")[2].split(":")
    lines = ["POST /mcp HTTP/1.1", f"Host: {host}:{port}"]
    if value.get("with") == "token":
        lines += [f"Authorization: Bearer {session.token}", "Content-Length: 100", "", "{"]
    for _ in range(value["times"]):
        _reader, writer = await asyncio.open_connection(host, int(port))
        stage.undo.callback(writer.close)
        writer.write("\r\n".join([*lines, ""]).encode() if "with" not in value else "\r\n".join(lines).encode())
    await asyncio.sleep(0.3)  # until the server has read them


VERBS: dict[str, Verb] = {
    "engine_patience": _engine_patience,
    "quicker": _quicker,
    "wire": _wire,
    "crowd": _crowd,
    "file": _file,
    "link": _link,
    "hard_link": _hard_link,
    "pipe": _pipe,
    "race": _race,
    "call": _call,
    "taint": _taint,
    "sign_out": _sign_out,
    "sign_in_again": _sign_in_again,
    "sign_in_for": _sign_in_for,
    "act_as": _act_as,
    "lent_by": _lent_by,
    "revoke": _revoke,
    "stop": _stop,
    "patience": _patience,
    "clock": _clock,
    "engine": _engine,
    "log": _log,
    "limiter": _limiter,
}
