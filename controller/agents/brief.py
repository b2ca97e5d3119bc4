"""The first entry of a session: what the agent is told, where it may work, and under which identity."""

from __future__ import annotations

from controller.agents.prompt import Prompt, write_prompt
from controller.domain import events as e
from controller.domain.delivery import Delivery
from controller.domain.delivery import fold as fold_delivery
from controller.domain.ids import Commit, DeliveryId, Digest, author_branch, delivery_stream, rollout_stream
from controller.domain.rollout import Release
from controller.domain.rollout import fold as fold_rollout
from controller.errors import Permanent
from controller.history.citing import last_of, opened
from controller.ports import Ports, RepositoryConfig
from prompts.load import load
from prompts.render import render

DIFF_BYTES = 20_000
FAILURES_SHOWN = 20
LAST_WORDS_CHARS = 2_000
NOTHING = "(nothing)"


async def brief_for(d: Delivery, ports: Ports) -> e.SessionStarted:
    """The session's first entry, complete: a second process needs nothing else to take it up."""
    repository = ports.repository(d.repository)
    base = await ports.forge.tip(d.repository, d.branch)
    if base is None:
        raise Permanent(
            f"{d.repository} has no branch {d.branch}", "Create it, or set repository.branch in flyball.toml"
        )
    fixes = d.asked.cause is e.Cause.FIX
    template = load("fixer" if fixes else "author")
    values = await _common(d, ports, repository)
    if fixes:
        values |= await _regression(d, ports)
    prompt = render(template, values)
    iteration = d.iteration + 1
    return e.SessionStarted(
        delivery=d.id,
        iteration=iteration,
        role=template.role,
        repository=d.repository,
        base=base,
        branch=author_branch(d.id, iteration),
        model=repository.model,
        label=ports.model_label,
        prompt_digest=Digest(prompt.digest),
        prompt=await ports.seals.seal(write_prompt(Prompt(system=prompt.system, user=prompt.request))),
        tools=ports.tools,
        tools_digest=ports.tools_digest,
        tainted=d.tainted,
        allowed_paths=repository.allowed,
    )


async def _common(d: Delivery, ports: Ports, repository: RepositoryConfig) -> dict[str, str]:
    return {
        "repository": repository.name,
        "branch": author_branch(d.id, d.iteration + 1),
        "allowed_paths": ", ".join(repository.allowed) or "none",
        "protected_paths": ", ".join(repository.protected) or "none",
        "round": str(d.iteration + 1),
        "task": await ports.seals.open(d.task),
        "earlier_failures": await _failures(d, ports),
    }


async def _failures(d: Delivery, ports: Ports) -> str:
    if d.sent_back is None:
        return NOTHING
    lines = [d.sent_back]
    sent = last_of(await ports.log.read(delivery_stream(d.id)), e.SentBack)
    if sent is not None and isinstance(sent.event, e.SentBack):
        lines += [await opened(ports.seals, sent.event.detail)]
    for failure in d.ci.failures[:FAILURES_SHOWN] if d.ci else ():
        called = failure.test if failure.name is None else ""  # since then the message begins with the name
        lines += [called, await ports.seals.open(failure.message)]
    return "\n".join(lines)


async def _regression(d: Delivery, ports: Ports) -> dict[str, str]:
    culprit = await _delivery(ports, d.asked.caused_by)
    revert = await _delivery(ports, d.asked.after)
    release = await _release(culprit, ports)
    merged = culprit.merged
    if merged is None:
        raise Permanent(f"{d.id} is to fix {culprit.id}, which never merged", "Run `flyball log verify`")
    found = release.regression if release else None
    verdict = found.verdict if found else None
    conflicted = "nothing: the revert conflicted, so the change is still in the tree"
    reverted = f"merge {revert.merged.commit}" if revert.merged else conflicted
    reason = (found.reason if found else "it never became healthy")[:300]
    said = (await opened(ports.seals, found.detail))[:LAST_WORDS_CHARS] if found else ""
    seen = (*(verdict.caveats if verdict else ()), *([f"Its last words: {said}"] if said else ()))
    return {
        "bad_commit": merged.commit,
        "revert_commit": reverted,
        "failing_route": "counted per version, not per route: read the changed code for the request that can fail",
        "numbers": verdict.sentence if verdict else reason,
        "reverted_diff": await _diff(d, ports, merged.base, merged.commit),
        "evidence": "\n".join(seen) or NOTHING,
    }


async def _delivery(ports: Ports, delivery: DeliveryId | None) -> Delivery:
    if delivery is None:
        raise Permanent("a fix names neither what it fixes nor what it comes after", "Run `flyball log verify`")
    return fold_delivery(delivery, await ports.log.read(delivery_stream(delivery)))


async def _release(culprit: Delivery, ports: Ports) -> Release | None:
    service = ports.repository(culprit.repository).service
    if service is None:
        return None
    stream = rollout_stream(service.name, service.environment)
    return fold_rollout(stream, await ports.log.read(stream)).release_of(culprit.id)


async def _diff(d: Delivery, ports: Ports, base: Commit, head: Commit) -> str:
    return await ports.forge.diff(d.repository, base, head, DIFF_BYTES) or NOTHING
