"""Whether what landed is what was tested: looked up in the world after the act, never taken from what was meant.

The branch holds the tested commit, that commit's tree is the tree that was tested, and it touches no file that its
change does not have. A renamed file counts as two, the path that went and the path that came; a revert is a change like
any other. A branch that has moved on from the commit still holds it; one that somebody has put elsewhere does not.
"""

from __future__ import annotations

from controller.domain.delivery import Delivery
from controller.domain.events import LandingPlanned
from controller.domain.events.queue import Doubt
from controller.domain.ids import Branch, Repository
from controller.ports import Forge


async def doubts_about(
    planned: LandingPlanned, first: Delivery, repository: Repository, branch: Branch, forge: Forge
) -> tuple[Doubt, ...]:
    """Empty: the landing is verified."""
    tip = await forge.tip(repository, branch)
    found: list[Doubt] = []
    if tip is None or not await forge.contains(repository, tip, planned.tested):
        found.append("missing")
    if planned.tree is not None and await forge.tree(repository, planned.tested) != planned.tree:
        found.append("another_tree")
    touched = await forge.change(repository, planned.base, planned.tested)
    own = frozenset(first.change.files) if first.change else frozenset()
    if not own.issuperset(touched.files):
        found.append("stray_files")
    return tuple(found)
