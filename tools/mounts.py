"""The belt of other people's MCP servers: their tools under names of ours, behind the same gate as our own.

A tool of the server mounted as `tracker` is `tracker__create_issue` here, exists only as it was pinned, and is seen
only by roles whose grants name it. Reading ones are called directly, like every read; all others are effects: the gate
claims the call's key, records the intent, calls once, and records what came of it. Such a server leaves us no trace to
look for, so an answer that never came is nobody's to repeat: it is `unknown`, and a person's.

The server's words (its descriptions and its answers) are material: bounded, rid of what nobody sees, and an answer
taints the session that reads it unless the platform team has said otherwise of this tool.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from controller.desk import effect_key
from controller.domain.decision import Claim, Decision, decide
from controller.domain.ids import Digest, EffectKey, canonical, digest_bytes
from controller.domain.verbs import CallMounted, MountAnswered, Verb
from controller.errors import ConfigError, FlyballError, Permanent, Refused
from controller.ports import Blocked, Done, Failed, Gate, Outcome, Pending, Seals, ToolDefinition, ToolResult, Unknown
from controller.settings import MountedTool, MountSection
from rbac.catalogue import AGENT_TOOLS, VERBS, Direction, Need, Sensitivity, mount_scope
from rbac.catalogue import Tool as Catalogued
from tools.belt import Call, NotPossible, Tool, bounded
from tools.mount_schema import MAX_WORDS, Unusable, plain, rebuilt

LIMIT_S = 35.0  # above the deadline of an effect, so that the gate's own bound is the one that counts
MAX_ANSWER_BYTES = 256 * 1024
MAX_MOUNTS, MAX_TOOLS = 50, 200  # servers; pinned tools of one
MAX_NAME = 64  # characters of a tool's name that every model's interface takes
_MOUNT = re.compile(r"[a-z][a-z0-9-]{0,29}")
_TOOL = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LOOKS = str.maketrans({"0": "o", "1": "l", "i": "l", "5": "s", "8": "b", "-": "_"})
_OWN = {"flyball", "git", "gate", "mount", "mounts", *(tool.scope.partition(":")[0] for tool in AGENT_TOOLS.values())}

logger = logging.getLogger(__name__)


class Offered(Protocol):
    """A tool as its server describes it, and still as it was pinned."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def input_schema(self) -> Mapping[str, Any]: ...
    @property
    def digest(self) -> Digest: ...


