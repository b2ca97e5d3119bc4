"""What the next model call may cost at worst, and the preconditions under which it may be made."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from controller.domain.bounds import Bounds
from controller.domain.control import scopes
from controller.domain.events import SessionStarted
from controller.domain.guards import Guard, NotStopped, Under, scopes_of_session
from controller.domain.ids import MicroUsd, SessionId, canonical
from controller.domain.money import price_of, usd
from controller.ports import ModelRequest

# Tokenisers need about 3.5 bytes a token for prose and code; two is a bound that dense text stays under.
BYTES_PER_TOKEN_AT_WORST = 2


def request_body(request: ModelRequest) -> bytes:
    """The request as it is hashed and measured."""
    tools: Sequence[Any] = [[tool.name, tool.description, dict(tool.input_schema)] for tool in request.tools]
    body = {"model": request.model, "system": request.system, "messages": list(request.messages), "tools": tools}
    return canonical(body | {"max_tokens": request.max_tokens})


def worst_case(model: str, body_bytes: int, max_tokens: int) -> MicroUsd:
    """Micro-USD at list price: input at its dearest, output to the bound. Raises ConfigError for an unpriced model."""
    price = price_of(model)
    input_tokens = -(-body_bytes // BYTES_PER_TOKEN_AT_WORST)
    dearest = max(price.input_per_mtok, price.cache_write_per_mtok)
    return MicroUsd(-(-(input_tokens * dearest + max_tokens * price.output_per_mtok) // 1_000_000))


def too_large(body_bytes: int, micro_usd: MicroUsd, bounds: Bounds) -> str | None:
    """Why this call may not be made whatever is left in the budgets. None: it may."""
    if body_bytes > bounds.prompt_bytes:
        return f"the conversation has {body_bytes} bytes (bound {bounds.prompt_bytes})"
    if micro_usd > bounds.call_micro_usd:
        return f"the next call may cost {usd(micro_usd)} (bound {usd(bounds.call_micro_usd)})"
    return None


def scopes_that_stop(session: SessionId, started: SessionStarted) -> tuple[str, ...]:
    general = scopes(agent=started.role, repository=started.repository, service=None)
    return (*general, revocation_of(session))


def revocation_of(session: SessionId) -> str:
    return f"session:{session}"


def preconditions(
    session: SessionId, started: SessionStarted, micro_usd: MicroUsd, bounds: Bounds, now: datetime
) -> tuple[Guard, ...]:
    """Nothing is stopped, and the worst case fits into every budget it counts in."""
    limits = (bounds.session_micro_usd, bounds.delivery_micro_usd, bounds.day_micro_usd)
    counted = zip(scopes_of_session(session, now.date().isoformat()), limits, strict=True)
    budgets = (Under(scope, window, micro_usd, limit) for (scope, window), limit in counted)
    return (NotStopped(scopes_that_stop(session, started)), *budgets)
