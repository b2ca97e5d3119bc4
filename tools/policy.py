"""The belt for the rules: what this session may do, in words, and a change of them that it would like.

A proposal is tried on a copy, in a process of its own: read as strictly as the rules in force, asked every question on
both sides, put to the policy tests; then written down, sealed, for people to adopt by changing the file. Nothing here
changes a rule.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.confined import confined
from controller.domain.events import PolicyProposed
from controller.domain.ids import Digest, SessionId, StreamId
from controller.errors import Permanent
from controller.ports import Badge, Seals, ToolDefinition, ToolResult
from controller.requests import AgentRequests
from rbac.catalogue import VERBS, Role, with_mounted
from rbac.catalogue import Tool as Catalogued
from rbac.compare import Change
from rbac.decide import Authority
from rbac.load import RuleSet, load
from rbac.model import DELIVERY, OWN_BRANCH, Grant, Served
from rbac.strict_yaml import MAX_BYTES
from rbac.trial import TRIED, Trial, Tried, texts_of
from tools.belt import Call, NotPossible, Tool, schema, text_schema
from tools.effects import in_plain_words, place_of
from tools.pages import page_of_text

FILE = re.compile(r"grants/[a-z][a-z0-9-]{0,59}\.yaml|policy/[a-z][a-z0-9_-]{0,59}\.cedar")
MAX_WHY = 2_000
MOST_TOLD = 20  # gains, losses and failed cases, each
TRYING_S = 120.0  # every question on both sides is seconds of one core
TRIED_WITHIN_S = 100.0
MAX_MEMORY_BYTES = 1 << 30
MAX_ANSWER_BYTES = 8 << 20
DIGEST_CHARS = 12  # of the digest, in the name of a proposal


@dataclass(frozen=True, slots=True)
class Rules:
    """Where the rules in force were read from, and for what."""

    authority: Authority
    folder: Path
    served: tuple[Served, ...]
    mounted: Mapping[str, Catalogued]

    def read(self) -> RuleSet:
        """Raises NotPossible when the files are not those in force any more, ConfigError when they are none."""
        if Authority(self.served, self.folder, self.mounted).digest != self.authority.digest:
            raise NotPossible("the files of the rules are being changed at the moment; ask again later")
        return load(self.folder, with_mounted(self.mounted))


class PolicyBelt:
    def __init__(
        self,
        *,
        rules: Rules,
        requests: AgentRequests,
        seals: Seals,
        tainted: Callable[[str], bool],
        page_bytes: int,
    ) -> None:
        self._rules = rules
        self._requests = requests
        self._seals = seals
        self._tainted = tainted
        self._page_bytes = page_bytes
        self._one_at_a_time = asyncio.Lock()

    def tools(self) -> list[Tool]:
        return [Tool(READ_POLICY, self.read_policy), Tool(PROPOSE_POLICY, self.propose_policy, limit_s=TRYING_S)]

    async def read_policy(self, call: Call) -> ToolResult:
        rules, badge = await asyncio.to_thread(self._rules.read), call.badge
        role = rules.roles.get(Role(badge.role))
        if role is None:
            raise NotPossible(f"{badge.role} has no grants")
        tainted = badge.tainted or self._tainted(badge.session)
        lines = [f"{badge.role}: {role.why}", *_session(badge, tainted=tainted)]
        for grant in role.grants:
            lines += self._grant(badge, grant, tainted=tainted)
        lines.append(f"rules: {self._rules.authority.digest}")
        return ToolResult(page_of_text("\n".join(lines), 0, self._page_bytes))

    async def propose_policy(self, call: Call) -> ToolResult:
        file, text = call.arguments["file"], call.arguments["text"]
        if FILE.fullmatch(file) is None or not (self._rules.folder / file).is_file():
            raise NotPossible(f"{file[:100]} is none of the files of grants and policies")
        async with self._one_at_a_time:
            tried = await self._try(file, text, call.badge.session)
        stream = StreamId(f"policy/{tried.after.removeprefix('sha256:')[:DIGEST_CHARS]}")
        proposed = PolicyProposed(
            file=file,
            before=Digest(self._rules.authority.digest),
            after=Digest(tried.after),
            text=await self._seals.seal(text),
            why=await self._seals.seal(call.arguments["why"]),
            gains=tried.comparison.gained_calls,
            losses=tried.comparison.lost_calls,
            cases_failed=len(tried.failed),
            agent=call.badge.role,
            session=SessionId(call.badge.session),
            event_id=place_of(call).key,
        )
        with in_plain_words():
            new = await self._requests.propose(place_of(call), stream, proposed)
        head = f"Recorded as {stream}." if new else f"These very rules have been proposed already, as {stream}."
        head += " It changes nothing until a person adopts it by changing the file."
        return ToolResult(page_of_text("\n".join(_told(tried)), 0, self._page_bytes, head=head))

    def _grant(self, badge: Badge, grant: Grant, *, tainted: bool) -> list[str]:
        """Tools that no token reaches are the loop's own verbs: they go through tools of this list or not at all."""
        catalogue = with_mounted(self._rules.mounted)
        tools = [name for name in grant.tools if name not in VERBS]
        kept = [name for name in tools if badge.scopes is None or catalogue[name].scope in badge.scopes]
        if not kept:
            return []
        branches = [one.replace(OWN_BRANCH, badge.branch).replace(DELIVERY, badge.delivery) for one in grant.branches]
        paths = grant.paths
        never = (*paths.never, *(f"({name})" for name in paths.never_classes))
        if tainted:
            never += (*paths.never_tainted, *(f"({name})" for name in paths.never_tainted_classes))
        places = {
            "branches": branches,
            "environments": grant.environments,
            "paths": paths.allowed,
            "never": never,
        }
        where = [f"    {name}: {', '.join(values)}" for name, values in places.items() if values]
        return [f"  {grant.name}: {', '.join(kept)}", *where]

    async def _try(self, file: str, text: str, asker: str) -> Tried:
        """In a process of its own. Raises NotPossible for a text that cannot be tried: file, line and way out."""
        trial = await asyncio.to_thread(self._trial, file, text)
        try:
            answer = await confined(
                TRIED,
                trial.model_dump_json().encode(),
                seconds=TRIED_WITHIN_S,
                memory_bytes=MAX_MEMORY_BYTES,
                output_bytes=MAX_ANSWER_BYTES,
                asker=asker,
            )
        except Permanent as wrong:
            raise NotPossible(f"{wrong.message}. {wrong.way_out}".rstrip(". ")) from wrong
        return Tried.model_validate_json(answer)

    def _trial(self, file: str, text: str) -> Trial:
        """Raises NotPossible for a text that stands there already, and while the rules in force are being changed."""
        rules = self._rules
        rules.read()
        texts = texts_of(rules.folder)
        if text.replace("\r\n", "\n") == texts[file].replace("\r\n", "\n"):
            raise NotPossible(f"that is what stands in {file} already")
        return Trial(rules=texts, file=file, text=text, served=rules.served, mounted=rules.mounted)


