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
from rbac.catalogue import Role
from rbac.model import RoleGrants
from rbac.strict_yaml import MAX_BYTES, parse

SHIPPED = Path(__file__).parent
_POLICY = re.compile(r'^(?:[ \t]*@id\("(?P<id>[a-z][a-z0-9-]*)"\)\s+)?[ \t]*(?P<effect>permit|forbid)\b', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Files found well-formed one by one. Whether policies fit the schema is for the engine to say (`rbac.decide`)."""

    roles: Mapping[Role, RoleGrants]
    policies: Mapping[str, str]  # by file name
    schema: str
    digest: str  # "sha256:<64 hex>"


def load(folder: Path = SHIPPED) -> RuleSet:
    """Read `grants/` and `policy/` under a folder. Raises ConfigError."""
    grants = _texts(folder, "grants/*.yaml")
    policies = _texts(folder, "policy/*.cedar")
    schemas = _texts(folder, "policy/*.cedarschema")
    roles = [_role(name, text) for name, text in grants.items()]
    for name, text in policies.items():
        _every_policy_has_an_id(name, text)
    return RuleSet(
        roles=MappingProxyType({found.role: found for found in roles}),
        policies=MappingProxyType(policies),
        schema="\n".join(schemas.values()),
        digest=_digest(grants | policies | schemas),
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


def _role(name: str, text: str) -> RoleGrants:
    document = parse(text, name)
    try:
        role = RoleGrants.model_validate_json(json.dumps(document.content))
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
    return role


def _every_policy_has_an_id(name: str, text: str) -> None:
    """A decision names the policies that made it, so each has a name of its own, on the line before it."""
    seen: set[str] = set()
    for policy in _POLICY.finditer(text):
        line = text.count("\n", 0, policy.start("effect")) + 1
        if policy["id"] is None:
            raise ConfigError(
                f"{name}:{line}: this {policy['effect']} has no @id", 'Put @id("some-words") on the line before it'
            )
        if policy["id"] in seen:
            raise ConfigError(
                f"{name}:{line}: @id {policy['id']} stands here a second time", "Give each policy a name of its own"
            )
        seen.add(policy["id"])


def _digest(texts: Mapping[str, str]) -> str:
    content = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
