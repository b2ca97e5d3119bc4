"""For whoever reviews what agents may do: why one call is decided as it is, what a change of rules gives and takes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from controller.commands.common import (
    Place,
    guarded,
    json_option,
    place,
    print_json,
    reading,
    repo_option,
    run,
    state_option,
)
from controller.errors import ConfigError, Refused

if TYPE_CHECKING:
    from controller.recording import Record
    from rbac.catalogue import Tool
    from rbac.model import Request, Served

EXIT_REFUSED, EXIT_CHANGED, EXIT_FAILED = 3, 4, 1


@click.group(help="What agents may do: why, since when, and what nobody needs.")
def rbac() -> None: ...


@dataclass(frozen=True)
class Ground:
    """What is served, and so what can be asked about."""

    served: tuple[Served, ...]
    mounted: Mapping[str, Tool]
    said: str  # for people: where this comes from


def _ground(repo: Path | None) -> Ground:
    """From the flyball.toml here or above. Where there is none, a stand-in that the output names."""
    from controller.settings import FILE  # noqa: PLC0415 - `--help` need not load the house
    from rbac.model import Served  # noqa: PLC0415

    start = (repo or Path.cwd()).resolve()
    if repo is None and not any((folder / FILE).is_file() for folder in (start, *start.parents)):
        stand_in = Served(repository="shop", branch="main", environments=("production",))
        said = f"There is no {FILE} here: repository shop, branch main, environment production stand in for yours."
        return Ground((stand_in,), {}, said)
    return _ground_of(place(repo, None))


def _ground_of(found: Place) -> Ground:
    from controller.recording import served  # noqa: PLC0415
    from controller.settings import FILE  # noqa: PLC0415
    from tools.mounts import catalogue_of  # noqa: PLC0415

    one = served(found.settings, found.root)
    where = f"repository {one.repository}, branch {one.branch}, environment {', '.join(one.environments) or 'none'}"
    mounted = catalogue_of(found.settings.gateway.mounts)
    return Ground((one,), mounted, f"Asked about what {found.root / FILE} serves: {where}.")


# --- check ------------------------------------------------------------------------------------------------------------


@rbac.command(help="Would this call be allowed, and why? Exit code 0: allowed, 3: refused.")
@click.option("--agent", required=True, help="Role of the agent: author, merger, on-call and so on.")
@click.option("--tool", required=True, help="Tool or verb, as the catalogue in rbac/catalogue.py names it.")
@click.option("--repository", help="Repository that the call names. Default: the served one, if the tool needs one.")
@click.option("--branch", help="Branch that the call names.")
@click.option("--path", "paths", multiple=True, help="File that the call names; may be given more than once.")
@click.option("--environment", help="Environment of the call. Default: the served one, if the tool needs one.")
@click.option("--tainted", is_flag=True, help="The run has read text by somebody outside.")
@click.option("--read-confidential", is_flag=True, help="The run has been given confidential results.")
@click.option("--own-branch", help="The one branch that the session was given.")
@click.option("--own-repository", help="The one repository that the session is tied to.")
@click.option("--delivery", help="The delivery that is acted for; `{delivery}` in a grant stands for it.")
@click.option("--task-path", "task_paths", multiple=True, help="Pattern that the task may change; more than once.")
@click.option("--scope", "scopes", multiple=True, help="Scope of the caller's token; more than once. Default: any.")
@click.option(
    "--as-of",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of rules to ask instead of those in force.",
)
@repo_option
@json_option
@guarded
def check(repo: Path | None, as_of: Path | None, as_json: bool, **asked: Any) -> None:
    from controller.terminal.permissions import check_lines  # noqa: PLC0415
    from rbac.decide import Authority  # noqa: PLC0415

    ground = _ground(repo)
    folder = _rules(as_of)
    authority = Authority(ground.served, folder, ground.mounted)
    request = _request(asked, ground, authority.catalogue)
    found = authority.explain(request)
    if as_json:
        print_json({"asked": request.model_dump(mode="json"), **found.model_dump(mode="json"), "about": ground.said})
    else:
        _say(check_lines(request, found, f"{ground.said} Rules: {folder}, {authority.digest[:19]}."))
    sys.exit(0 if found.decision.allowed else EXIT_REFUSED)


def _request(asked: Mapping[str, Any], ground: Ground, catalogue: Mapping[str, Tool]) -> Request:
    """Raises ConfigError for a pattern that is none."""
    from pydantic import ValidationError  # noqa: PLC0415

    from rbac.catalogue import Need  # noqa: PLC0415
    from rbac.model import Request  # noqa: PLC0415

    facts = {name: value for name, value in asked.items() if value not in (None, ())}
    tool = catalogue.get(asked["tool"])
    served = ground.served[0]
    if tool is not None and Need.REPOSITORY in tool.needs:
        facts.setdefault("repository", served.repository)
    if tool is not None and Need.ENVIRONMENT in tool.needs and len(served.environments) == 1:
        facts.setdefault("environment", served.environments[0])
    if "scopes" in facts:
        facts["scopes"] = frozenset(facts["scopes"])
    try:
        return Request(**facts)
    except ValidationError as wrong:
        first = wrong.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{place}: {first['msg']}", "See: flyball rbac check --help") from wrong


# --- diff -------------------------------------------------------------------------------------------------------------


@rbac.command(
    help="Who gains and who loses what between two states of the rules? BEFORE and AFTER are folders, or git revisions "
    "of the checkout that holds rbac/; without AFTER: the rules in force. Exit code 0: same permissions, 4: others."
)
@click.argument("before")
@click.argument("after", required=False)
@click.option(
    "--repo",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Checkout that holds rbac/. Default: here if it does, else where Flyball itself stands.",
)
@json_option
@guarded
def diff(before: str, after: str | None, repo: Path | None, as_json: bool) -> None:
    from controller.commands.revisions import rules_at, rules_folder  # noqa: PLC0415
    from controller.terminal.permissions import comparison_lines  # noqa: PLC0415
    from rbac.compare import compare  # noqa: PLC0415
    from rbac.load import SHIPPED  # noqa: PLC0415

    checkout = repo or (Path.cwd() if (Path.cwd() / "rbac" / "grants").is_dir() else SHIPPED.parent)
    in_force = str(rules_folder(checkout) or SHIPPED)
    ground = _ground(None)
    with rules_at(before, checkout) as one, rules_at(after or in_force, checkout) as other:
        found = compare(one, other, ground.served, ground.mounted)
    if as_json:
        print_json({**found.model_dump(mode="json"), "about": ground.said})
    else:
        _say(comparison_lines(found, ground.said))
    sys.exit(0 if found.same_permissions else EXIT_CHANGED)


# --- report -----------------------------------------------------------------------------------------------------------


@rbac.command(help="What each agent may do, what it uses of it, what it was refused, and what could be dropped.")
@click.option("--days", type=int, default=30, show_default=True, help="Unused for how long counts as unused.")
@repo_option
@state_option
@json_option
@guarded
def report(days: int, repo: Path | None, state: Path | None, as_json: bool) -> None:
    found = place(repo, state)
    with reading(found) as record:
        run(_report(record, _ground_of(found), days, as_json=as_json))


async def _report(record: Record, ground: Ground, days: int, *, as_json: bool) -> None:
    from controller.metrics.permissions import permission_report  # noqa: PLC0415
    from controller.terminal.permissions import report_lines  # noqa: PLC0415
    from rbac.load import load  # noqa: PLC0415
    from rbac.reach import asked_about, reach  # noqa: PLC0415
    from rbac.witnesses import witnesses  # noqa: PLC0415
    from rbac.words import permissions  # noqa: PLC0415

    authority = asked_about(ground.served, mounted=ground.mounted)
    used = await permission_report(record.log, as_of=record.clock.now(), days=days, catalogue=authority.catalogue)
    tried = witnesses((load(catalogue=authority.catalogue),), ground.served)
    found = reach(authority, ground.served, tried)
    reached = permissions(found.cells, tried, ground.served, authority.catalogue)
    if as_json:
        facts = {**asdict(used), "young": used.young, "drops": [one.model_dump() for one in used.drops]}
        print_json({**facts, "permissions": [asdict(one) for one in reached]})
        return
    _say(report_lines(used, reached, f"Permissions found by asking about {found.asked:,} calls under {used.policy}."))


# --- test -------------------------------------------------------------------------------------------------------------


@rbac.command(help="Run the policy tests of FOLDER (default: those that Flyball ships). Exit code 1: some failed.")
@click.argument("folder", required=False, type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option(
    "--rules",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of rules to test instead of those in force.",
)
@json_option
@guarded
def test(folder: Path | None, rules: Path | None, as_json: bool) -> None:
    from controller.terminal.permissions import outcome_lines  # noqa: PLC0415
    from rbac.cases import CASES  # noqa: PLC0415
    from rbac.cases import run as run_cases  # noqa: PLC0415

    found = run_cases(_rules(rules), folder or CASES, _ground(None).mounted)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _say(outcome_lines(found))
    sys.exit(EXIT_FAILED if found.failures else 0)


# --- proposals --------------------------------------------------------------------------------------------------------


@rbac.command(help="Changes of the rules that agents have proposed, oldest first. None of them is in force.")
@repo_option
@state_option
@json_option
@guarded
def proposals(repo: Path | None, state: Path | None, as_json: bool) -> None:
    from controller.metrics.proposals import proposals_in  # noqa: PLC0415
    from controller.terminal.permissions import proposal_lines  # noqa: PLC0415

    with reading(place(repo, state)) as record:
        found = run(proposals_in(record.log))
    if as_json:
        print_json([asdict(one) for one in found])
        return
    _say(proposal_lines(found))


@rbac.command(help="One proposed change: why, who would gain and lose, and how a person adopts it. ID as in the list.")
@click.argument("proposal_id", metavar="ID")
@repo_option
@state_option
@json_option
@guarded
def proposal(proposal_id: str, repo: Path | None, state: Path | None, as_json: bool) -> None:
    from controller.metrics.proposals import proposals_in  # noqa: PLC0415
    from controller.terminal.permissions import one_proposal_lines  # noqa: PLC0415
    from controller.terminal.words import opened  # noqa: PLC0415
    from rbac.load import SHIPPED  # noqa: PLC0415

    with reading(place(repo, state)) as record:
        found = next((one for one in run(proposals_in(record.log)) if one.id == proposal_id), None)
        if found is None:
            raise Refused(f"there is no proposal {proposal_id!r}", "See them: flyball rbac proposals")
        why, text = run(opened(found.why, record.seals)), run(opened(found.text, record.seals))
        in_force = record.authority.digest
    if as_json:
        print_json({**asdict(found), "why": why, "text": text, "stale": found.before != in_force})
        return
    _say(one_proposal_lines(found, why, text, SHIPPED / found.file, stale=found.before != in_force))


def _rules(folder: Path | None) -> Path:
    """None: those in force. Raises ConfigError for a folder that holds none."""
    from controller.commands.revisions import rules_folder  # noqa: PLC0415
    from rbac.load import SHIPPED  # noqa: PLC0415

    found = rules_folder(folder) if folder else SHIPPED
    if found is None:
        raise ConfigError(f"{folder} holds no grants/, nor rbac/grants/", "Name a folder with grants/ and policy/")
    return found


def _say(lines: Any) -> None:
    for line in lines:
        click.echo(line)
