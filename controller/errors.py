"""Errors that tell the next person what to do.

Every error Flyball raises on purpose derives from `FlyballError` and carries a way out. `Temporary` ones are worth
another try by the same step; `Permanent` ones are not, whatever the retry budget says. Expected outcomes (lost a race,
inconclusive) are values, not errors.
"""

from __future__ import annotations


class FlyballError(Exception):
    """What went wrong, and the way out.

    `message` names the field and the value; `way_out` is one imperative sentence.
    """

    def __init__(self, message: str, way_out: str = "") -> None:
        super().__init__(f"{message}. {way_out}" if way_out else message)
        self.message = message
        self.way_out = way_out


class Permanent(FlyballError):  # noqa: N818 - read where it is raised: "raise Permanent"
    """Trying again cannot help."""


class Temporary(FlyballError):  # noqa: N818 - as above
    """The world may answer differently next time."""


class ConfigError(Permanent):
    """A setting is unknown, missing or of the wrong type."""


class Refused(Permanent):
    """The gate said no. Nothing was changed."""

    def __init__(self, message: str, way_out: str = "", *, rules: tuple[str, ...] = ()) -> None:
        super().__init__(message, way_out)
        self.rules = rules


class PathRefused(Refused):
    """A commit changes a path that whoever made it, or moves a branch to it, may not change."""

    path = ""  # "": it is about the commit as a whole
    deletes = False


class Unavailable(Temporary):
    """A part of the world did not answer in time."""
