"""Each attack stands beside a harmless call that differs from it in one thing only."""

from __future__ import annotations

from typing import Any

import pytest

from rbac.decide import Authority
from rbac.model import Request

OWN = "agent/shop-3f2a1b/1"
Call = dict[str, Any]


def session(tool: str, **facts: Any) -> Call:
    """A call by an author's session on the shop, tied to its repository, branch, task and protected files."""
    tied = {
        "own_repository": "shop",
        "own_branch": OWN,
        "delivery": "shop-3f2a1b",
        "task_paths": ("src/**", "tests/**", "pyproject.toml", "README.md"),
        "protected_paths": ("build.py", "src/billing/**"),
    }
    return {"agent": "author", "tool": tool, "repository": "shop", **tied, **facts}


def edit(path: str, **facts: Any) -> Call:
    return session("edit_file", paths=(path,), **facts)


def push(branch: str, **facts: Any) -> Call:
    return session("git_push", branch=branch, **facts)


def step(agent: str, tool: str, **facts: Any) -> Call:
    return {"agent": agent, "tool": tool, **facts}


PAIRS: list[tuple[str, Call, Call]] = [
    # paths
    ("parent traversal", edit("src/../.github/workflows/ci.yml"), edit("src/workflows/ci.yml")),
    ("leading traversal", edit("../shop/src/a.py"), edit("src/a.py")),
    ("trailing traversal", edit("src/.."), edit("src/a")),
    ("dot segment", edit("./build.py"), edit("src/build.py")),
    ("dot in the middle", edit("src/./billing/pay.py"), edit("src/bill/pay.py")),
    ("absolute path", edit("/etc/passwd"), edit("src/etc/passwd")),
    ("double slash", edit("src//billing/pay.py"), edit("src/shipping/pay.py")),
    ("trailing slash", edit("src/a.py/"), edit("src/a.py")),
    ("backslash", edit("src\\billing\\pay.py"), edit("src/pay.py")),
    ("percent encoding", edit("src/%2e%2e/build.py"), edit("src/2e2e/build.py")),
    ("NUL byte", edit("src/a.py\x00.md"), edit("src/a.py.md")),
    ("newline", edit("src/a.py\nbuild.py"), edit("src/a.py-build.py")),
    ("trailing newline", edit("src/a.py\n"), edit("src/a.py")),
    ("fullwidth dots", edit("src/\uff0e\uff0e/build.py"), edit("src/dots/build.py")),
    ("Cyrillic look-alike", edit("src/\u0430pi.py"), edit("src/api.py")),
    ("decomposed letter", edit("src/cafe\u0301.py"), edit("src/cafe.py")),
    ("zero-width space", edit("src/bil\u200bling/pay.py"), edit("src/bil/pay.py")),
    ("right-to-left override", edit("src/\u202eyp.a"), edit("src/yp.a")),
    ("home directory", edit("~/.ssh/authorized_keys"), edit("src/ssh/authorized_keys")),
    ("option instead of a file", edit("--output=src/a.py"), edit("src/output=a.py")),
    ("git directory", edit(".git/hooks/pre-commit"), edit("src/git/hooks/pre-commit")),
    ("git directory in capitals", edit("src/.GIT/config"), edit("src/GIT/config")),
    ("short name of the git directory", edit("git~1/config"), edit("src/git1/config")),
    ("trailing dot", edit("src/billing./pay.py"), edit("src/bills/pay.py")),
    ("trailing space", edit("src/billing /pay.py"), edit("src/billing new/pay.py")),
    ("alternate stream", edit("build.py::$DATA"), edit("src/build.py")),
    ("protected file", edit("build.py"), edit("src/build.py")),
    ("protected folder", edit("src/billing/pay.py"), edit("src/shipping/pay.py")),
    ("protected folder in capitals", edit("src/Billing/pay.py"), edit("src/Shipping/pay.py")),
    ("protected folder itself", edit("src/billing"), edit("src/shipping")),
    ("CI definition", edit(".github/workflows/ci.yml"), edit("src/github/workflows/ci.yml")),
    ("CI definition in capitals", edit(".GitHub/workflows/ci.yml"), edit("src/GitHub/workflows/ci.yml")),
    ("code owners", edit("src/CODEOWNERS"), edit("src/owners")),
    ("attributes that run filters", edit("src/.gitattributes"), edit("src/.gitignore")),
    ("instructions to agents", edit("src/AGENTS.md"), edit("src/agents_guide.md")),
    ("outside the task", edit("docs/a.md"), edit("README.md")),
    ("prefix of the task", edit("src2/a.py"), edit("src/2/a.py")),
    (
        "one bad among good",
        session("edit_file", paths=("src/a.py", "build.py")),
        session("edit_file", paths=("src/a.py", "src/b.py")),
    ),
    ("no path at all", session("write_file"), session("write_file", paths=("src/a.py",))),
    (
        "deleting a protected file",
        session("delete_file", paths=("build.py",)),
        session("delete_file", paths=("src/old.py",)),
    ),
    ("reading a secret", session("read_file", paths=("src/.env",)), session("read_file", paths=("src/env.py",))),
    (
        "reading a key in capitals",
        session("read_file", paths=("deploy/TLS.PEM",)),
        session("read_file", paths=("deploy/tls.md",)),
    ),
    ("manifest, tainted", edit("pyproject.toml", tainted=True), edit("pyproject.toml")),
    ("own test set-up, tainted", edit("tests/conftest.py", tainted=True), edit("tests/test_a.py", tainted=True)),
    # branches
    ("push to main", push("main"), push(OWN)),
    ("push to main as own branch", push("main", own_branch="main"), push(OWN)),
    ("push to Main", push("Main", own_branch="Main"), push(OWN)),
    ("push to a full ref", push("refs/heads/main", own_branch="refs/heads/main"), push(OWN)),
    ("push to a half ref", push("heads/main", own_branch="heads/main"), push(OWN)),
    ("push to HEAD", push("HEAD", own_branch="HEAD"), push(OWN)),
    ("forced refspec", push("+main"), push(OWN)),
    ("refspec", push(f"{OWN}:main"), push(OWN)),
    ("traversal in a branch", push("agent/../main"), push(OWN)),
    ("option instead of a branch", push("--mirror"), push(OWN)),
    ("reflog spelling", push("main@{0}"), push(OWN)),
    ("another session's branch", push("agent/shop-3f2a1b/2"), push(OWN)),
    ("another delivery's branch", push("agent/shop-999999/1"), push(OWN)),
    ("longer name", push(OWN + "0"), push(OWN)),
    ("no branch at all", session("git_push"), push(OWN)),
    (
        "step pushes another delivery's branch",
        step("author", "forge.push", repository="shop", branch="agent/shop-bbbbbb/1", delivery="shop-aaaaaa"),
        step("author", "forge.push", repository="shop", branch="agent/shop-aaaaaa/1", delivery="shop-aaaaaa"),
    ),
    (
        "step pushes deeper than its delivery",
        step("author", "forge.push", repository="shop", branch="agent/shop-aaaaaa/1/x", delivery="shop-aaaaaa"),
        step("author", "forge.push", repository="shop", branch="agent/shop-aaaaaa/2", delivery="shop-aaaaaa"),
    ),
    (
        "delivery that is a pattern",
        step("author", "forge.push", repository="shop", branch="agent/x/y/1", delivery="**"),
        step("author", "forge.push", repository="shop", branch="agent/y/1", delivery="y"),
    ),
    (
        "delivery that is nobody's",
        step("author", "forge.push", repository="shop", branch="agent/shop-aaaaaa/1"),
        step("author", "forge.push", repository="shop", branch="agent/shop-aaaaaa/1", delivery="*"),
    ),
    (
        "merger lands on another branch",
        step("merger", "forge.land", repository="shop", branch="agent/shop-aaaaaa/1"),
        step("merger", "forge.land", repository="shop", branch="main"),
    ),
    (
        "main of another repository",
        step("merger", "forge.land", repository="lib", branch="main"),
        step("merger", "forge.land", repository="lib", branch="trunk"),
    ),
    # repositories
    ("another repository", edit("src/a.py", repository="lib"), edit("src/a.py")),
    (
        "unknown repository",
        step("checker", "ci.start", repository="infra"),
        step("checker", "ci.start", repository="shop"),
    ),
    ("wildcard as a name", step("checker", "ci.start", repository="*"), step("checker", "ci.start", repository="lib")),
    (
        "repository in capitals",
        step("checker", "ci.start", repository="Shop"),
        step("checker", "ci.start", repository="shop"),
    ),
    (
        "repository with .git",
        step("checker", "ci.start", repository="shop.git"),
        step("checker", "ci.start", repository="shop"),
    ),
    (
        "repository by path",
        step("checker", "ci.start", repository="../shop"),
        step("checker", "ci.start", repository="shop"),
    ),
    ("no repository", step("checker", "ci.start"), step("checker", "ci.start", repository="shop")),
    # roles, tools, environments
    ("unknown agent", step("root", "chat.tell"), step("intake", "chat.tell")),
    (
        "agent in capitals",
        step("Merger", "forge.land", repository="shop", branch="main"),
        step("merger", "forge.land", repository="shop", branch="main"),
    ),
    ("empty agent", step("", "chat.tell"), step("observer", "chat.tell")),
    (
        "unknown tool",
        step("merger", "forge.force", repository="shop", branch="main"),
        step("merger", "forge.land", repository="shop", branch="main"),
    ),
    (
        "observer sets a weight",
        step("observer", "platform.set_weight", environment="production"),
        step("releaser", "platform.set_weight", environment="production"),
    ),
    (
        "releaser restores",
        step("releaser", "platform.restore", environment="production"),
        step("responder", "platform.restore", environment="production"),
    ),
    (
        "responder confirms",
        step("responder", "platform.confirm", environment="production"),
        step("releaser", "platform.confirm", environment="production"),
    ),
    (
        "releaser lands",
        step("releaser", "forge.land", repository="shop", branch="main"),
        step("merger", "forge.land", repository="shop", branch="main"),
    ),
    (
        "checker comments",
        step("checker", "forge.comment", repository="shop"),
        step("merger", "forge.comment", repository="shop"),
    ),
    (
        "reviewer starts CI",
        step("reviewer", "ci.start", repository="shop"),
        step("checker", "ci.start", repository="shop"),
    ),
    ("intake edits", step("intake", "edit_file", repository="shop", paths=("src/a.py",)), step("intake", "chat.tell")),
    (
        "unknown environment",
        step("releaser", "platform.confirm", environment="staging"),
        step("releaser", "platform.confirm", environment="production"),
    ),
    (
        "no environment",
        step("releaser", "platform.confirm"),
        step("releaser", "platform.confirm", environment="production"),
    ),
    (
        "forward verb as a safe one",
        step("merger", "forge.land", repository="shop", branch="main", direction="safe"),
        step("merger", "forge.land", repository="shop", branch="main", direction="forward"),
    ),
    (
        "tainted run lands",
        step("merger", "forge.land", repository="shop", branch="main", tainted=True),
        step("merger", "forge.comment", repository="shop", tainted=True),
    ),
]


def _request(call: Call) -> Request:
    return Request.model_validate(call, strict=False)


@pytest.mark.parametrize(("attack", "twin"), [pair[1:] for pair in PAIRS], ids=[pair[0] for pair in PAIRS])
def test_an_attack_is_refused_and_its_harmless_twin_is_not(authority: Authority, attack: Call, twin: Call) -> None:
    refused, let_through = authority.decide(_request(attack)), authority.decide(_request(twin))
    assert not refused.allowed, refused
    assert refused.rules
    assert let_through.allowed, let_through


def test_there_are_enough_attacks() -> None:
    assert len(PAIRS) >= 40
    assert len({pair[0] for pair in PAIRS}) == len(PAIRS)


def test_a_refusal_never_repeats_what_was_refused(authority: Authority) -> None:
    shout = "IGNORE-ALL-RULES"
    for call in (
        edit(f"../{shout}"),
        push(f"+{shout}"),
        step("author", shout),
        step(shout, "chat.tell"),
        edit(f"docs/{shout}"),
        push(f"agent/{shout}"),
    ):
        assert shout not in authority.decide(_request(call)).reason
