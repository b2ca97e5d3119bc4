"""What is wrong with a setting, in words: its key, its value, and the way out."""

from __future__ import annotations

import difflib
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from controller.errors import ConfigError

_WORDS = {  # the validator's own are about Python
    "tuple_type": 'must be a list, such as ["…"]',
    "dict_type": "must be a table, such as { name = … }",
    "string_type": "must be a string, in quotes",
    "path_type": "must be a path, in quotes",
}
_SAID_BY_US = "Value error, "


def as_config_error(error: ValidationError, where: str, settings: type[BaseModel]) -> ConfigError:
    """Of several faults the one that may have caused the others: a key that nobody knows."""
    errors = error.errors(include_url=False)
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    place = [str(part) for part in first["loc"] if part != "[key]"]
    key = ".".join(place)
    if first["type"] == "extra_forbidden":
        known = _keys_at(settings, place[:-1])
        near = difflib.get_close_matches(place[-1], known, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known here: {', '.join(known)}"
        return ConfigError(f"{where}: {key} is not a setting", hint)
    if first["type"] == "missing":
        return ConfigError(f"{where}: {key} is missing", "Set it; `flyball init` shows an example of every setting")
    if first["type"] == "model_type":
        words = f"must be a table with {', '.join(_keys_at(settings, place))}"
    else:
        words = _WORDS.get(first["type"], first["msg"].removeprefix(_SAID_BY_US))
    return ConfigError(
        f"{where}: {key} is {first['input']!r}: {words}", "Correct the value; `flyball init` shows an example"
    )


def _keys_at(settings: type[BaseModel], place: list[str]) -> list[str]:
    """Empty: no section is there. What a table is keyed by is no field of its section."""
    model: Any = settings
    keyed = False
    for part in place:
        if keyed:
            keyed = False
            continue
        field = model.model_fields.get(part)
        annotations = (field.annotation, *get_args(field.annotation)) if field else ()
        keyed = field is not None and get_origin(field.annotation) is dict
        sections = (one for one in annotations if isinstance(one, type) and issubclass(one, BaseModel))
        model = next(sections, None)
        if model is None:
            return []
    return sorted(model.model_fields)
