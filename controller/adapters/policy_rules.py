"""The rules of the table that look at a change's facts: one rule for each kind of fact, each with its numbers.

A clean revert brings back what has been released before, so the rules about what a change takes away or brings in do
not hold it up; what a revert cannot take back does.
"""

from __future__ import annotations

from collections.abc import Iterable

from controller.adapters.policy_parameters import TableParameters
from controller.domain.change import ChangeFacts, FileFact, FileKind, FileStatus, Finding, Role
from controller.domain.risk import RiskInputs

NAMED = 3  # paths and rules in a reason; the facts beside it hold them all
_SHAPED = """
private-key age-key aws-key-id gcp-api-key gcp-token gcp-secret azure-secret digitalocean-token github-token
gitlab-token bitbucket-token npm-token pypi-token rubygems-key crates-token anthropic-key openai-key model-key
huggingface-token slack-token slack-webhook discord-webhook stripe-key sendgrid-key vault-token databricks-token
grafana-token newrelic-key shopify-token sentry-token
"""
SHAPED = frozenset(_SHAPED.split())  # secrets that are known by their own shape and are nothing else


def is_clean_revert(change: RiskInputs) -> bool:
    """Made by the controller alone and tested: nothing in it is new to production."""
    return change.cause == "revert" and change.tests_passed and not change.tainted


def facts_of(change: RiskInputs, *, reverts: bool = False) -> ChangeFacts | None:
    """None: there are none to speak about, or it is a clean revert and the rule is not about those."""
    return None if change.change is None or (is_clean_revert(change) and not reverts) else change.change


def places(found: Iterable[Finding]) -> str:
    """Such as "assertion-removed in tests/test_a.py:7, ... and 4 more": rule and place, never the words."""
    known = list(dict.fromkeys(_place(one) for one in found))
    return _few(known)


def _place(one: Finding) -> str:
    what, line = one.rule.partition("/")[2], f":{one.line}" if one.line is not None else ""
    return f"{what} in {one.path}{line}" if one.path else what


def _few(known: list[str]) -> str:
    more = len(known) - NAMED
    return ", ".join([*known[:NAMED], *([f"and {more} more"] if more > 0 else [])])


def _paths(files: Iterable[FileFact]) -> str:
    return _few([one.path for one in files])


def _by_role(change: RiskInputs, role: Role, words: str, *, reverts: bool = False) -> str | None:
    facts = facts_of(change, reverts=reverts)
    files = facts.with_role(role) if facts else ()
    return f"{len(files)} {words} ({_paths(files)})" if files else None


# --- what is not known ------------------------------------------------------------------------------------------------


def unread(change: RiskInputs, _: TableParameters) -> str | None:
    facts = facts_of(change, reverts=True)
    return (
        f"{len(facts.unread)} things could not be looked into ({places(facts.unread)})"
        if facts and facts.unread
        else None
    )


# --- tests ------------------------------------------------------------------------------------------------------------


def weakened(change: RiskInputs, _: TableParameters) -> str | None:
    facts = facts_of(change)
    found = [one for one in facts.weakened if not one.asked] if facts else []
    return f"{len(found)} tests prove less than before ({places(found)})" if found else None


def no_tests(change: RiskInputs, _: TableParameters) -> str | None:
    """Asks for a test that asserts something where source says something new, which no removal does that is asked."""
    facts = facts_of(change)
    if facts is None or change.tests_added or facts.nothing_new:
        return None
    source = [one for one in facts.with_role(Role.SOURCE) if Role.GENERATED not in one.roles and not one.removal_asked]
    if not source:
        return None
    empty = sum(one.rule == "test/without-assertion" for one in facts.tests_touched)
    also = f"; {empty} new tests assert nothing" if empty else ""
    return f"{len(source)} source files changed and no test added that asserts anything new{also}"


def config_of_tests(change: RiskInputs, _: TableParameters) -> str | None:
    return _by_role(change, Role.TEST_CONFIG, "files decide which tests run, or how")


# --- what runs, and where ---------------------------------------------------------------------------------------------


def ci_file(change: RiskInputs, _: TableParameters) -> str | None:
    return _by_role(change, Role.CI, "files are run by a build server")


def runs_outside(change: RiskInputs, _: TableParameters) -> str | None:
    return _by_role(change, Role.RUNS_OUTSIDE, "files run where it is installed, built or started")


def settings(change: RiskInputs, _: TableParameters) -> str | None:
    """A new file sets nothing that was otherwise before; what reads it is source, and tested as such."""
    facts = facts_of(change)
    files = [one for one in facts.with_role(Role.SETTINGS) if one.status is not FileStatus.ADDED] if facts else []
    return f"{len(files)} files of settings, whose values no test proves ({_paths(files)})" if files else None


def steers_agents(change: RiskInputs, _: TableParameters) -> str | None:
    return _by_role(change, Role.STEERS_AGENTS, "files steer agents")


def decides(change: RiskInputs, _: TableParameters) -> str | None:
    facts = facts_of(change)
    files = facts.with_role(Role.OWNERS, Role.POLICY) if facts else ()
    return f"{len(files)} files say who decides ({_paths(files)})" if files else None