class Server(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def section(self) -> MountSection: ...

    def pinned(self) -> Sequence[Offered]:
        """By the latest list, which is a minute old at most while the server can be reached."""
        ...

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Raises Permanent when nothing can have been carried out, Unavailable when it may have been."""
        ...


def name_of(mount: str, tool: str) -> str:
    return f"{mount}__{tool}"


def catalogue_of(mounts: Mapping[str, MountSection]) -> dict[str, Catalogued]:
    """What rules are made over, by name. Raises ConfigError for names that could be taken for others."""
    _check_names(mounts)
    return {
        name_of(mount, tool): _catalogued(mount, pin)
        for mount, section in mounts.items()
        for tool, pin in section.tools.items()
    }


def _catalogued(mount: str, pin: MountedTool) -> Catalogued:
    reads = pin.tool_class == "read"
    return Catalogued(
        Direction.SAFE if reads else Direction.FORWARD,
        frozenset({Need.REPOSITORY}),
        scope=mount_scope(mount),
        production_impacting=pin.production_impacting,
        sensitivity=Sensitivity[pin.sensitivity.upper()],
        broadcasts=pin.broadcasts,
        taints=pin.taints,
        reads=reads,
    )


def _check_names(mounts: Mapping[str, MountSection]) -> None:
    if len(mounts) > MAX_MOUNTS:
        raise ConfigError(f"gateway.mounts has {len(mounts)} servers", f"Mount at most {MAX_MOUNTS}")
    taken = {_looks(name): f"Flyball's own {name}" for name in (*_OWN, *AGENT_TOOLS, *VERBS)}
    for what, name in _all_names(mounts):
        other = taken.setdefault(_looks(name), what)
        if other != what:
            raise ConfigError(f"{what} can be taken for {other}", "Rename the mount, or pin only one of the two")


def _all_names(mounts: Mapping[str, MountSection]) -> Iterator[tuple[str, str]]:
    for mount, section in mounts.items():
        where = f"gateway.mounts.{mount}"
        if not _MOUNT.fullmatch(mount) or "--" in mount:
            raise ConfigError(f"{where} is no name of a mount", "Use up to 30 of [a-z0-9-], beginning with a letter")
        if len(section.tools) > MAX_TOOLS:
            raise ConfigError(f"{where} has {len(section.tools)} tools", f"Pin at most {MAX_TOOLS}")
        yield where, mount
        for tool in section.tools:
            if not _TOOL.fullmatch(tool) or len(name_of(mount, tool)) > MAX_NAME:
                raise ConfigError(
                    f"{where}.tools.{tool!r} is no name of a tool",
                    f"Only [A-Za-z0-9_-] can be mounted, and at most {MAX_NAME} characters with the mount's name",
                )
            yield f"{where}.tools.{tool}", name_of(mount, tool)


def _looks(name: str) -> str:
    """The same for two names that a reader could take for each other; they are ASCII already."""
    return re.sub("_+", "_", name.casefold().translate(_LOOKS)).replace("rn", "m").replace("vv", "w")


def described(mount: str, offered: Offered, pin: MountedTool) -> ToolDefinition:
    """As agents see it. Raises Unusable."""
    said = plain(offered.description)[:MAX_WORDS]
    return ToolDefinition(
        name_of(mount, offered.name),
        f"A tool of the outside server {mount}, which says of it: {said or '(nothing)'}",
        rebuilt(offered.input_schema),
        tool_class=pin.tool_class,
    )


class MountBelt:
    def __init__(self, servers: Sequence[Server], *, gate: Gate, seals: Seals) -> None:
        self._servers = servers
        self._gate = gate
        self._seals = seals
        self._definitions: dict[tuple[str, Digest], ToolDefinition | None] = {}  # None: it cannot be used

    def tools(self) -> list[Tool]:
        """Those that exist at this moment: ask again for every list and every call."""
        found = ((server, one) for server in self._servers for one in server.pinned())
        return [tool for server, one in found if (tool := self._tool(server, one)) is not None]

    def _tool(self, server: Server, offered: Offered) -> Tool | None:
        """None: the definition is pinned, and yet nothing that we could check or show."""
        pin, key = server.section.tools[offered.name], (server.name, offered.digest)
        if key not in self._definitions:
            self._definitions[key] = _usable(server.name, offered, pin)
        definition = self._definitions[key]
        if definition is None:
            return None

        async def read(call: Call) -> ToolResult:
            return await self._read(server, offered.name, call)

        async def act(call: Call) -> ToolResult:
            return await self._act(server, offered, call)

        return Tool(definition, act if pin.tool_class == "effect" else read, limit_s=LIMIT_S)

    async def _read(self, server: Server, tool: str, call: Call) -> ToolResult:
        try:
            found = await server.call(tool, call.arguments)
        except FlyballError as error:
            raise NotPossible(error.message) from None
        return ToolResult(_material(found.text), found.error)

    async def _act(self, server: Server, offered: Offered, call: Call) -> ToolResult:
        badge = call.badge
        arguments = canonical(call.arguments)
        verb = CallMounted(
            repository=badge.repository, mount=server.name, tool=offered.name, arguments=arguments.decode()
        )
        try:
            outcome = await self._gate.act(
                badge.role,
                verb,
                key=effect_key(badge.session, call.turn, call.index),
                decision=_decision(verb, offered, badge.session),
                subject=badge.stream,
                on_behalf_of=badge.on_behalf_of,
                sessions=tuple(link.stream for link in badge.chain),
            )
        except Refused as no:
            raise NotPossible(f"the call of {name_of(verb.mount, verb.tool)} was refused") from no
        return await self._told(outcome, server.name)

    async def _told(self, outcome: Outcome, mount: str) -> ToolResult:
        match outcome:
            case Done(result=MountAnswered() as answered):
                return ToolResult(await self._seals.open(answered.answer), answered.error)
            case Blocked():
                return ToolResult(f"Calls of {mount} are stopped from outside at the moment.", error=True)
            case Failed():
                return ToolResult(f"Not done: {outcome.reason}", error=True)
            case Pending() | Unknown() | Done():
                said = f"No answer came from {mount}: the call may have been carried out, or not."
                return ToolResult(f"{said} Do not make it again; a person will look.", error=True)


class MountHands:
    """`ports.Hands` for mounted servers."""

    def __init__(self, servers: Sequence[Server], seals: Seals) -> None:
        self._servers = {server.name: server for server in servers}
        self._seals = seals

    async def act(self, key: EffectKey, verb: Verb) -> MountAnswered:  # noqa: ARG002 - the server takes no key of ours
        if not isinstance(verb, CallMounted) or verb.mount not in self._servers:
            raise Permanent(f"{verb.name} names no server that is mounted here", "Mount it under [gateway.mounts]")
        found = await self._servers[verb.mount].call(verb.tool, json.loads(verb.arguments))
        return MountAnswered(answer=await self._seals.seal(_material(found.text)), error=found.error)

    async def find(self, key: EffectKey, verb: Verb) -> None:
        raise Permanent(f"{verb.name} of {key} leaves no trace that could be found", "Ask whoever runs the server")


def _material(text: str) -> str:
    return plain(bounded(text, MAX_ANSWER_BYTES))


def _usable(mount: str, offered: Offered, pin: MountedTool) -> ToolDefinition | None:
    try:
        return described(mount, offered, pin)
    except Unusable as why:
        logger.warning("mount %s: %s is pinned and cannot be used: %s", mount, offered.name, why.message)
        return None


def _decision(verb: CallMounted, offered: Offered, session: str) -> Decision:
    name, arguments = name_of(verb.mount, verb.tool), digest_bytes(verb.arguments.encode())
    pinned = Claim(text=f"{name} is as it was pinned", evidence=f"definition {offered.digest}", digest=offered.digest)
    asked = Claim(text=f"session {session} asked for it", evidence=f"arguments {arguments}", digest=arguments)
    return decide(
        f"Call {name} for session {session}?",
        "call",
        over={"refuse": "the role's grants name it, and its definition is the pinned one"},
        because=(pinned, asked),
        would_change="another definition, a grant taken back, or a stop",
        fallback="whoever runs the server undoes it there; it is never called twice for one request",
        rules=("mounts/pinned", "mounts/once"),
    )
