"""Everything that people were told, in order."""

from __future__ import annotations

from dataclasses import dataclass, field

from controller.domain.base import Fact
from controller.domain.ids import EffectKey
from controller.domain.verbs import Tell, Told, Verb
from controller.errors import Permanent
from controller.sim.forge import Counted

MOST_CHARACTERS = 40_000


@dataclass
class SimChat:
    """`Hands` for the chat's verb."""

    counted: Counted = lambda _key, _verb: None
    messages: dict[EffectKey, Tell] = field(default_factory=dict)

    async def act(self, key: EffectKey, verb: Verb) -> Fact:
        tell = _as_tell(verb)
        if len(tell.text) > MOST_CHARACTERS:
            raise Permanent(f"the message has {len(tell.text)} characters, more than {MOST_CHARACTERS}", "Shorten it")
        if key not in self.messages:
            self.counted(key, verb)
            self.messages[key] = tell
        return self._told(key)

    async def find(self, key: EffectKey, verb: Verb) -> Fact | None:
        """None: nothing was told under this key."""
        _as_tell(verb)
        return self._told(key) if key in self.messages else None

    def _told(self, key: EffectKey) -> Told:
        return Told(message=str(list(self.messages).index(key) + 1))


def _as_tell(verb: Verb) -> Tell:
    if not isinstance(verb, Tell):
        raise TypeError(f"{verb.name} is no verb of the chat")
    return verb
