"""Every effect that Flyball can have on the world.

One frozen model a verb: what it takes, what it gives back, and how it stays single.

Forward verbs move a change towards users; safe verbs move users away from a change, or tell people. Stops, freezes and
budgets block forward verbs only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, Self

from controller.domain.base import Fact
from controller.domain.ids import Branch, Commit, Digest, EffectKey, Repository, Service
from controller.domain.sealed import Sealed

Direction = Literal["forward", "safe"]
Single = Literal["world-CAS", "world-unique", "probeable", "neither"]
Port = Literal["forge", "ci", "platform", "chat", "mounts"]


class Verb(Fact):
    """Arguments of one effect. `deadline_s` bounds the act; another worker may take over only after it."""

    name: ClassVar[str]
    port: ClassVar[Port]
    direction: ClassVar[Direction]
    single: ClassVar[Single]
    deadline_s: ClassVar[int] = 10
    result: ClassVar[type[Fact]]
    says: ClassVar[tuple[str, ...]] = ()  # fields in which free text leaves the house

    def cleaned(self, clean: Callable[[str], str]) -> Self:
        """With its free text as `clean` gives it back. The very same verb where nothing is changed."""
        before = {name: getattr(self, name) for name in self.says}
        after = {name: clean(text) for name, text in before.items()}
        return self if after == before else self.model_copy(update=after)

    @property
    def repository_scope(self) -> Repository | None:
        """The repository acted in. None: the verb touches none."""
        found: Repository | None = getattr(self, "repository", None)
        return found

    @property
    def branch_scope(self) -> Branch | None:
        """The branch of `repository_scope` acted on. None: the verb touches none."""
        found: Branch | None = getattr(self, "branch", None)
        return found

    @property
    def service_scope(self) -> Service | None:
        """The service acted on. None: the verb touches none."""
        found: Service | None = getattr(self, "service", None)
        return found


class Ok(Fact):
    """It is so now, and there is nothing more to say."""


# --- forge ------------------------------------------------------------------------------------------------------------


class PushBranch(Verb):
    """Point a branch at a commit that the forge has, if it is still at `expect`. Single by compare-and-swap."""

    name: ClassVar[str] = "forge.push"
    port: ClassVar[Port] = "forge"
    direction: ClassVar[Direction] = "forward"
    single: ClassVar[Single] = "world-CAS"
    result: ClassVar[type[Fact]] = Ok
    repository: Repository
    branch: Branch
    commit: Commit
    expect: Commit | None  # None: the branch must not exist


class PullRequest(Fact):
    number: int
    head: Commit
    state: Literal["open", "merged", "closed"]


class OpenPullRequest(Verb):
    """One open pull request per head branch. Single because the forge allows no second one."""

    name: ClassVar[str] = "forge.open_pull_request"
    says: ClassVar[tuple[str, ...]] = ("title", "body")
    port: ClassVar[Port] = "forge"
    direction: ClassVar[Direction] = "forward"
    single: ClassVar[Single] = "world-unique"
    result: ClassVar[type[Fact]] = PullRequest
    repository: Repository
    branch: Branch
    head: Commit
    base: Branch
    title: str
    body: str


class LandCommit(Verb):
    """Advance a branch from `expect` to `commit`, a descendant of it; the pull requests it carries become merged."""

    name: ClassVar[str] = "forge.land"
    port: ClassVar[Port] = "forge"
    direction: ClassVar[Direction] = "forward"
    single: ClassVar[Single] = "world-CAS"
    result: ClassVar[type[Fact]] = Ok
    repository: Repository
    branch: Branch
    expect: Commit
    commit: Commit
    pull_requests: tuple[int, ...]


class ClosePullRequest(Verb):
    name: ClassVar[str] = "forge.close_pull_request"
    says: ClassVar[tuple[str, ...]] = ("reason",)
    port: ClassVar[Port] = "forge"
    direction: ClassVar[Direction] = "safe"
    single: ClassVar[Single] = "world-CAS"
    result: ClassVar[type[Fact]] = Ok
    repository: Repository
    number: int
    reason: str


class CommentOnPullRequest(Verb):
    """Found again by the marker that the effect's key leaves in the comment."""

    name: ClassVar[str] = "forge.comment"
    says: ClassVar[tuple[str, ...]] = ("text",)
    port: ClassVar[Port] = "forge"
    direction: ClassVar[Direction] = "safe"
    single: ClassVar[Single] = "probeable"
    result: ClassVar[type[Fact]] = Ok
    repository: Repository
    number: int
    text: str


class Author(Fact):
    """An agent's session, and the head that it brought. The log says so, whatever the commits say of themselves."""

    head: Commit
    session: str
    agent: str
    model: str
    delivery: str
    audit_entry: str  # "<origin>#<index>" of its ChangeAuthored
    prompt_digest: Digest | None = None  # None: no prompt


class Annotated(Fact):
    agent_lines: int  # lines that agents' sessions added
    commits: int  # commits that carry a note of lines, the landed one included


class AnnotateCommit(Verb):
    """Notes beside a landed commit: who wrote which lines, and a signed statement of how it landed.

    The commit is not changed. Found again by what the notes say; the notes' refs move by compare-and-swap.
    """

    name: ClassVar[str] = "forge.annotate"
    port: ClassVar[Port] = "forge"
    direction: ClassVar[Direction] = "safe"
    single: ClassVar[Single] = "probeable"
    result: ClassVar[type[Fact]] = Annotated
    repository: Repository
    base: Commit  # what it landed on: commits that this has are not of this landing
    commit: Commit
    authors: tuple[Author, ...]  # empty: no agent took part
    envelope: str  # DSSE, one line of JSON


