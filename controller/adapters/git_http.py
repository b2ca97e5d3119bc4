"""The forge's repositories as git serves them over HTTP: git's own upload-pack for fetches, git_receive for pushes.

What may be served is told from outside, as refs with their commits; nothing here decides. Refs that were not told are
hidden from git itself, objects can be wanted by the tips of visible refs only, and a fetch runs no hook, writes nothing
and ends with whoever asked for it. See git-http-backend(1), gitprotocol-http(5) and uploadpack.* in git-config(1).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path

from controller.adapters import git_pack
from controller.adapters.git_history import GitHistory, objects_of
from controller.adapters.git_pack import FetchRequest, PushRequest, RefCommand
from controller.adapters.git_process import git_environment, git_output, git_stream, nothing, once
from controller.adapters.git_receive import Offer, PushLimits, Readable, receiving
from controller.adapters.git_store import Store, branch_ref
from controller.domain.ids import Branch, Commit, Repository
from controller.errors import ConfigError, Permanent
from controller.provenance.identity import GitIdentity

MAX_TIPS = 1_000  # visible refs
TIPS_S = 5.0
TIPS_BYTES = 1024 * 1024
PLAIN_FETCHES: Sequence[tuple[str, str]] = (
    ("uploadpack.allowTipSHA1InWant", "false"),
    ("uploadpack.allowReachableSHA1InWant", "false"),
    ("uploadpack.allowAnySHA1InWant", "false"),
    ("uploadpack.allowFilter", "false"),
    ("uploadpack.allowRefInWant", "false"),
    ("transfer.advertiseObjectInfo", "false"),
    ("transfer.advertiseSID", "false"),
)

logger = logging.getLogger(__name__)


class GitHttp:
    """`GitPlumbing` over the folder of bare repositories. `protected`: each one's branch that releases are made from.

    Lives in one event loop.
    """

    def __init__(self, store: Store, protected: Mapping[str, Branch], limits: PushLimits | None = None) -> None:
        self._store = store
        self._protected = dict(protected)
        self._limits = limits or PushLimits()
        self._history = GitHistory()

    # --- looking -----------------------------------------------------------------------------------------------------

    def protected(self, repository: Repository) -> Branch:
        """Raises ConfigError for a repository that is not served."""
        if repository not in self._protected:
            raise ConfigError(f"repository {repository!r} is not served over git", "Configure it")
        return self._protected[repository]

    async def tips(self, repository: Repository, visible: Sequence[str]) -> Mapping[str, Commit]:
        """Every branch that has one of these full names, or lies beneath one."""
        listed = await git_output(
            "for-each-ref",
            f"--count={MAX_TIPS + 1}",
            "--format=%(objectname) %(objecttype) %(refname)",
            *visible,
            environment=git_environment(self._bare(repository)),
            seconds=TIPS_S,
            limit_bytes=TIPS_BYTES,
        )
        rows = [line.split(" ", 2) for line in listed.decode().splitlines()]
        if len(rows) > MAX_TIPS:
            raise Permanent(f"more than {MAX_TIPS} branches would be shown", "Delete branches that nobody needs")
        return {ref: Commit(commit) for commit, kind, ref in rows if kind == "commit"}

    async def paths(self, repository: Repository, tips: Mapping[str, Commit]) -> frozenset[str]:
        """Every path that the tips' histories have ever had."""
        trunk = branch_ref(self.protected(repository))
        return await self._history.paths(self._bare(repository), tips, trunk)

    async def unreached(
        self, repository: Repository, tips: Iterable[Commit], wanted: Sequence[Commit]
    ) -> tuple[Commit, ...]:
        """Those wanted that are not in the tips' histories, whether there are such objects or not."""
        known = frozenset(tips)
        if not set(wanted) - known:
            return ()
        history = await self._history.commits(self._bare(repository), known)
        return tuple(commit for commit in wanted if commit.encode() not in history)

    # --- the wire ----------------------------------------------------------------------------------------------------

    def fetch_request(self, body: bytes) -> FetchRequest:
        """Raises Permanent for what is no plain fetch."""
        return git_pack.fetch_request(body)

    async def push_request(self, chunks: AsyncIterator[bytes]) -> PushRequest:
        """Leaves the pack unread. Raises Permanent for what is no plain push."""
        return await git_pack.push_request(chunks)

    def fetch_refused(self, words: str) -> bytes:
        return git_pack.error(words)

    def push_answered(self, commands: Iterable[RefCommand], words: str) -> bytes:
        """No words: they have been carried out."""
        return git_pack.report(commands, words)

    # --- serving -----------------------------------------------------------------------------------------------------

    async def advertised(
        self, repository: Repository, visible: Sequence[str], tips: Mapping[str, Commit], version: int
    ) -> AsyncGenerator[bytes]:
        """What a fetch begins with, in version 0, 1 or 2 of the protocol."""
        if version < 2:  # noqa: PLR2004 - of the protocol
            yield git_pack.service_line("git-upload-pack")
        async with aclosing(self._upload_pack(repository, visible, tips, version, b"", "--advertise-refs")) as chunks:
            async for chunk in chunks:
                yield chunk

    async def fetched(
        self, repository: Repository, visible: Sequence[str], tips: Mapping[str, Commit], version: int, body: bytes
    ) -> AsyncGenerator[bytes]:
        """What git answers to one request, told of no commit but those shown. Closing the iterator ends git."""
        history = await self._history.commits(self._bare(repository), tips.values())
        told = await asyncio.to_thread(git_pack.known_only, body, history)
        async with aclosing(self._upload_pack(repository, visible, tips, version, told)) as chunks:
            async for chunk in chunks:
                yield chunk

    def push_advertised(self, tips: Mapping[str, Commit]) -> bytes:
        return git_pack.service_line("git-receive-pack") + git_pack.push_advertisement(tips)

    def received(
        self, repository: Repository, tips: Mapping[str, Commit], push: PushRequest, by: GitIdentity
    ) -> AbstractAsyncContextManager[Offer]:
        """The push's one new commit, its objects in quarantine until `Offer.keep`. Leaving it throws the rest away."""
        bare, trunk = self._bare(repository), tips.get(branch_ref(self.protected(repository)))
        may_read = Readable(lambda: self._history.commits(bare, tips.values()), lambda: objects_of(bare, tips.values()))
        return receiving(bare, push, trunk, may_read, by=by, limits=self._limits)

    async def _upload_pack(
        self,
        repository: Repository,
        visible: Sequence[str],
        tips: Mapping[str, Commit],
        version: int,
        body: bytes,
        *options: str,
    ) -> AsyncGenerator[bytes]:
        bare = self._bare(repository)
        config = [*PLAIN_FETCHES, ("transfer.hideRefs", "refs"), *(("transfer.hideRefs", f"!{ref}") for ref in visible)]
        if branch_ref(self.protected(repository)) not in tips or not await self._head_is(bare, repository):
            config.append(("transfer.hideRefs", "HEAD"))
        environment = git_environment(bare, config, **({"GIT_PROTOCOL": f"version={version}"} if version else {}))
        stream = git_stream(
            "upload-pack", "--stateless-rpc", *options, str(bare),
            environment=environment, feed=once(body) if body else nothing(),
        )  # fmt: skip
        async with aclosing(stream) as chunks:
            try:
                async for chunk in chunks:
                    yield chunk
            except Permanent as no:  # git has told its client; what is left is to tell the operator
                logger.warning("a fetch from %s ended early: %s", repository, no)

    async def _head_is(self, bare: Path, repository: Repository) -> bool:
        head = await asyncio.to_thread((bare / "HEAD").read_text)
        return head.strip() == f"ref: {branch_ref(self.protected(repository))}"

    def _bare(self, repository: Repository) -> Path:
        path = self._store.path(repository)
        if not self._store.exists(repository):
            raise ConfigError(f"repository {repository!r} is not in {self._store.root}", "Import it first")
        return path.resolve()
