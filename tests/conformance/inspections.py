"""What a person at the official inspector's command line sees of the gateway, in both eras of the wire."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from suite import INSPECTOR, Ended, Node

INSPECTION_S = 25
ERAS = ("legacy", "modern")  # 2025-11-25, 2026-07-28


class Code(IntEnum):
    """The inspector's exit codes, as far as they come up here."""

    DONE = 0
    NO_WAY_IN = 3
    TOOL_SAYS_NO = 5


@dataclass(frozen=True, slots=True)
class Inspection:
    name: str
    arguments: tuple[str, ...]
    code: Code
    shows: tuple[str, ...]  # in what it prints, results and errors
    hides: tuple[str, ...] = ()
    token: bool = True  # False: a token that nobody has


def _call(tool: str, *arguments: str) -> tuple[str, ...]:
    pairs = [part for argument in arguments for part in ("--tool-arg", argument)]
    return ("--method", "tools/call", "--tool-name", tool, *pairs)


def inspections(branch: str) -> tuple[Inspection, ...]:
    """`branch` is the session's own."""
    refused = '"flyball/refused": true'
    return (
        Inspection(
            "lists the tools of its session, with schemas that any client can read",
            ("--method", "tools/list", "--strict"),
            Code.DONE,
            ('"name": "read_file"', '"name": "git_push"'),
            hides=('"name": "promote"', '"name": "propose_policy"', '"name": "roll_back"'),
        ),
        Inspection("makes an allowed call", _call("read_file", "path=README.md"), Code.DONE, ("The shop.",)),
        Inspection(
            "is refused another branch",
            _call("git_push", "branch=main"),
            Code.TOOL_SAYS_NO,
            (refused, branch, "tool_is_error"),
        ),
        Inspection(
            "is refused a secret",
            _call("read_file", "path=config/.env"),
            Code.TOOL_SAYS_NO,
            (refused, "kept from agents"),
            hides=("total-secret",),
        ),
        Inspection(
            "is refused an argument too many",
            _call("read_file", "path=README.md", "as=root"),
            Code.TOOL_SAYS_NO,
            (refused,),
            hides=("The shop.",),
        ),
        Inspection("finds no tool that does not exist", _call("launch_rocket"), Code.TOOL_SAYS_NO, ("tool_not_found",)),
        Inspection("finds no tool that is another role's", _call("promote"), Code.TOOL_SAYS_NO, ("tool_not_found",)),
        Inspection(
            "is not let in with a token that nobody has",
            ("--method", "tools/list", "--stored-auth-only"),
            Code.NO_WAY_IN,
            ("auth_required",),
            hides=("read_file",),
            token=False,
        ),
    )


async def inspected(node: Node, one: Inspection, era: str, url: str, token: str) -> tuple[Ended, str]:
    """What the inspector said, and what is wrong with it ("": nothing)."""
    ended = await node.run(
        INSPECTOR,
        *("--cli", url, "--transport", "http", "--protocol-era", era),
        *("--header", f"Authorization: Bearer {token if one.token else 'nobody'}", *one.arguments),
        seconds=INSPECTION_S,
    )
    said = ended.out + ended.err
    wrong = [
        *([f"exit code {ended.code}, not {one.code}"] if ended.code != one.code else []),
        *(f"does not say {words!r}" for words in one.shows if words not in said),
        *(f"says {words!r}" for words in (*one.hides, token) if words in said),
    ]
    return ended, "; ".join(wrong)
