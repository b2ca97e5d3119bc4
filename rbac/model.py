"""What may be granted, what is asked, what is answered. Every value is frozen; a field left empty means no."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from controller.errors import Refused
from rbac import canonical
from rbac.catalogue import TOOLS, Direction, Role
from rbac.path_classes import PathClass
from rbac.patterns import check_pattern

EVERY = "*"  # every repository or environment that this Flyball is configured to serve
ANY_DELIVERY = "*"  # for a caller whose tie to a delivery is kept elsewhere: any one segment
OWN_BRANCH = "{own}"  # the one branch that the session works on
PROTECTED_BRANCH = "{protected}"  # the branch of the repository that releases are made from
DELIVERY = "{delivery}"  # the delivery that is acted for, as one segment
MAX_CHAIN = 3  # lenders behind one caller; a session may lend to a depth of 2, so one more than can come about


class Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _tool(name: str, info: ValidationInfo) -> str:
    """Known names are those of the context's catalogue, which has the mounted tools; without one, Flyball's own."""
    known = (info.context or {}).get("catalogue", TOOLS)
    if name in known:
        return name
    if "__" in name:
        mount = name.partition("__")[0]
        raise ValueError(f"there is no tool {name!r}: pin it under [gateway.mounts.{mount}.tools], or take it out here")
    raise ValueError(f"there is no tool or verb {name!r}; there are {', '.join(sorted(known))}")


def _branch_pattern(pattern: str) -> str:
    if pattern not in {OWN_BRANCH, PROTECTED_BRANCH}:
        check_pattern(pattern.replace(DELIVERY, "delivery"))
    return pattern


def _named(check: Callable[[str], str]) -> AfterValidator:
    """A canonical check as pydantic wants it: it only turns ValueErrors into errors of a field."""

    def checked(name: str) -> str:
        try:
            return check(name)
        except Refused as no:
            raise ValueError(no.message) from no

    return AfterValidator(checked)


def _or_every(check: Callable[[str], str]) -> Callable[[str], str]:
    return lambda name: name if name == EVERY else check(name)


PathPattern = Annotated[str, AfterValidator(check_pattern)]
BranchPattern = Annotated[str, AfterValidator(_branch_pattern)]
ToolName = Annotated[str, AfterValidator(_tool)]
ClassName = Annotated[PathClass, Field(strict=False)]
RepositoryName = Annotated[str, _named(_or_every(canonical.repository))]
EnvironmentName = Annotated[str, _named(_or_every(canonical.environment))]


class Paths(Closed):
    """Files by pattern, and by the classes of `rbac.path_classes`.

    What is never given outranks `allowed`, and so does what is not given to a run that has read outsiders' text.
    """

    allowed: tuple[PathPattern, ...] = ()
    never: tuple[PathPattern, ...] = ()
    never_tainted: tuple[PathPattern, ...] = ()
    never_classes: tuple[ClassName, ...] = ()
    never_tainted_classes: tuple[ClassName, ...] = ()


class Grant(Closed):
    """Some tools of a role, and where they may be used."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=60)]
    tools: Annotated[tuple[ToolName, ...], Field(min_length=1)]
    repositories: tuple[RepositoryName, ...] = ()
    branches: tuple[BranchPattern, ...] = ()
    environments: tuple[EnvironmentName, ...] = ()
    paths: Paths = Paths()


class RoleGrants(Closed):
    """Everything that one agent role may do. A tool stands in one grant only: one answer to where it may be used."""

    role: Annotated[Role, Field(strict=False)]
    why: Annotated[str, Field(min_length=1, max_length=400)]
    grants: Annotated[tuple[Grant, ...], Field(min_length=1, max_length=20)]

    @model_validator(mode="after")
    def _each_tool_once(self) -> Self:
        seen: dict[str, str] = {}
        if len({grant.name for grant in self.grants}) < len(self.grants):
            raise ValueError("two grants of the role have one name")
        for grant in self.grants:
            for tool in grant.tools:
                if tool in seen:
                    raise ValueError(f"{tool} is granted twice, in {seen[tool]} and in {grant.name}")
                seen[tool] = grant.name
        return self


class Served(Closed):
    """A repository that this Flyball is configured to serve."""

    repository: Annotated[str, _named(canonical.repository)]
    branch: Annotated[str, _named(canonical.branch)]  # the one that releases are made from
    environments: tuple[Annotated[str, _named(canonical.environment)], ...] = ()


class Request(Closed):
    """One call, as the gate knows it: facts about the caller come from its credential, never from an argument."""

    agent: str
    tool: str
    repository: str | None = None  # None: the call names none
    paths: tuple[str, ...] = ()
    branch: str | None = None  # None: the call names none
    environment: str | None = None  # None: the call names none
    direction: Direction | None = None  # None: as catalogued; anything else must agree with the catalogue
    tainted: bool = (
        False  # this very run has read text by somebody outside; a delivery's own taint is the risk policy's matter
    )
    read_confidential: bool = False  # this very run has been given the results of a tool catalogued as confidential
    scopes: frozenset[str] | None = None  # of the caller's token. None: no token narrows the grants
    delivery: str | None = None  # None: acts for none, and `{delivery}` matches nothing
    own_repository: str | None = None  # None: not tied to one; a session always is
    own_branch: str | None = None  # None: has none, and `{own}` matches nothing
    task_paths: tuple[PathPattern, ...] | None = (
        None  # patterns that the task may change; None: no task narrows the grant
    )
    protected_paths: tuple[PathPattern, ...] = ()  # patterns that the repository keeps from every agent
    # Whoever lent the caller its authority, nearest first: each with its own facts, asking for the very same call.
    chain: tuple[Request, ...] = ()


class Decision(Closed):
    """`rules` are the `@id`s of the policies that decided, or the rule that refused before Cedar was asked."""

    allowed: bool
    rules: Annotated[tuple[str, ...], Field(min_length=1)]
    reason: str
