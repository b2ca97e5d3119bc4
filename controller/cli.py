"""`flyball`: one command for those who ask, those on call, and those who review."""

from __future__ import annotations

import click

from controller import VERSION
from controller.commands import clients, ledger, people, privacy, record, store, work
from controller.commands.audit import audit
from controller.commands.benchmarks import benchmarks
from controller.commands.blame import blame_ai
from controller.commands.demo import demo
from controller.commands.explain import explain
from controller.commands.pin import pin
from controller.commands.rbac import rbac
from controller.commands.replay import replay

EPILOG = """\b
Begin here:
  flyball demo                     the whole loop on this machine, in about a minute
  flyball init && flyball run "…"  one task on your own repository
  flyball status                   where everything is
  flyball show DELIVERY            why it went the way it did
  flyball explain DELIVERY         why it had its colour, and what would have changed it
  flyball replay DELIVERY          the verdict on it, computed again from its record
  flyball stop                     everything forward stops, canaries go to stable
  flyball rbac report              what each agent may do, and what it has used
"""


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(VERSION, prog_name="flyball")
def main() -> None:
    """Flyball carries a task to production with nobody in between, and back again when telemetry says that it hurts."""


for part in (clients.clients, clients.token, pin):
    rbac.add_command(part)

for part in (store.migrate, store.move):
    record.log.add_command(part)

for command in (
    demo,
    work.init,
    work.run_task,
    work.serve,
    work.down,
    record.status,
    record.show,
    explain,
    record.messages,
    people.approve,
    people.reject,
    people.hold,
    people.release,
    people.promote,
    people.retry,
    replay,
    people.unstick,
    people.stop,
    people.resume,
    people.revoke,
    record.log,
    record.graph,
    rbac,
    audit,
    blame_ai,
    benchmarks,
    privacy.privacy,
    ledger.sign,
    ledger.witness,
    ledger.keys,
):
    main.add_command(command)

if __name__ == "__main__":
    main()
