"""Grants and policies from files: strictly, completely, or not at all.

`grants/<role>.yaml` says what a role may do, `policy/*.cedar` what holds whatever the grants say,
`policy/*.cedarschema` what a call is made of. One wrong key, type, tool or rule and nothing is loaded: the error
names file, line and way out. The digest is over the text of every file, so any change of any of them, comments
included, is another policy in the log.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError

from controller.errors import ConfigError
from rbac.catalogue import TOOLS, Role, Tool
from rbac.model import RoleGrants
from rbac.nesting import check_brackets, check_conditionals
from rbac.strict_yaml import MAX_BYTES, parse

SHIPPED = Path(__file__).parent
MOVE_A_BRANCH = frozenset({"forge.push", "forge.land"})  # decided with every path that the commit changes
_POLICY = re.compile(
    r'^(?:[ \t]*@id\("(?P<id>[a-z][a-z0-9-]*)"\)\s+)?(?:[ \t]*@why\("(?P<why>[^"\\\n]{1,300})"\)\s+)?'
    r"[ \t]*(?P<effect>permit|forbid)\b",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Files found well-formed one by one. Whether policies fit the schema is for the engine to say (`rbac.decide`)."""

    roles: Mapping[Role, RoleGrants]
    policies: Mapping[str, str]  # by file name
    schema: str
    digest: str  # "sha256:<64 hex>"
    grant_places: Mapping[str, str]  # "<role>/<grant>" to "<file>:<line>"
    policy_notes: Mapping[str, PolicyNote]  # by @id


@dataclass(frozen=True, slots=True)
class PolicyNote:
    """What a reader is told about a policy."""

    place: str  # "<file>:<line>"
    effect: str  # "permit" or "forbid"
    why: str  # as its @why says it; "": it has none


def load(folder: Path = SHIPPED, catalogue: Mapping[str, Tool] = TOOLS) -> RuleSet:
    """Read `grants/` and `policy/` under a folder; grants may name what the catalogue has. Raises ConfigError."""
    grants = _texts(folder, "grants/*.yaml")
    policies = _texts(folder, "policy/*.cedar")
    schemas = _texts(folder, "policy/*.cedarschema")
    for name, text in (policies | schemas).items():
        check_brackets(text, name)
        check_conditionals(text, name)
    grant_places: dict[str, str] = {}
    roles = [_role(name, text, catalogue, grant_places) for name, text in grants.items()]
    policy_notes: dict[str, PolicyNote] = {}
    for name, text in policies.items():
        _note_policies(name, text, policy_notes)
    return RuleSet(
        roles=MappingProxyType({found.role: found for found in roles}),
        policies=MappingProxyType(policies),
        schema="\n".join(schemas.values()),
        digest=_digest(grants | policies | schemas),
        grant_places=MappingProxyType(grant_places),
        policy_notes=MappingProxyType(policy_notes),
    )


def check_moves(rules: RuleSet) -> None:
    """A grant that may move a branch and names no path moves none: every change would be given up once it is written.

    Raises ConfigError.
    """
    for role, found in rules.roles.items():
        for grant in found.grants:
            moves = sorted(MOVE_A_BRANCH & set(grant.tools))
            if moves and not grant.paths.allowed:
                raise ConfigError(
                    f"{rules.grant_places[f'{role}/{grant.name}']}: grant {grant.name} of {role} gives {moves[0]} "
                    "and no paths, so it would refuse every change",
                    'Add `paths: {allowed: ["**"]}` with what it must never touch, as the grants that Flyball ships do '
                    f"({SHIPPED / 'grants' / f'{role}.yaml'}; docs/grants.md)",
                )


def _texts(folder: Path, pattern: str) -> dict[str, str]:
    found = sorted(folder.glob(pattern))
    if not found:
        raise ConfigError(
            f"{folder} holds no {pattern}", "An empty policy is refused; restore the files that Flyball ships"
        )
    return {file.relative_to(folder).as_posix(): _text(file) for file in found}


def _text(file: Path) -> str:
    """Bounded, UTF-8, line ends unified."""
    content = file.read_bytes()
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{file} is larger than {MAX_BYTES} bytes", "Split it, or cut it down")
    try:
        return content.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as wrong:
        raise ConfigError(f"{file} is no UTF-8 text: byte {wrong.start}", "Save it as UTF-8") from wrong


def _role(name: str, text: str, catalogue: Mapping[str, Tool], places: dict[str, str]) -> RoleGrants:
    """Notes in `places` where each of its grants stands."""
    document = parse(text, name)
    try:
        role = RoleGrants.model_validate_json(json.dumps(document.content), context={"catalogue": catalogue})
    except ValidationError as wrong:
        first = wrong.errors(include_url=False)[0]
        line = document.line_of(tuple(first["loc"]))
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(
            f"{name}:{line}: {place}: {first['msg']}", "Correct that line; rbac/model.py lists what may stand there"
        ) from wrong
    if Path(name).stem != role.role:
        raise ConfigError(
            f"{name}:{document.line_of(('role',))}: role {role.role} in a file of another name",
            f"Name the file {role.role}.yaml",
        )
    for at, grant in enumerate(role.grants):
        places[f"{role.role}/{grant.name}"] = f"{name}:{document.line_of(('grants', at))}"
    return role


def _note_policies(name: str, text: str, notes: dict[str, PolicyNote]) -> None:
    """A decision names the policies that made it, so each has a name of its own, on the line before it."""
    for policy in _POLICY.finditer(text):
        line = text.count("\n", 0, policy.start("effect")) + 1
        if policy["id"] is None:
            raise ConfigError(
                f"{name}:{line}: this {policy['effect']} has no @id",
                'Put @id("some-words") on the line before it, and after that at most @why("one sentence")',
            )
        if policy["id"] in notes:
            raise ConfigError(
                f"{name}:{line}: @id {policy['id']} stands here a second time, after {notes[policy['id']].place}",
                "Give each policy a name of its own",
            )
        notes[policy["id"]] = PolicyNote(f"{name}:{line}", policy["effect"], policy["why"] or "")


def _digest(texts: Mapping[str, str]) -> str:
    content = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