# --- ci ---------------------------------------------------------------------------------------------------------------


class RunStarted(Fact):
    run: str


class StartRun(Verb):
    """Run the repository's tests on a commit, in a sandbox. One run per (repository, commit, attempt, purpose).

    With a `base`, its tests and its test configuration are run against the commit too, as a second verdict.
    """

    name: ClassVar[str] = "ci.start"
    port: ClassVar[Port] = "ci"
    direction: ClassVar[Direction] = "forward"
    single: ClassVar[Single] = "world-unique"
    result: ClassVar[type[Fact]] = RunStarted
    repository: Repository
    commit: Commit
    attempt: int = 1
    base: Commit | None = None  # what the commit is compared with; None: it stands by itself
    purpose: Literal["tests", "mutants"] = "tests"  # "mutants": of the lines changed since `base`


def run_key(verb: StartRun) -> EffectKey:
    """The same for whoever asks for the same run: the step that checks a change, and the queue that lands it."""
    against = f"/{verb.base}" if verb.base else ""
    return EffectKey(f"ci/{verb.repository}/{verb.commit}{against}/{verb.attempt}")


# --- platform ---------------------------------------------------------------------------------------------------------


class Built(Fact):
    artefact: Digest
    duration_ms: int
    isolation: str = ""  # which sandbox builds and runs it, in words. Empty: the platform does not say


class Build(Verb):
    """Run the build command on a commit; the digest of its output is what gets deployed. One build per commit."""

    name: ClassVar[str] = "platform.build"
    port: ClassVar[Port] = "platform"
    direction: ClassVar[Direction] = "forward"
    single: ClassVar[Single] = "world-unique"
    deadline_s: ClassVar[int] = 300
    result: ClassVar[type[Fact]] = Built
    service: Service
    environment: str
    repository: Repository
    commit: Commit


class CanaryStarted(Fact):
    instances: int


class StartCanary(Verb):
    """Start instances of an artefact beside the confirmed release, at weight 0.

    Single: a service has one canary slot, named by release.
    """

    name: ClassVar[str] = "platform.start_canary"
    port: ClassVar[Port] = "platform"
    direction: ClassVar[Direction] = "forward"
    single: ClassVar[Single] = "world-CAS"
    deadline_s: ClassVar[int] = 20
    result: ClassVar[type[Fact]] = CanaryStarted
    service: Service
    environment: str
    release: int
    commit: Commit
    artefact: Digest
    instances: int


class WeightSet(Fact):
    weight_percent: int
    until_ms: int  # epoch ms; the platform takes the weight back by itself then


class SetWeight(Verb):
    """Send a share of traffic to the canary of this release until a deadline that the platform enforces by itself."""

    name: ClassVar[str] = "platform.set_weight"
    port: ClassVar[Port] = "platform"
    direction: ClassVar[Direction] = "forward"
    single: ClassVar[Single] = "world-CAS"
    result: ClassVar[type[Fact]] = WeightSet
    service: Service
    environment: str
    release: int
    weight_percent: int
    until_ms: int


class ConfirmRelease(Verb):
    """The release under canary becomes the confirmed one; the former one is shut down. Weights no longer expire."""

    name: ClassVar[str] = "platform.confirm"
    port: ClassVar[Port] = "platform"
    direction: ClassVar[Direction] = "forward"
    single: ClassVar[Single] = "world-CAS"
    deadline_s: ClassVar[int] = 20
    result: ClassVar[type[Fact]] = Ok
    service: Service
    environment: str
    release: int


class Restored(Fact):
    at_ms: int  # epoch ms at which all traffic was on the confirmed release
    health_checks: int  # consecutive good ones seen after that


class RestoreTraffic(Verb):
    """All traffic to the confirmed release, canary shut down, health verified. Works with everything else on fire."""

    name: ClassVar[str] = "platform.restore"
    port: ClassVar[Port] = "platform"
    direction: ClassVar[Direction] = "safe"
    single: ClassVar[Single] = "world-CAS"
    deadline_s: ClassVar[int] = 20
    result: ClassVar[type[Fact]] = Restored
    service: Service
    environment: str
    release: int
    stop_canary: bool = True


# --- chat -------------------------------------------------------------------------------------------------------------


class Told(Fact):
    message: str  # the chat system's own id of the message


class Tell(Verb):
    """One message to a person or a channel, found again by its key."""

    name: ClassVar[str] = "chat.tell"
    says: ClassVar[tuple[str, ...]] = ("text",)
    port: ClassVar[Port] = "chat"
    direction: ClassVar[Direction] = "safe"
    single: ClassVar[Single] = "probeable"
    result: ClassVar[type[Fact]] = Told
    to: str
    thread: str
    text: str


# --- mounted servers --------------------------------------------------------------------------------------------------


class MountAnswered(Fact):
    answer: Sealed  # text by somebody outside
    error: bool


class CallMounted(Verb):
    """A tool of another MCP server, which leaves no trace that we could look for: never repeated."""

    name: ClassVar[str] = "mount.call"
    port: ClassVar[Port] = "mounts"
    direction: ClassVar[Direction] = "forward"
    single: ClassVar[Single] = "neither"
    deadline_s: ClassVar[int] = 30
    result: ClassVar[type[Fact]] = MountAnswered
    repository: Repository  # of the session that calls
    mount: str
    tool: str
    arguments: str  # canonical JSON


VERBS: dict[str, type[Verb]] = {verb.name: verb for verb in Verb.__subclasses__()}