def _session(badge: Badge, *, tainted: bool) -> list[str]:
    lines = [
        f"session {badge.session} in {badge.repository}, branch {badge.branch}",
        f"the task may change: {', '.join(badge.allowed) or 'nothing'}",
        f"a person's to change: {', '.join(badge.protected) or 'nothing more'}",
    ]
    if badge.scopes is not None:
        lines.append(f"the token's scopes: {', '.join(sorted(badge.scopes)) or 'none'}")
    if badge.parent is not None:
        lines.append(f"narrowed to what the session may do that lent it authority: {badge.parent.session}")
    taint = "this run has read text by somebody outside, and may do less" if tainted else "nothing from outside read"
    return [*lines, taint]


def _told(tried: Tried) -> list[str]:
    found = tried.comparison
    lines = [*_changes("gains", found.gained_calls, found.gains), *_changes("loses", found.lost_calls, found.losses)]
    if found.same_permissions:
        lines.append("No effect found: nobody may do anything more or less than before.")
    failures = [f"  {one.file}:{one.line} {one.name}: expected {one.expected}" for one in tried.failed]
    lines += [f"policy tests that fail under it: {len(failures)}", *_short(failures)]
    return lines


def _changes(what: str, calls: int, changes: Iterable[Change]) -> list[str]:
    named = [f"  {one.agent} {what} {one.tool}: {'; '.join(one.where)}" for one in changes]
    return [f"{what}: {calls} calls of those asked about", *_short(named)] if named else []


def _short(lines: list[str]) -> list[str]:
    left = len(lines) - MOST_TOLD
    return lines if left <= 0 else [*lines[:MOST_TOLD], f"  [and {left} more; a reviewer sees all of them]"]


READ_POLICY = ToolDefinition(
    "read_policy",
    "What this session may do: its grants, branches, paths, task, scopes and taint, and the digest of the rules.",
    schema(),
    tool_class="read",
)
PROPOSE_POLICY = ToolDefinition(
    "propose_policy",
    "Propose another text for one file of grants or policies. You are told who would gain and lose what, and which"
    " policy tests fail; a person must adopt it.",
    schema(
        ("file", "text", "why"),
        file=text_schema(minLength=1, maxLength=200),
        text=text_schema(minLength=1, maxLength=MAX_BYTES),
        why=text_schema(minLength=1, maxLength=MAX_WHY),
    ),
    tool_class="effect",
)
