"""flyball.toml: whoever gets it wrong is told the key, the value and the way out."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from controller.cli import main
from controller.commands.work import TEMPLATE
from controller.demo.stage import write_settings
from controller.domain.ids import NAME
from controller.domain.money import PRICES
from controller.embedded import edge_config
from controller.errors import ConfigError
from controller.recording import Folder
from controller.settings import (
    FILE,
    MAX_BYTES,
    SAID_ELSEWHERE,
    ServiceSection,
    Settings,
    TestSection,
    load,
    parse,
    python_of,
    slug,
)


def loaded(folder: Path, text: str | bytes) -> Settings:
    path = folder / FILE
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(path)


def complaint(folder: Path, text: str | bytes) -> ConfigError:
    with pytest.raises(ConfigError) as told:
        loaded(folder, text)
    assert told.value.way_out
    return told.value


# --- wrong ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "way_out"),
    [
        ("[rolout]\nwindow_ms = 1\n", "rolout", "Did you mean 'rollout'?"),
        ("[rollout]\nwindow_s = 1\n", "rollout.window_s", "Did you mean 'window_ms'?"),
        ('[service]\nname = "a"\nstart = ["x"]\nstarts = 1\n', "service.starts", "Did you mean 'start'?"),
        ("[judge]\nalhpa_ppm = 1\n", "judge.alhpa_ppm", "Did you mean 'alpha_ppm'?"),
        ("[policy]\ncolour = 1\n", "policy.colour", "Known here: asked_moves_are_green, careful, codeowners"),
        ("answer = 42\n", "answer", "Known here: agents, bounds, budget"),
    ],
)
def test_a_setting_that_nobody_knows_is_an_error_with_its_nearest_neighbour(
    tmp_path: Path, text: str, key: str, way_out: str
) -> None:
    told = complaint(tmp_path, text)
    assert f"{FILE}: {key} is not a setting" in told.message
    assert told.way_out.startswith(way_out)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ('[test]\nseconds = "soon"\n', "test.seconds", "'soon'"),
        ("[test]\nseconds = 0\n", "test.seconds", "0"),
        ("[test]\nseconds = 86401\n", "test.seconds", "86401"),
        ("[test]\ncommand = []\n", "test.command", "[]"),
        ('[test]\ncommand = "pytest"\n', "test.command", "'pytest'"),
        ("[test]\nslots = 65\n", "test.slots", "65"),
        ("[budget]\ncall_usd = 0\n", "budget.call_usd", "0"),
        ("[budget]\nday_usd = nan\n", "budget.day_usd", "nan"),
        ("[budget]\nday_usd = inf\n", "budget.day_usd", "inf"),
        ('[service]\nname = "a"\nstart = ["x"]\nport = 70000\n', "service.port", "70000"),
        ('[service]\nname = "a"\nstart = ["x"]\ntelemetry = "guess"\n', "service.telemetry", "'guess'"),
        ('[service]\nname = "a"\nstart = ["x"]\n[service.env]\nA = 1\n', "service.env.A", "1"),
        ("[policy]\npeople = [1]\n", "policy.people.0", "1"),
        ("[judge]\nalpha_ppm = 0\n", "judge.alpha_ppm", "0"),
        ("[rollout]\nwindow_ms = 0\n", "rollout.window_ms", "0"),
        ("[rollout]\nweight_ttl_ms = -1\n", "rollout.weight_ttl_ms", "-1"),
        ("[rollout]\nsteps_percent = []\n", "rollout", "must rise and end at 100"),
        ("[rollout]\nsteps_percent = [5, 50]\n", "rollout", "must rise and end at 100"),
        ("[rollout]\nsteps_percent = [50, 5, 100]\n", "rollout", "must rise and end at 100"),
        ("[rollout]\nsteps_percent = [5, 200]\n", "rollout.steps_percent.1", "200"),
        ("[bounds]\nci_rounds = 0\n", "bounds.ci_rounds", "0"),
        ("[bounds]\nstep_seconds = 45\n", "bounds", "must be below lease_seconds"),
        ("repository = 3\n", "repository", "3"),
        ("[agents]\nturns = 1.5\n", "agents.turns", "1.5"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_key(tmp_path: Path, text: str, key: str, value: str) -> None:
    told = complaint(tmp_path, text)
    assert f"{FILE}: {key} is " in told.message
    assert value in told.message
    assert "flyball init" in told.way_out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[sandbox]\nunsafe_accept_plain = "no"\n', "sandbox.unsafe_accept_plain is 'no': is neither true nor false"),
        ("[policy]\nmutants_required = 1\n", "policy.mutants_required is 1: is neither true nor false"),
        ('[test]\nmutants_seconds = "60"\n', "test.mutants_seconds is '60': is no number"),
        ("[service]\nport = true\n", "service.port is True: is no number"),
        ('[test]\nkeeps = "**/snapshots/**"\n', "test.keeps is '**/snapshots/**': must be a list"),
        ('[policy.codeowners]\n"@acme/pay" = "bob"\n', "policy.codeowners.@acme/pay is 'bob': must be a list"),
        ('[test]\nnetwork = ["https://pypi.org:443"]\n', "is no host:port, such as pypi.org:443"),
        ('[build]\nnetwork = ["pypi.org:65536"]\n', "ports end at 65535"),
        (
            '[service]\nsecrets = { A = "/run/a" }\n',
            "service.secrets.A is '/run/a': must be a table with command, file",
        ),
    ],
)
def test_a_value_of_another_type_is_refused_in_the_words_of_toml(tmp_path: Path, text: str, said: str) -> None:
    section = text.replace("[service]\n", '[service]\nname = "shop"\nstart = ["x"]\n')
    told = complaint(tmp_path, section)
    assert said in told.message
    assert "tuple" not in told.message
    assert "flyball init" in told.way_out


def test_a_misspelt_key_is_named_before_what_is_missing_for_it_and_in_tables_too(tmp_path: Path) -> None:
    told = complaint(tmp_path, '[service]\nnmae = "shop"\nstart = ["x"]\n')
    assert ("service.nmae is not a setting" in told.message, told.way_out) == (True, "Did you mean 'name'?")
    told = complaint(tmp_path, '[service]\nname = "shop"\nstart = ["x"]\nsecrets = { A = { fil = "/run/a" } }\n')
    assert ("service.secrets.A.fil is not" in told.message, told.way_out) == (True, "Did you mean 'file'?")


@pytest.mark.parametrize("missing", ["name", "start"])
def test_what_a_service_cannot_do_without_is_asked_for(tmp_path: Path, missing: str) -> None:
    said = {"name": 'name = "shop"', "start": 'start = ["x"]'}
    told = complaint(tmp_path, f"[service]\n{next(v for k, v in said.items() if k != missing)}\n")
    assert f"service.{missing} is missing" in told.message


@pytest.mark.parametrize("bound", sorted(SAID_ELSEWHERE))
def test_a_bound_that_another_section_sets_is_not_silently_without_effect(tmp_path: Path, bound: str) -> None:
    told = complaint(tmp_path, f"[bounds]\n{bound} = 7\n")
    assert told.way_out == f"Set {SAID_ELSEWHERE[bound]} instead"


def test_every_bound_that_is_said_elsewhere_is_set_from_there() -> None:
    text = "[budget]\ncall_usd = 1\nsession_usd = 2\ndelivery_usd = 3\nday_usd = 4\n"
    text += "[agents]\nturns = 5\nseconds = 6\n[test]\nseconds = 7\n"
    bounds = parse(tomllib.loads(text)).bounded()
    assert [getattr(bounds, name) for name in SAID_ELSEWHERE] == [1_000_000, 2_000_000, 3_000_000, 4_000_000, 5, 6, 7]


@pytest.mark.parametrize("name", ["Shop", "the shop", "-shop", "shop/../x", "shöp", "a" * 101, "shop@prod"])
@pytest.mark.parametrize("section", ["repository", "service"])
def test_names_that_could_not_be_part_of_a_path_are_turned_down(tmp_path: Path, section: str, name: str) -> None:
    start = 'start = ["x"]' if section == "service" else ""
    told = complaint(tmp_path, f'[{section}]\nname = "{name}"\n{start}\n')
    assert f"{section}.name is {name!r}" in told.message
    assert "lower-case letters" in told.way_out


def test_a_model_without_a_price_is_turned_down_with_those_that_have_one(tmp_path: Path) -> None:
    told = complaint(tmp_path, '[agents]\nmodel = "gpt-17"\n')
    assert "agents.model is 'gpt-17', which has no price" in told.message
    for price in PRICES:
        assert price.model in told.way_out
        assert loaded(tmp_path, f'[agents]\nmodel = "{price.model}"\n').agents.model == price.model


@pytest.mark.parametrize(
    "text",
    [
        "[test\n",
        "seconds 600\n",
        "[test]\nseconds = 1\nseconds = 2\n",
        b"\xff\xfe\x00",
        b"PK\x03\x04",
        "a = " + "[" * 5_000,
    ],
    ids=["open table", "no equals sign", "twice", "no text", "zip", "nested"],
)
def test_what_is_no_toml_is_an_error_that_names_the_file(tmp_path: Path, text: str | bytes) -> None:
    assert str(tmp_path / FILE) in complaint(tmp_path, text).message


def test_a_file_that_is_too_large_is_not_read_at_all(tmp_path: Path) -> None:
    told = complaint(tmp_path, "#" * (MAX_BYTES + 1))
    assert f"larger than {MAX_BYTES} bytes" in told.message


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_file_that_is_not_there_says_how_to_get_one(tmp_path: Path, is_folder: bool) -> None:
    if is_folder:
        (tmp_path / FILE).mkdir()
    with pytest.raises(ConfigError, match="there is no") as told:
        load(tmp_path / FILE)
    assert told.value.way_out == "Write one with: flyball init"


# --- right ------------------------------------------------------------------------------------------------------------


def test_an_empty_file_is_every_default(tmp_path: Path) -> None:
    settings = loaded(tmp_path, "")
    assert settings == Settings() == parse({})
    assert settings.service is None
    assert settings.bounded() == settings.bounds


def test_the_digest_changes_with_every_setting_and_with_nothing_else(tmp_path: Path) -> None:
    texts = ("", "[budget]\nday_usd = 51\n", "[judge]\nalpha_ppm = 999\n", '[policy]\npeople = ["ann"]\n')
    assert len({loaded(tmp_path, text).digest for text in texts}) == len(texts)
    assert loaded(tmp_path, "# nothing\n").digest == loaded(tmp_path, "").digest


def _init(folder: Path) -> str:
    (folder / ".git").mkdir(parents=True)
    done = CliRunner().invoke(main, ["init", "--repo", str(folder)])
    assert done.exit_code == 0, done.output
    return (folder / FILE).read_text()


def _uncommented(text: str) -> str:
    """Every setting that the template shows as a comment, as if somebody had taken the # away."""
    return re.sub(r"^# (?=\[|\w+ = )", "", text, flags=re.MULTILINE)


