"""`flyball demo`: the whole loop on this machine, for real. Only the model is scripted, and says so."""

from __future__ import annotations

from pathlib import Path

import click

from controller.commands.common import guarded, json_option, run

DEFAULT = Path.home() / ".flyball-demo"


@click.command()
@click.option(
    "--dir",
    "state",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT,
    show_default="~/.flyball-demo",
    help="State folder; it is kept, and a demo that was cut off goes on in it.",
)
@click.option("--fresh", is_flag=True, help="Throw an earlier demo's state away first.")
@click.option(
    "--unsafe-accept-plain",
    is_flag=True,
    help="Where no sandbox starts (as on macOS), let the changes' code run as you, with your files, keys and network.",
)
@click.option("--verbose", is_flag=True, help="Show quiet entries too.")
@click.option("--color/--no-color", default=None, help="Default: colour on a terminal, none elsewhere.")
@json_option
@guarded
def demo(
    state: Path, *, fresh: bool, unsafe_accept_plain: bool, verbose: bool, color: bool | None, as_json: bool
) -> None:
    """Watch Flyball deliver a good change, take a bad one back, and refuse what may not be.

    \b
    1. a good change: authored, tested, merged, deployed step by step, confirmed;
    2. a change that passes every test and fails users: caught at a canary step, rolled back,
       reverted, fixed with a regression test, deployed and confirmed;
    3. an agent that tries what it may not: refused at the gate, nothing changed.

    \b
    Real: git, the test runs, the service and its HTTP traffic, OpenTelemetry, the statistics, the roll-back.
    Scripted: the model's answers, unless ANTHROPIC_API_KEY is set. Takes about a minute.
    """  # noqa: D301 - the backspace is click's mark for a paragraph that it leaves as it is
    from controller.demo.conduct import conduct  # noqa: PLC0415
    from controller.terminal.screen import Screen  # noqa: PLC0415

    screen = Screen(json_lines=as_json, color=color, verbose=verbose)
    play = conduct(state.expanduser().resolve(), screen, fresh=fresh, accept_plain=unsafe_accept_plain)
    raise SystemExit(run(play))
