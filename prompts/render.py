"""A template and its values, as a prompt with a digest.

Values are put in once, side by side: what stands in a value is never expanded again.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from controller.errors import ConfigError
from prompts.fence import fence, fence_request
from prompts.load import VARIABLE, Kind, Template

MAX_PLAIN = 4_000  # characters of a plain value; lists of path patterns are the longest


@dataclass(frozen=True, slots=True)
class Prompt:
    """`digest` is over the template's text and every value, so one digest is one prompt: "sha256:<64 hex>"."""

    system: str
    request: str
    digest: str

    @property
    def text(self) -> str:
        """Both halves, as one reads them."""
        return f"{self.system}\n\n{self.request}\n"


def render(template: Template, values: Mapping[str, str]) -> Prompt:
    """Raises ConfigError unless `values` has exactly the template's variables, plain ones on a single line."""
    _check_names(template, values)
    shown = {name: _shown(template, name, value) for name, value in values.items()}
    return Prompt(_filled(template.system, shown), _filled(template.request, shown), _digest(template, values))


def _check_names(template: Template, values: Mapping[str, str]) -> None:
    missing = sorted(template.variables.keys() - values.keys())
    unused = sorted(values.keys() - template.variables.keys())
    if missing:
        raise ConfigError(
            f"prompt {template.name}: no value for {', '.join(missing)}",
            "Give every declared variable a value, an empty one if need be",
        )
    if unused:
        raise ConfigError(
            f"prompt {template.name}: it has no variable {', '.join(unused)}",
            f"It has {', '.join(sorted(template.variables))}",
        )


def _shown(template: Template, name: str, value: str) -> str:
    label = name.replace("_", " ")
    match template.variables[name]:
        case Kind.MATERIAL:
            return fence(value, label)
        case Kind.REQUEST:
            return fence_request(value, label)
        case Kind.PLAIN:
            return _plain(template, name, value)


def _plain(template: Template, name: str, value: str) -> str:
    """Our own facts have one line and no invisible characters; what has more is somebody's text under a wrong kind."""
    if (
        not value
        or len(value) > MAX_PLAIN
        or any(unicodedata.category(character)[0] in "CZ" and character != " " for character in value)
    ):
        raise ConfigError(
            f"prompt {template.name}: {name} is no single line of 1 to {MAX_PLAIN} visible characters",
            "Declare it as request or material if somebody wrote it",
        )
    return value


def _filled(text: str, shown: Mapping[str, str]) -> str:
    return VARIABLE.sub(lambda found: shown[found[1]], text)


def _digest(template: Template, values: Mapping[str, str]) -> str:
    content = {"template": template.digest, "values": dict(values)}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
