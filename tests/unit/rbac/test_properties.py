"""What holds for every rule set and every call, tried on worlds that chance makes."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cedarpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served_here import SERVED

from controller.errors import Refused
from rbac import canonical
from rbac.catalogue import TOOLS, Direction, Need, Role
from rbac.cedar import MAX_DECISION_NS
from rbac.decide import Authority
from rbac.entities import Question, cedar_request
from rbac.facts import Facts
from rbac.load import SHIPPED
from rbac.model import Request

SLOW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# --- the list is {tool: some argument is allowed} --------------------------------------------------------------------

NAMES = tuple(
    "/".join(parts)
    for letters, depths in ((("a", "aq", "q", "zq"), (1, 2, 3)), (("a", "q"), (4, 5)))
    for depth in depths
    for parts in itertools.product(letters, repeat=depth)
)
SEGMENT = st.sampled_from(["a", "*", "**", "a*", "z*"])
PATTERN = st.lists(SEGMENT, min_size=1, max_size=3).map("/".join)
TRIED = ("read_file", "edit_file", "git_push", "forge.push", "forge.land", "chat.tell", "platform.restore", "search")
BRANCHES = ("main", "trunk", *(name for name in NAMES if name.count("/") < 2))
SOME = st.lists(PATTERN, max_size=2)


def grants_file(draw: Callable[..., Any]) -> str:
    """One role that is granted each tool somewhere."""
    blocks = []
    for number, tool in enumerate(TRIED):
        repositories = draw(st.sampled_from(["[]", "[shop]", "[lib]", '["*"]', "[elsewhere]"]))
        environments = draw(st.sampled_from(["[]", "[production]", '["*"]', "[elsewhere]"]))
        branches = draw(
            st.lists(st.sampled_from(["{own}", "{protected}", "main", "a/{delivery}", "*", "a/**"]), max_size=2)
        )
        quoted = [f'"{branch}"' for branch in branches]
        paths = {"allowed": draw(SOME), "never": draw(SOME)}
        blocks.append(
            f"  - name: g{number}\n    tools: [{tool}]\n    repositories: {repositories}\n"
            f"    environments: {environments}\n    branches: [{', '.join(quoted)}]\n"
            f"    paths: {{allowed: {_yaml(paths['allowed'])}, never: {_yaml(paths['never'])}}}\n"
        )
    return "why: by chance\ngrants:\n" + "".join(blocks)


def _yaml(patterns: list[str]) -> str:
    return "[" + ", ".join(f'"{pattern}"' for pattern in patterns) + "]"


def every_call(agent: str, tool: str) -> Iterator[Request]:
    needs = TOOLS[tool].needs
    repositories = ("shop", "lib", None)
    branches = BRANCHES if Need.BRANCH in needs else (None,)
    paths = [(name,) for name in NAMES] if Need.PATHS in needs else [()]
    environments = ("production", None)
    for repository, branch, path, environment in itertools.product(repositories, branches, paths, environments):
        for own, delivery in ((branch, "q"), (None, "q")) if branch else ((None, None),):
            yield Request(
                agent=agent,
                tool=tool,
                repository=repository,
                branch=branch,
                paths=path,
                environment=environment,
                own_branch=own,
                delivery=delivery,
            )


@SLOW
@given(data=st.data())
def test_a_tool_is_listed_exactly_when_some_call_of_it_is_allowed(data: st.DataObject) -> None:
    role = data.draw(st.sampled_from([Role.AUTHOR, Role.MERGER, Role.RESPONDER]))
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(SHIPPED / "policy", Path(folder) / "policy")
        (Path(folder) / "grants").mkdir()
        (Path(folder) / f"grants/{role}.yaml").write_text(f"role: {role}\n{grants_file(data.draw)}")
        authority = Authority(SERVED, Path(folder))
    for tool in TRIED:
        usable = any(authority.decide(asked).allowed for asked in every_call(role, tool))
        assert bool(authority.visible_tools(role, [tool])) == usable, tool


@pytest.mark.parametrize(
    ("allowed", "never", "listed"),
    [
        (["**"], ["*"], True),
        (["**"], ["*", "*/*", "*/*/*"], True),
        (["**"], ["**"], False),
        (["src/*.py"], ["**/*.py"], False),
        (["src/**"], ["SRC/**"], False),
        (["z*"], ["zq*"], True),
        (["src/a.py"], ["**/a.py"], False),
        ([], [], False),
    ],
)
def test_a_tool_whose_every_file_is_excluded_is_not_listed(
    folder: Path, allowed: list[str], never: list[str], listed: bool
) -> None:
    (folder / "grants/author.yaml").write_text(
        "role: author\nwhy: one tool\ngrants:\n  - name: all\n    tools: [edit_file]\n"
        f'    repositories: ["*"]\n    paths: {{allowed: {_yaml(allowed)}, never: {_yaml(never)}}}\n'
    )
    assert bool(Authority(SERVED, folder).visible_tools("author", ["edit_file"])) is listed


# --- another forbid never allows anything more ------------------------------------------------------------------------

FACTS = (
    "branch_granted",
    "branch_protected",
    "paths_granted",
    "paths_in_task",
    "path_never",
    "path_never_tainted",
    "path_protected",
    "tainted",
    "read_confidential",
    "lends",
)
GROUPS = ("reads", "changes_files", "effects", "releases", "tells", "notes", "forward", "broadcasts", "confidential")
CONDITION = st.recursive(
    st.sampled_from([f"context.{fact}" for fact in FACTS])
    | st.sampled_from([f'action in Action::"{group}"' for group in GROUPS])
    | st.sampled_from([f'principal == Agent::"{role}"' for role in Role]),
    lambda inner: st.one_of(
        inner.map(lambda one: f"!({one})"),
        st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(lambda one: f"({one[0]} {one[1]} {one[2]})"),
    ),
    max_leaves=5,
)


def some_calls() -> list[Request]:
    facts = itertools.product(
        Role, TOOLS, ("shop", None), ("main", "agent/d/1", None), ((), ("src/a.py",)), ((False, False), (True, True))
    )
    return [
        Request(
            agent=agent,
            tool=tool,
            repository=repository,
            branch=branch,
            paths=paths,
            environment="production" if Need.ENVIRONMENT in TOOLS[tool].needs else None,
            own_branch="agent/d/1",
            delivery="d",
            tainted=tainted,
            read_confidential=confidential,
        )
        for agent, tool, repository, branch, paths, (tainted, confidential) in facts
    ]


SOME_CALLS = some_calls()


@settings(SLOW, max_examples=8)
@given(condition=CONDITION)
def test_a_forbid_by_chance_never_allows_what_was_refused(folder: Path, authority: Authority, condition: str) -> None:
    shutil.copy(SHIPPED / "policy/flyball.cedar", folder / "policy/flyball.cedar")
    with (folder / "policy/flyball.cedar").open("a") as file:
        file.write(f'\n@id("by-chance")\nforbid (principal, action, resource) when {{ {condition} }};\n')
    stricter = Authority(SERVED, folder)
    for asked in SOME_CALLS:
        before, after = authority.decide(asked), stricter.decide(asked)
        assert before.allowed or not after.allowed
        if before.allowed and not after.allowed:
            assert after.rules == ("by-chance",)
    for role in Role:
        assert set(stricter.visible_tools(role, TOOLS)) <= set(authority.visible_tools(role, TOOLS))


BOOLEANS = st.booleans()


@settings(SLOW, max_examples=200)
@given(data=st.data())
def test_a_call_gets_the_answer_that_all_policies_and_the_schema_would_give(
    authority: Authority, data: st.DataObject
) -> None:
    engine, place = authority._engine._cedar, st.sampled_from(["shop", "lib", None])
    question = Question(
        agent=data.draw(st.sampled_from([*Role])),
        tool=data.draw(st.sampled_from([*TOOLS])),
        repository=data.draw(place),
        own_repository=data.draw(place),
        environment=data.draw(st.sampled_from(["production", None])),
        tainted=data.draw(BOOLEANS),
        read_confidential=data.draw(BOOLEANS),
        lends=data.draw(BOOLEANS),
        facts=Facts(*(data.draw(BOOLEANS) for _ in range(7))),
    )
    policies = cedarpy.PolicySet.from_str((SHIPPED / "policy/flyball.cedar").read_text())
    whole = cedarpy.is_authorized(cedar_request(question), policies, engine._entities, engine._schema)
    assert not whole.diagnostics.errors
    answer = engine.ask(question)
    assert answer.allowed == whole.allowed
    assert answer.rules == tuple(sorted(whole.diagnostics.id_annotations_by_reason.values()))


# --- whatever breaks is a no ------------------------------------------------------------------------------------------

LAND = Request(agent="merger", tool="forge.land", repository="shop", branch="main")


@pytest.mark.parametrize("step_ns", [-1, -(10**12), MAX_DECISION_NS + 1, 10**15])
def test_a_clock_that_jumps_during_a_decision_refuses_it_and_is_not_remembered(step_ns: int) -> None:
    steps = [step_ns]
    now = [10**18]

    def monotonic_ns() -> int:
        now[0] += steps.pop() if steps and now[0] % 2 else 1
        return now[0]

    authority = Authority(SERVED, monotonic_ns=monotonic_ns)
    assert authority.decide(LAND).rules == ("engine-error",)
    assert authority.decide(LAND).allowed


@pytest.mark.parametrize("step_ns", [0, MAX_DECISION_NS])
def test_a_decision_counts_to_the_last_moment_of_its_time_and_on_a_clock_that_stands_still(step_ns: int) -> None:
    now = iter((10**18, 10**18 + step_ns))
    assert Authority(SERVED, monotonic_ns=lambda: next(now)).decide(LAND).allowed


@pytest.mark.parametrize("broken", [MemoryError, ValueError, BaseException])
def test_an_engine_that_fails_once_hides_tools_once(
    monkeypatch: pytest.MonkeyPatch, broken: type[BaseException]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise broken

    authority = Authority(SERVED)
    with monkeypatch.context() as patch:
        patch.setattr(cedarpy, "is_authorized", fails)
        assert authority.visible_tools("merger", TOOLS) == ()
        assert authority.scopes_for("contributor") == frozenset()
        found = authority.explain(LAND)
        assert found.decision.rules == ("engine-error",)
        assert found.permits == ()
    assert "forge.land" in authority.visible_tools("merger", TOOLS)
    assert authority.scopes_for("contributor")


def test_what_is_not_known_is_refused_by_its_kind(authority: Authority) -> None:
    build = Request(agent="releaser", tool="platform.build", repository="shop", environment="production")
    assert authority.decide(build).allowed
    unknown = {"agent": "rolodex", "tool": "platform.bild", "repository": "shopp", "environment": "production2"}
    for field, value in unknown.items():
        assert authority.decide(build.model_copy(update={field: value})).rules == (f"unknown-{field}",)
    assert authority.decide(build.model_copy(update={"own_repository": "shopp"})).rules == ("unknown-repository",)
    nowhere = LAND.model_copy(update={"branch": "mainn"})
    assert authority.decide(nowhere).rules == ("no-permit", "branch-not-granted")


def test_a_verb_asked_for_in_the_other_direction_is_refused(authority: Authority) -> None:
    other = {Direction.FORWARD: Direction.SAFE, Direction.SAFE: Direction.FORWARD}
    for asked in SOME_CALLS:
        if authority.decide(asked).allowed:
            wrong = asked.model_copy(update={"direction": other[TOOLS[asked.tool].direction]})
            assert authority.decide(wrong).rules == ("wrong-direction",)


# --- one spelling -----------------------------------------------------------------------------------------------------

GOOD = st.lists(st.from_regex(r"[a-z0-9]{1,6}(\.[a-z]{2})?", fullmatch=True), min_size=1, max_size=4).map("/".join)
DISGUISES: dict[str, Callable[[str, int], str]] = {
    "percent": lambda name, at: name[:at] + f"%{ord(name[at]):02x}" + name[at + 1 :],
    "dot segment": lambda name, _: "./" + name,
    "up and down": lambda name, _: f"x/../{name}",
    "double slash": lambda name, _: "/" + name,
    "fullwidth": lambda name, at: name[:at] + chr(0xFEE0 + ord(name[at])) + name[at + 1 :],
    "zero width": lambda name, at: name[:at] + "\u200b" + name[at:],
    "combining": lambda name, at: name[: at + 1] + "\u0301" + name[at + 1 :],
    "NUL": lambda name, at: name[:at] + "\x00" + name[at:],
    "trailing newline": lambda name, _: name + "\n",
    "backslash": lambda name, at: name[:at] + "\\" + name[at:],
}


@pytest.mark.parametrize("disguise", DISGUISES)
@given(name=GOOD, data=st.data())
def test_a_name_in_disguise_is_refused_as_a_path_and_as_a_branch(disguise: str, name: str, data: st.DataObject) -> None:
    disguised = DISGUISES[disguise](name, data.draw(st.integers(0, len(name) - 1)))
    for check in (canonical.path, canonical.branch):
        with pytest.raises(Refused):
            check(disguised)


@given(name=st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True))
def test_capitals_make_another_name_of_a_repository_and_so_none(name: str) -> None:
    for check in (canonical.repository, canonical.environment, canonical.delivery):
        assert check(name) == check(check(name)) == name
        with pytest.raises(Refused):
            check(name.capitalize())