def test_what_init_writes_is_every_default_in_words(tmp_path: Path) -> None:
    text = _init(tmp_path / "shop")
    settings = load(tmp_path / "shop" / FILE)
    assert settings.repository.name == "shop"
    assert settings.model_copy(update={"repository": Settings().repository}) == Settings()
    assert settings.repository == Settings().repository.model_copy(update={"name": "shop"})
    assert "@NAME@" not in text


def test_every_line_that_init_leaves_commented_out_works_when_it_is_not(tmp_path: Path) -> None:
    text = _uncommented(_init(tmp_path / "shop"))
    settings = loaded(tmp_path, text)
    assert settings.service is not None
    assert settings.service.name == "shop"
    assert settings.build.command == ("{python}", "build.py", "{out}")
    assert settings.policy.people == ("you",)
    assert settings.rollout == Settings().rollout
    assert settings.judge == Settings().judge
    assert set(tomllib.loads(text)) == set(Settings.model_fields) - {"bounds"}
    left = [line for line in text.splitlines() if line.startswith("# ") and " = " in line]
    assert left == []


@pytest.mark.parametrize("folder", ["Café au lait", "shop", "--x--", "日本", "My_Shop.git", "a" * 200, ".config"])
def test_init_names_any_folder_so_that_the_name_is_good(tmp_path: Path, folder: str) -> None:
    assert NAME.fullmatch(slug(folder))
    _init(tmp_path / folder)
    assert NAME.fullmatch(load(tmp_path / folder / FILE).repository.name)


