"""Doing one's own work with Flyball: set a repository up, ask for a change, keep a controller running."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from controller.commands.common import (
    Place,
    current_branch,
    event_id,
    guarded,
    json_option,
    person,
    place,
    place_without_file,
    repo_option,
    run,
    state_option,
)
from controller.errors import ConfigError
from controller.settings import FILE, slug

if TYPE_CHECKING:
    from controller.domain.delivery import Delivery
    from controller.terminal.screen import Screen
    from controller.wiring import ModelChoice

SHUTDOWN_SECONDS = 15
TEMPLATE = Path(__file__).with_name("flyball.toml.template")


@click.command(help="Write a commented flyball.toml for a repository. Nothing else is touched.")
@click.option(
    "--repo",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path(),
    help="Repository. Default: here.",
)
@click.option("--force", is_flag=True, help="Replace a flyball.toml that is there.")
@guarded
def init(repo: Path, force: bool) -> None:
    target = repo.resolve() / FILE
    if not (repo / ".git").exists():
        raise ConfigError(
            f"{repo.resolve()} is no git repository", "Run `git init` and commit something, or name another with --repo"
        )
    if target.exists() and not force:
        raise ConfigError(f"{target} is there already", "Edit it, or replace it with --force")
    text = TEMPLATE.read_text().replace("@NAME@", slug(repo.resolve().name))
    target.write_text(text.replace('branch = "main" ', f'branch = "{current_branch(repo)}" '))
    click.echo(f"Wrote {target}. Read it, then:")
    click.echo('  flyball run "what you want changed"     one task, here and now')
    click.echo("  flyball serve                           keep a controller running")


@click.command(
    name="run", help="Ask for a change and watch it through. TASK is a sentence, as you would write it to a colleague."
)
@click.argument("task")
@click.option(
    "--repo",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Repository. Default: here.",
)
@click.option("--feature", help="The feature that this counts towards.")
@click.option(
    "--script",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Let a scripted agent work instead of a model; everything it touches is labelled scripted.",
)
@click.option(
    "--allow-dirty",
    is_flag=True,
    help="Go on although the work tree has changes that are not committed; they stay out.",
)
@click.option("--verbose", is_flag=True, help="Show quiet entries too.")
@click.option("--color/--no-color", default=None, help="Default: colour on a terminal, none elsewhere.")
@state_option
@json_option
@guarded
def run_task(
    *,
    task: str,
    repo: Path,
    feature: str | None,
    script: Path | None,
    allow_dirty: bool,
    verbose: bool,
    color: bool | None,
    state: Path | None,
    as_json: bool,
) -> None:
    from controller.terminal.screen import Screen  # noqa: PLC0415

    screen = Screen(json_lines=as_json, color=color, verbose=verbose)
    ended = run(_run(place_without_file(repo, state), task, feature, script, screen, allow_dirty=allow_dirty))
    raise SystemExit(0 if ended else 1)


async def _run(
    found: Place, task: str, feature: str | None, script: Path | None, screen: Screen, *, allow_dirty: bool
) -> bool:
    """True: the change is where it was meant to go."""
    from controller.commands.watching import all_ended, family, first_release, told_where, watching  # noqa: PLC0415
    from controller.domain.delivery import Phase  # noqa: PLC0415
    from controller.embedded import bring_in  # noqa: PLC0415
    from controller.metrics.deliveries import record_of  # noqa: PLC0415
    from controller.terminal.report import delivery_row, print_summary  # noqa: PLC0415
    from controller.wiring import controller  # noqa: PLC0415

    with _model(found, script) as model:
        bring_in(found.settings, found.root, found.folder, allow_dirty=allow_dirty)
        async with (
            controller(found.settings, found.root, found.folder, model) as running,
            watching(running, screen) as watch,
        ):
            log, repository = running.record.log, found.settings.configured(found.root)
            await told_where(watch, found.settings)
            await first_release(watch, found.settings)
            if watch.stop.is_set():
                return False
            asked = await running.record.intake.ask(
                person(),
                task,
                repository=repository.name,
                branch=repository.branch,
                source="cli",
                event_id=event_id(),
                feature=feature,
            )
            await watch.until(lambda: all_ended(log, asked.delivery))
            members = await family(log, asked.delivery)
            head, record = await log.head(), await record_of(log)
            rows = [delivery_row(d, record.spent_on(d.id)) for d in members]
            screen.value("summary", {"deliveries": rows, "log": {"size": head.size, "root": head.root}})
            if not screen.json_lines:
                screen.heading("Summary")
                await print_summary(screen.console, record, head, running.record.seals)
            _what_now(found, screen, members)
            return any(d.phase is Phase.CONFIRMED for d in members)


def _what_now(found: Place, screen: Screen, members: list[Delivery]) -> None:
    from controller.adapters.clock import SystemClock  # noqa: PLC0415
    from controller.adapters.git import GitForge  # noqa: PLC0415
    from controller.adapters.git_import import sync_back  # noqa: PLC0415
    from controller.domain.delivery import TERMINAL, Phase  # noqa: PLC0415

    repository = found.settings.configured(found.root)
    screen.say()
    for d in members:
        if d.phase is Phase.STUCK:
            screen.say(f"{d.id} is stuck and waits for you: look at it, then let it go on with: flyball unstick {d.id}")
        elif d.phase not in TERMINAL:
            screen.say(f"{d.id} is under way and goes on whenever a controller runs: flyball serve")
    if not any(d.merged for d in members):
        screen.say(f"Nothing has landed: {repository.branch} is as it was. Why: flyball show {members[0].id}")
        return
    store = GitForge(found.folder.forge, SystemClock()).store
    commit = sync_back(store, repository.name, found.settings.source(found.root), repository.branch)
    landed = f"flyball/{repository.branch}"
    screen.say(f"What has landed is in your repository as {landed} ({commit[:10]}): git merge {landed}")


@click.command(help="Run a controller until it is stopped. Several on one state folder are safe.")
@click.option(
    "--script",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A scripted agent instead of a model, labelled scripted.",
)
@click.option("--verbose", is_flag=True, help="Show quiet entries too.")
@click.option("--color/--no-color", default=None, help="Default: colour on a terminal, none elsewhere.")
@repo_option
@state_option
@json_option
@guarded
def serve(
    *, script: Path | None, verbose: bool, color: bool | None, repo: Path | None, state: Path | None, as_json: bool
) -> None:
    from controller.terminal.screen import Screen  # noqa: PLC0415

    run(_serve(place(repo, state), script, Screen(json_lines=as_json, color=color, verbose=verbose)))


async def _serve(found: Place, script: Path | None, screen: Screen) -> None:
    from controller.commands.watching import told_where, watching  # noqa: PLC0415
    from controller.embedded import bring_in  # noqa: PLC0415
    from controller.wiring import controller  # noqa: PLC0415

    with _model(found, script) as model:
        bring_in(found.settings, found.root, found.folder, allow_dirty=True)
        async with (
            controller(found.settings, found.root, found.folder, model) as running,
            watching(running, screen) as watch,
        ):
            screen.say(f"Flyball serves {found.root} (state in {found.state}). Stop it with Ctrl-C.")
            await told_where(watch, found.settings)

            async def never() -> bool:
                return False

            await watch.until(never)


@click.command(help="Shut down the service that Flyball runs here: its instances and their proxy. The log stays.")
@repo_option
@state_option
@guarded
def down(repo: Path | None, state: Path | None) -> None:
    click.echo("shut down" if run(_down(place(repo, state))) else "nothing was running")


async def _down(found: Place) -> bool:
    """False: there was nothing to shut down."""
    from controller.adapters.edge_client import EdgeLink  # noqa: PLC0415
    from controller.adapters.edge_start import running  # noqa: PLC0415

    if await running(found.folder.edge) is None:
        return False
    edge = EdgeLink(found.folder.edge, None)
    try:
        await edge.ask("POST", "/shutdown", SHUTDOWN_SECONDS)
    finally:
        await edge.close()
    return True


def _model(found: Place, script: Path | None) -> AbstractContextManager[ModelChoice]:
    from controller.commands.models import live_model, scripted_model  # noqa: PLC0415

    return scripted_model(script) if script is not None else live_model(found.settings)
