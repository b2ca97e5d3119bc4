"""Where simulated sessions work: trees in memory, and a belt of tools on them, every call decided by the desk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from controller.domain.ids import Commit, Digest, Repository, SessionId, digest_of, session_stream
from controller.domain.session import fold as fold_session
from controller.errors import Permanent
from controller.ports import (
    Allowed,
    Badge,
    Belt,
    Committed,
    Desk,
    Log,
    RepositoryConfig,
    ToolDefinition,
    ToolResult,
    ToolSpec,
)
from controller.sim.forge import SimForge
from controller.sim.history import changed_files, lines_changed

_PATH = {"path": {"type": "string", "minLength": 1}}


def _schema(**properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


TOOLS = (
    ToolDefinition("read_file", "Read a file.", _schema(**_PATH), "read", path_arguments=("path",)),
    ToolDefinition(
        "write_file",
        "Write a whole file.",
        _schema(**_PATH, text={"type": "string"}),
        "contained",
        path_arguments=("path",),
    ),
)
TOOLS_DIGEST: Digest = digest_of({tool.name: dict(tool.input_schema) for tool in TOOLS})


@dataclass
class SimWorkspaces:
    """`Workspaces` over the simulated forge. The paths it gives are names only: nothing is on disk."""

    forge: SimForge
    trees: dict[str, dict[str, str]] = field(default_factory=dict)

    async def create(self, session: str, repository: Repository, base: Commit) -> Path:
        self.trees[session] = dict(self.forge.repository(repository).history.of(base).tree)
        return Path(f"/simulated/{session}")

    async def commit(
        self, session: str, repository: Repository, base: Commit, message: str, at: datetime
    ) -> Committed | None:
        history = self.forge.repository(repository).history
        before, after = history.of(base).tree, self.tree(session)
        files = changed_files(before, after)
        if not files:
            return None
        made = history.make(after, (base,), message, at)
        return Committed(made.id, files, sum(lines_changed(before, after, path) for path in files))

    async def kept(self, session: str) -> Path | None:
        return Path(f"/simulated/{session}") if session in self.trees else None

    async def discard(self, session: str) -> None:
        self.trees.pop(session, None)

    def tree(self, session: str) -> dict[str, str]:
        found = self.trees.get(session)
        if found is None:
            raise Permanent(f"session {session} has no working copy", "Create it first")
        return found


@dataclass
class SimTools:
    """`Tools`. A session's badge is read off its first entry."""

    log: Log
    desk: Desk
    workspaces: SimWorkspaces
    repositories: Mapping[Repository, RepositoryConfig]

    async def belt(self, session: str, role: str) -> Belt:
        badge = await self.badge_of(session)
        if badge is None or badge.role != role:
            raise Permanent(f"session {session} has not been started", "Let the author step start it")
        self.desk.sign_in(badge)
        return SimBelt(badge, self.desk, self.workspaces)

    async def badge_of(self, session: str) -> Badge | None:
        """None: it has not been started."""
        started = fold_session(SessionId(session), await self.log.read(session_stream(SessionId(session)))).started
        if started is None:
            return None
        return Badge(
            session=session,
            role=started.role,
            delivery=started.delivery,
            repository=started.repository,
            branch=started.branch,
            base=started.base,
            allowed=started.allowed_paths,
            protected=self.repositories[started.repository].protected,
            on_behalf_of="",
            tainted=started.tainted,
        )


@dataclass
class SimBelt:
    badge: Badge
    desk: Desk
    workspaces: SimWorkspaces

    async def tools(self) -> list[ToolSpec]:
        visible = await self.desk.listed(self.badge, TOOLS)
        return [ToolSpec(tool.name, tool.description, tool.input_schema) for tool in visible]

    async def call(self, name: str, arguments: Mapping[str, Any], *, turn: int, index: int) -> ToolResult:
        tool = next((one for one in TOOLS if one.name == name), None)
        answer = await self.desk.decide(self.badge, tool, name, arguments, turn=turn, index=index)
        if tool is None or not isinstance(answer, Allowed):
            return ToolResult(getattr(answer, "reason", "refused"), error=True, refused=True)
        result = self._carried_out(name, answer.arguments)
        self.desk.completed(self.badge, tool, arguments, answer, result, turn=turn, index=index)
        return result

    def _carried_out(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        tree, path = self.workspaces.tree(self.badge.session), arguments["path"]
        if name == "write_file":
            tree[path] = arguments["text"]
            return ToolResult(f"wrote {path}")
        return ToolResult(tree[path]) if path in tree else ToolResult(f"there is no file {path}", error=True)

    async def close(self) -> None:
        self.desk.sign_out(self.badge.session)
