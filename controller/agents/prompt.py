"""What a session is told, as it lies sealed in its first entry: one canonical JSON object, the prompt in two halves."""

from __future__ import annotations

from pydantic import ValidationError

from controller.domain.base import Fact
from controller.domain.ids import canonical
from controller.errors import Permanent


class Prompt(Fact):
    system: str  # what always holds for the role
    user: str  # what is asked for this time


def write_prompt(prompt: Prompt) -> str:
    """The text to seal into `SessionStarted.prompt`."""
    return canonical(prompt.model_dump(mode="json")).decode()


def read_prompt(text: str) -> Prompt:
    """Raises Permanent when a session was started with something else."""
    try:
        return Prompt.model_validate_json(text)
    except ValidationError as wrong:
        raise Permanent(
            f"the session's prompt is no object of system and user: {wrong.errors(include_url=False)[0]['msg']}",
            "This is a defect in the step that began the session",
        ) from wrong