def dependencies(change: RiskInputs, table: TableParameters) -> str | None:
    """A version that moves is let be if the task names the package and the policy says so; a new package never is."""
    facts = facts_of(change)
    lets = table.asked_moves_are_green
    found = [one for one in facts.dependencies if not (lets and one.asked and one.what == "moved")] if facts else []
    if not found:
        return None
    counts = {what: sum(one.what == what for one in found) for what in ("added", "moved", "removed")}
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"dependencies: {said} ({_few(list(dict.fromkeys(one.path for one in found)))})"


# --- what cannot be taken back ----------------------------------------------------------------------------------------


def migration(change: RiskInputs, _: TableParameters) -> str | None:
    return _by_role(change, Role.MIGRATION, "files migrate stored data", reverts=True)


def irreversible(change: RiskInputs, _: TableParameters) -> str | None:
    facts = facts_of(change, reverts=True)
    found = facts.irreversible if facts else ()
    return f"{len(found)} steps that no revert takes back ({places(found)})" if found else None


def secret(change: RiskInputs, _: TableParameters) -> str | None:
    found = [one for one in _secrets(change) if one.rule.partition("/")[2] in SHAPED]
    return f"{len(found)} secrets in the change ({places(found)})" if found else None


def perhaps_secret(change: RiskInputs, _: TableParameters) -> str | None:
    found = [one for one in _secrets(change) if one.rule.partition("/")[2] not in SHAPED]
    return f"{len(found)} values look like secrets ({places(found)})" if found else None


def _secrets(change: RiskInputs) -> tuple[Finding, ...]:
    facts = facts_of(change, reverts=True)
    return facts.secrets if facts else ()


def secrets_file(change: RiskInputs, _: TableParameters) -> str | None:
    return _by_role(change, Role.HOLDS_SECRETS, "files hold secrets by their name", reverts=True)


# --- what nobody can review -------------------------------------------------------------------------------------------


def odd_kind(change: RiskInputs, _: TableParameters) -> str | None:
    """Links, submodules, and files that begin or cease to be executable."""
    facts = facts_of(change, reverts=True)
    files = [one for one in facts.files if _is_odd(one)] if facts else []
    kinds = ", ".join(sorted({one.kind.value for one in files}))
    return f"{len(files)} files change what they are ({kinds}: {_paths(files)})" if files else None


def _is_odd(one: FileFact) -> bool:
    linked = one.kind in (FileKind.SYMLINK, FileKind.SUBMODULE)
    new_program = one.kind is FileKind.EXECUTABLE and one.status is FileStatus.ADDED
    return linked or one.was_kind is not None or new_program


def binary(change: RiskInputs, table: TableParameters) -> str | None:
    facts = facts_of(change)
    files = [one for one in facts.files if one.binary and one.status is not FileStatus.DELETED] if facts else []
    asking = [one for one in files if one.bytes_after > table.max_binary_bytes or Role.DOCS not in one.roles]
    size = sum(one.bytes_after for one in asking)
    return f"{len(asking)} binary files of {size} bytes ({_paths(asking)})" if asking else None


def generated(change: RiskInputs, _: TableParameters) -> str | None:
    return _by_role(change, Role.GENERATED, "generated or vendored files")


# --- what hides -------------------------------------------------------------------------------------------------------


def _hiding(change: RiskInputs, kind: str, words: str) -> str | None:
    facts = facts_of(change)
    found = [one for one in facts.suspicious if one.rule.startswith(f"{kind}/")] if facts else []
    return f"{len(found)} {words} ({places(found)})" if found else None


def invisible(change: RiskInputs, _: TableParameters) -> str | None:
    return _hiding(change, "invisible", "lines have characters that nobody sees")


def lookalike(change: RiskInputs, _: TableParameters) -> str | None:
    return _hiding(change, "lookalike", "names read like others")


def runs_text(change: RiskInputs, _: TableParameters) -> str | None:
    return _hiding(change, "runs-text", "places run text or a shell, or load code by a computed name")


def asks_if_tested(change: RiskInputs, _: TableParameters) -> str | None:
    return _hiding(change, "asks-if-tested", "places of the program ask whether it is tested")


def repository_inside(change: RiskInputs, _: TableParameters) -> str | None:
    return _hiding(change, "repository-inside", "files make a folder a repository of its own")


def ignored(change: RiskInputs, _: TableParameters) -> str | None:
    return _hiding(change, "ignored", "new files that .gitignore names")


# --- others -----------------------------------------------------------------------------------------------------------


def owners(change: RiskInputs, table: TableParameters) -> str | None:
    facts = facts_of(change)
    if facts is None or not facts.owned or not table.owners_are_asked:
        return None
    who = sorted({owner for one in facts.owned for owner in one.owners})
    return f"{len(facts.owned)} files are owned by {_few(who)} ({_few([one.path for one in facts.owned])})"


def interfaces(change: RiskInputs, _: TableParameters) -> str | None:
    facts = facts_of(change)
    found = [one for one in facts.interfaces_removed if not one.asked] if facts else []
    return f"{len(found)} public interfaces removed or narrowed ({places(found)})" if found else None
