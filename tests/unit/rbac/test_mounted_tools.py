"""Tools of other servers, decided like our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from served_here import SERVED

from controller.errors import ConfigError
from rbac.catalogue import TOOLS, Direction, Need, Sensitivity, Tool
from rbac.decide import Authority
from rbac.model import Request

REPOSITORY = frozenset({Need.REPOSITORY})
FIND = Tool(Direction.SAFE, REPOSITORY, scope="mount:tracker", reads=True, taints=True)
REPLY = Tool(Direction.FORWARD, REPOSITORY, scope="mount:tracker", broadcasts=True, sensitivity=Sensitivity.PUBLIC)
DEPLOY = Tool(Direction.FORWARD, REPOSITORY, scope="mount:tracker", production_impacting=True)
MOUNTED = {"tracker__find": FIND, "tracker__Reply_to": REPLY, "tracker__deploy": DEPLOY}


def granted(folder: Path, role: str, tools: str, repositories: str = "[shop]") -> None:
    with (folder / f"grants/{role}.yaml").open("a") as file:
        file.write(f"\n  - name: tracker\n    tools: [{tools}]\n    repositories: {repositories}\n")


def call(agent: str, tool: str, **facts: Any) -> Request:
    return Request.model_validate({"agent": agent, "tool": tool, "repository": "shop", **facts})


@pytest.fixture
def authority(folder: Path) -> Authority:
    granted(folder, "author", ", ".join(MOUNTED))
    granted(folder, "compliance", "tracker__find, tracker__deploy")
    return Authority(SERVED, folder, MOUNTED)


def test_a_mounted_tool_is_for_whom_a_grant_names_it_and_only_where(authority: Authority) -> None:
    assert authority.decide(call("author", "tracker__find")).allowed
    assert authority.decide(call("author", "tracker__find", repository="lib")).rules[0] == "no-permit"
    assert authority.decide(call("author", "tracker__find", repository=None)).rules == ("missing-repository",)
    assert authority.decide(call("contributor", "tracker__find")).rules == ("no-permit", "tool-not-granted")
    assert authority.decide(call("author", "tracker__other")).rules == ("unknown-tool",)
    assert authority.decide(call("author", "tracker__find", own_repository="lib")).rules == (
        "outside-the-sessions-repository",
    )


def test_a_mounted_tool_is_seen_like_any_other_and_has_its_mounts_scope(authority: Authority) -> None:
    names = [*MOUNTED, "read_file"]
    assert authority.visible_tools("author", names) == tuple(names)
    assert authority.visible_tools("author", names, scopes=frozenset({"mount:tracker"})) == tuple(MOUNTED)
    assert "mount:tracker" in authority.scopes_for("author")
    assert authority.scope_of("tracker__find") == "mount:tracker"
    assert authority.scope_of("tracker__other") is None
    assert authority.scope_of("forge.land") is None
    assert authority.decide(call("author", "tracker__find", scopes=frozenset({"forge:read"}))).rules == (
        "insufficient-scope",
    )


def test_a_mounted_tools_annotations_drive_the_same_rules(authority: Authority) -> None:
    silent = call("author", "tracker__Reply_to", tainted=True, read_confidential=True)
    assert authority.decide(silent).rules == ("tainted-run-with-secrets-stays-silent",)
    deploy = call("author", "tracker__deploy", tainted=True)
    assert authority.decide(deploy).rules == ("tainted-run-moves-nothing-in-production",)
    assert authority.decide(deploy.model_copy(update={"tainted": False})).allowed
    assert authority.decide(call("author", "tracker__find", tainted=True, read_confidential=True)).allowed
    assert authority.decide(call("compliance", "tracker__find")).allowed
    assert authority.decide(call("compliance", "tracker__deploy")).rules == ("these-roles-only-watch-and-tell",)
    assert authority.sensitivity_of("tracker__Reply_to") is Sensitivity.PUBLIC
    assert authority.sensitivity_of("tracker__gone") is Sensitivity.CONFIDENTIAL


def test_a_grant_that_names_a_tool_of_no_mount_stops_the_start_with_its_line(folder: Path) -> None:
    granted(folder, "author", "tracker__find")
    line = len((folder / "grants/author.yaml").read_text().splitlines()) - 1
    with pytest.raises(ConfigError, match=rf"^grants/author\.yaml:{line}: .*\[gateway\.mounts\.tracker\.tools\]"):
        Authority(SERVED, folder)
    Authority(SERVED, folder, MOUNTED)


@pytest.mark.parametrize(
    ("name", "tool", "words"),
    [
        ("read_file", FIND, "called like one of Flyball's own"),
        ("forge.land", FIND, "called like one of Flyball's own"),
        ("tracker_find", FIND, "not named <mount>__<tool>"),
        ("Tracker__find", FIND, "not named <mount>__<tool>"),
        ("tr\u0430cker__find", FIND, "not named <mount>__<tool>"),
        ('tracker__find", "x', FIND, "not named <mount>__<tool>"),
        ("tracker__find\n", FIND, "not named <mount>__<tool>"),
        ("tracker__" + "a" * 65, FIND, "not named <mount>__<tool>"),
        ("other__find", FIND, "has scope 'mount:tracker'"),
        ("tracker__find", Tool(Direction.SAFE, REPOSITORY, scope="workspace:read"), "has scope 'workspace:read'"),
        ("tracker__find", Tool(Direction.SAFE, frozenset(), scope="mount:tracker"), "decided for the session's"),
        ("tracker__find", Tool(Direction.SAFE, frozenset(Need), scope="mount:tracker"), "decided for the session's"),
    ],
)
def test_a_mounted_tool_that_could_pass_for_another_is_refused(name: str, tool: Tool, words: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        Authority(SERVED, mounted={name: tool})
    assert words in str(wrong.value)


def test_what_one_authority_mounts_no_other_knows(authority: Authority) -> None:
    assert set(authority.catalogue) == {*TOOLS, *MOUNTED}
    assert not any("__" in name for name in TOOLS)
    other = Authority(SERVED)
    assert other.decide(call("author", "tracker__find")).rules == ("unknown-tool",)
    with pytest.raises(TypeError):
        authority.catalogue["sudo"] = FIND  # type: ignore[index]


def test_another_annotation_of_a_mounted_tool_is_another_rule_set(folder: Path) -> None:
    digests = {
        Authority(SERVED, folder, mounted).digest
        for mounted in ({}, MOUNTED, {**MOUNTED, "tracker__find": REPLY}, {"tracker__find": FIND})
    }
    assert len(digests) == 4
    assert Authority(SERVED, folder, dict(reversed(MOUNTED.items()))).digest in digests
