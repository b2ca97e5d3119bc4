"""An engine that does not answer has said no, and what a chain of sessions holds is what each of them holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.desk_engine import Engine, scopes_held
from controller.domain.ids import Branch, Commit, DeliveryId
from controller.errors import Unavailable
from controller.off_loop import Inline
from controller.ports import Badge
from controller.sim.world import MAIN, SHOP
from rbac.decide import Authority
from rbac.model import Request, Served

BASE, HEAD = Commit("a" * 40), Commit("b" * 40)
DELIVERY = DeliveryId("shop-1a2b3c")
AUTHORITY = Authority([Served(repository=SHOP, branch=MAIN, environments=())])
AUTHOR = Badge(
    session=f"{DELIVERY}/1",
    role="author",
    delivery=DELIVERY,
    repository=SHOP,
    branch=Branch(f"agent/{DELIVERY}/1"),
    base=BASE,
    allowed=("**",),
    protected=(),
    on_behalf_of="ann",
)


class Late:
    async def run(self, *_: Any) -> Any:
        raise Unavailable("no answer within 5 s", "Try again in a moment")


def asked(*paths: str) -> Request:
    own: dict[str, Any] = {"own_branch": AUTHOR.branch, "own_repository": SHOP, "delivery": DELIVERY}
    return Request(agent="author", tool="write_file", repository=SHOP, branch=AUTHOR.branch, paths=paths, **own)


async def test_an_engine_that_does_not_answer_in_time_has_said_no() -> None:
    assert (await Engine(AUTHORITY, Inline()).answer(asked("src/a.py"))).allowed
    late = await Engine(AUTHORITY, Late()).answer(asked("src/a.py"))
    assert (late.allowed, late.rules) == (False, ("engine-error",))
    assert await Engine(AUTHORITY, Late()).belt(AUTHOR, ("write_file",)) == ()


@pytest.mark.parametrize(
    ("own", "lent", "held"),
    [
        (None, None, None),
        (frozenset({"a", "b"}), None, frozenset({"a", "b"})),
        (None, frozenset({"b"}), frozenset({"b"})),
        (frozenset({"a", "b"}), frozenset({"b", "c"}), frozenset({"b"})),
        (frozenset({"a"}), frozenset({"c"}), frozenset()),
    ],
)
def test_a_lent_token_holds_what_every_token_of_the_chain_holds(
    own: frozenset[str] | None, lent: frozenset[str] | None, held: frozenset[str] | None
) -> None:
    assert scopes_held(replace(AUTHOR, scopes=own, parent=replace(AUTHOR, scopes=lent))) == held


async def test_a_tool_that_whoever_lent_authority_lacks_is_on_nobodys_belt() -> None:
    engine = Engine(AUTHORITY, Inline())
    assert await engine.belt(replace(AUTHOR, parent=AUTHOR), ("write_file",)) == ("write_file",)
    lenders = (replace(AUTHOR, role="merger"), replace(AUTHOR, parent=replace(AUTHOR, role="merger")))
    for lender in lenders:
        assert await engine.belt(replace(AUTHOR, parent=lender), ("write_file",)) == ()