def test_the_template_is_what_init_shows() -> None:
    assert "@NAME@" in TEMPLATE.read_text()


def test_tests_run_on_the_interpreter_that_has_the_repositorys_dependencies(tmp_path: Path) -> None:
    assert python_of(TestSection(), tmp_path) == sys.executable
    own = tmp_path / ".venv" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.touch()
    assert python_of(TestSection(), tmp_path) == str(own)
    assert python_of(TestSection(python="python3.11"), tmp_path) == "python3.11"
    service = ServiceSection(name="shop", start=("x",), python="env/bin/python")
    assert python_of(service, tmp_path) == str(tmp_path / "env/bin/python")


def test_instances_are_shown_no_folder_that_holds_the_state_or_lies_in_it(tmp_path: Path) -> None:
    text = '[service]\nname = "shop"\nstart = ["x"]\nreads = ["{}"]\n'
    folder = Folder(tmp_path / ".flyball")
    (tmp_path / "data").mkdir()
    folder.root.joinpath("keys").mkdir(parents=True)
    for reads in (".", ".flyball", ".flyball/keys", "/", "data/.."):
        with pytest.raises(ConfigError, match=r"service\.reads: .* would show instances the state folder"):
            edge_config(loaded(tmp_path, text.format(reads)), tmp_path, folder, None, 0)
    with pytest.raises(ConfigError, match=r"service\.reads: .*nowhere does not exist"):
        edge_config(loaded(tmp_path, text.format("nowhere")), tmp_path, folder, None, 0)
    config = edge_config(loaded(tmp_path, text.format("data")), tmp_path, folder, None, 0)
    assert config is not None
    assert config.services[0].reads == (tmp_path / "data",)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('secrets = { TOKEN = { file = "nowhere" } }', r"service\.secrets\.TOKEN: .*nowhere cannot be read"),
        ("secrets = { TOKEN = {} }", "neither one file nor one command"),
        ('secrets = { TOKEN = { file = "x", command = ["x"] } }', "neither one file nor one command"),
        ('secrets = { "BAD-NAME" = { file = "x" } }', r"service\.secrets\.BAD-NAME"),
        ('env = { TOKEN = "a" }\nsecrets = { TOKEN = { command = ["x"] } }', "both have 'TOKEN'"),
        ('network = ["db.internal"]', r"service\.network\.0"),
        ('network = ["127.0.0.1:7420"]', r"service\.network has 127\.0\.0\.1:7420, which is gateway\.port"),
    ],
)
def test_what_an_instance_is_told_and_may_reach_is_refused_by_name(tmp_path: Path, lines: str, said: str) -> None:
    text = f'[gateway]\nport = 7420\n[service]\nname = "shop"\nstart = ["x"]\n{lines}\n'
    with pytest.raises(ConfigError, match=said):
        edge_config(loaded(tmp_path, text), tmp_path, Folder(tmp_path / ".flyball"), None, 0)


@pytest.mark.parametrize("accepted", [False, True])
def test_demo_accepts_the_plain_rung_only_when_its_command_line_did(tmp_path: Path, *, accepted: bool) -> None:
    write_settings(tmp_path, accept_plain=accepted)
    assert load(tmp_path / "flyball.toml").sandbox.unsafe_accept_plain is accepted


def test_help_of_the_demo_tells_how_it_runs_without_a_sandbox() -> None:
    assert "--unsafe-accept-plain" in CliRunner().invoke(main, ["demo", "--help"]).output
