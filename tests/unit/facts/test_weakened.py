"""Tests that prove less than before, each beside an honest change that looks like it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from trees_kit import changed, found, touched, weakened

BASE = """
    from app import price

    def test_price():
        assert price() == 1

    def test_kind():
        result = price()
        assert isinstance(result, int)
        assert result > 0
    """
PRICE = changed("app.py", "def price(): return 1\n", "def price(): return 2\n")
SLUG = "def slug(title): return title.lower()\n"


def after(text: str, *, task: str = "Double the price", path: str = "tests/test_app.py") -> list[str]:
    return weakened(found(PRICE, changed(path, BASE, text), task=task))


FORGED = {
    "test-removed": BASE.replace("def test_price():\n        assert price() == 1\n", ""),
    "expectation-changed": BASE.replace("== 1", "== 2"),
    "assertion-removed": BASE.replace("assert price() == 1", "price()"),
    "assertion-loosened": BASE.replace("assert price() == 1", "assert price() is not None"),
    "assertion-changed": BASE.replace("price() == 1", "price() < 100"),
    "switched-off": BASE.replace("def test_price", "@pytest.mark.skip\n    def test_price"),
    "swallowed": BASE.replace(
        "assert price() == 1", "try:\n            assert price() == 1\n        except AssertionError:\n            pass"
    ),
    "patched": BASE.replace("assert price() == 1", "mock.patch('app.price', lambda: 1)\n        assert price() == 1"),
}


@pytest.mark.parametrize("rule", FORGED)
def test_what_proves_less_is_named(rule: str) -> None:
    assert rule in after(FORGED[rule])


@pytest.mark.parametrize(
    "text",
    [
        BASE.replace("def test_price", "@pytest.mark.xfail\n    def test_price"),
        BASE.replace("def test_price", "@unittest.skipIf(True, 'x')\n    def test_price"),
        BASE.replace("assert price() == 1", "return\n        assert price() == 1"),
        BASE.replace("assert price() == 1", "pytest.skip('later')\n        assert price() == 1"),
        "\n    import pytest\n    pytestmark = pytest.mark.skip" + BASE,
        "\n    import pytest\n    pytest.skip('later', allow_module_level=True)" + BASE,
    ],
)
def test_every_way_to_switch_a_test_off_is_seen(text: str) -> None:
    assert "switched-off" in after(text)


@pytest.mark.parametrize(
    "text",
    [
        BASE.replace("assert price() == 1", "assert True"),
        BASE.replace("assert price() == 1", "assert price() == price()"),
        BASE.replace("assert price() == 1", "assert price() == 1 or True"),
        BASE.replace("assert price() == 1", "if False:\n            assert price() == 1"),
        BASE.replace("assert price() == 1", "with suppress(Exception):\n            assert price() == 1"),
        BASE.replace("def test_price", "def check_price"),
        BASE.replace("from app import price", "def price(): return 1"),
    ],
)
def test_an_assertion_that_cannot_fail_any_more_is_one_less(text: str) -> None:
    assert after(text)


def test_a_deleted_file_of_tests_is_no_test_added() -> None:
    analysis = found(PRICE, changed("tests/test_app.py", BASE, None))
    assert weakened(analysis) == ["test-removed", "test-removed"]
    assert touched(analysis) == ["removed", "removed"]


def test_a_raised_tolerance_is_named_even_if_the_task_states_a_number() -> None:
    old = "def test_x():\n    assert x() == pytest.approx(1.0, rel=0.01)\n"
    new = old.replace("rel=0.01", "rel=0.5")
    assert weakened(found(changed("tests/test_x.py", old, new), task="It becomes 0.5")) == ["tolerance"]


def test_an_assertion_that_tests_share_is_watched_as_well() -> None:
    helper = "def costs(n):\n    assert price() == n\n"
    looser = changed("tests/helpers.py", helper, helper.replace("== n", "is not None"))
    assert weakened(found(looser)) == ["helper-changed"]
    moved = changed("tests/helpers.py", helper, ""), changed("tests/asserting.py", None, helper)
    assert weakened(found(*moved)) == []


# --- honest ones ------------------------------------------------------------------------------------------------------


def test_an_expectation_that_the_task_states_is_let_be() -> None:
    analysis = found(PRICE, changed("tests/test_app.py", BASE, FORGED["expectation-changed"]), task="Price becomes 2")
    assert weakened(analysis) == []
    assert "expectation-asked" in touched(analysis)


@pytest.mark.parametrize(
    "task", ["Double the price of product 2", "Fix #2", "", "Double the price to 20", "becomes 2.5"]
)
def test_a_number_that_merely_stands_in_the_task_states_nothing(task: str) -> None:
    assert after(FORGED["expectation-changed"], task=task) == ["expectation-changed"]


def test_tests_that_move_to_another_file_weaken_nothing() -> None:
    head = BASE.replace("    def test_price():\n        assert price() == 1\n", "")
    moved = "from app import price\n\ndef test_price():\n    assert price() == 1\n"
    analysis = found(changed("tests/test_app.py", BASE, head), changed("tests/test_price.py", None, moved))
    assert (weakened(analysis), touched(analysis)) == ([], ["moved"])


def test_a_renamed_file_of_tests_weakens_nothing() -> None:
    analysis = found(changed("tests/test_prices.py", BASE, BASE, was="tests/test_app.py"))
    assert weakened(analysis) == []


def test_a_renamed_test_weakens_nothing() -> None:
    analysis = found(changed("tests/test_app.py", BASE, BASE.replace("test_price", "test_that_it_costs_one")))
    assert (weakened(analysis), touched(analysis)) == ([], ["renamed"])


def test_three_tests_that_become_rows_of_one_weaken_nothing() -> None:
    old = """
        def test_a():
            assert slug("A") == "a"
        def test_b():
            assert slug("B b") == "b-b"
        """
    new = """
        @pytest.mark.parametrize(("title", "made"), [("A", "a"), ("B b", "b-b")])
        def test_slug(title, made):
            assert slug(title) == made
        """
    assert weakened(found(changed("tests/test_slug.py", old, new))) == []
    forged = new.replace('"b-b"', '"b b"')
    assert weakened(found(changed("tests/test_slug.py", old, forged)))


def test_assertions_that_move_into_a_helper_or_another_test_weaken_nothing() -> None:
    assert (
        after(
            BASE.replace("assert price() == 1", "pass").replace(
                "assert result > 0", "assert result > 0; assert price() == 1"
            )
        )
        == []
    )


def test_a_stronger_assertion_weakens_nothing() -> None:
    old = "def test_x():\n    assert f() is not None\n"
    new = "def test_x():\n    assert f() == 7\n"
    assert weakened(found(changed("tests/test_x.py", old, new))) == []


def test_a_test_goes_with_the_feature_that_the_task_removes() -> None:
    kept = "def test_p():\n    assert price() == 1\n"
    tests = "from app import slug, price\ndef test_slug():\n    assert slug('A') == 'a'\n" + kept
    head = "from app import price\n" + kept
    source = changed("app.py", SLUG + "def price(): return 1\n", "def price(): return 1\n")
    files = source, changed("tests/test_app.py", tests, head)
    analysis = found(*files, task="Remove the slugs, nobody uses them")
    assert (weakened(analysis), touched(analysis)) == ([], ["removed-with-feature"])
    assert weakened(found(*files, task="Make the pages faster")) == ["test-removed"]


def test_a_test_that_asks_for_less_of_the_program_is_named() -> None:
    tests = "from app import price, round_up\ndef test_a():\n    found = round_up(price())\n    assert found == 2\n"
    less = tests.replace("round_up(price())", "round_up(2)")
    assert weakened(found(PRICE, changed("tests/test_app.py", tests, less))) == ["subject-lost"]


def test_a_value_that_the_task_states_makes_no_weaker_question_an_asked_one() -> None:
    tests = "from app import price\ndef test_a():\n    assert price() is not 7\n"
    files = PRICE, changed("tests/test_app.py", tests, tests.replace("7", "None"))
    assert weakened(found(*files, task="The price becomes None")) == ["expectation-changed"]


def test_a_test_that_is_renamed_and_switched_off_is_one_less() -> None:
    off = BASE.replace("def test_price", "@pytest.mark.skip\n    def test_that_it_costs_one")
    assert after(off) == ["test-removed"]


def test_a_test_of_which_only_half_stands_elsewhere_is_one_less() -> None:
    half = BASE.replace("        assert result > 0\n", "").replace("def test_kind", "def test_that_it_is_a_number")
    assert after(half) == ["test-removed"]


def test_an_expectation_that_changes_with_a_renamed_function_is_named() -> None:
    source = changed("app.py", SLUG, SLUG.replace("slug", "slugify"))
    tests = "from app import slug\ndef test_slug():\n    assert slug('A') == 'a'\n"
    other = tests.replace("slug('A') == 'a'", "slugify('A') == 'A'")
    assert weakened(found(source, changed("tests/test_app.py", tests, other))) == ["assertion-changed"]


def test_a_function_that_is_renamed_with_its_tests_weakens_nothing() -> None:
    source = changed("app.py", SLUG, SLUG.replace("slug", "slugify"))
    tests = "from app import slug\ndef test_slug():\n    assert slug('A') == 'a'\n"
    assert weakened(found(source, changed("tests/test_app.py", tests, tests.replace("slug(", "slugify(")))) == []
    stand_in = tests.replace("assert slug(", "assert str(")
    assert weakened(found(source, changed("tests/test_app.py", tests, stand_in)))


def test_a_test_that_only_changes_its_comments_is_not_touched() -> None:
    analysis = found(
        changed("tests/test_app.py", BASE, BASE.replace("def test_kind", "# what it is\n    def test_kind"))
    )
    assert (weakened(analysis), touched(analysis)) == ([], [])


def test_a_new_test_without_an_assertion_is_none_that_was_added() -> None:
    analysis = found(PRICE, changed("tests/test_new.py", None, "def test_nothing():\n    pass\n"))
    assert touched(analysis) == ["without-assertion"]


def test_a_file_of_tests_that_leaves_its_folder_or_its_name_is_named() -> None:
    gone = changed("tests/app_checks.txt", BASE, BASE, was="tests/test_app.py")
    left = changed("lib/app_checks.py", BASE, BASE.replace("== 1", "== 2"), was="tests/test_app.py")
    for file in (gone, left):
        assert weakened(found(file)) or found(file).unread


def test_a_file_of_tests_that_cannot_be_parsed_is_unread() -> None:
    analysis = found(changed("tests/test_app.py", BASE, "def test_x(:\n"))
    assert [one.rule for one in analysis.unread] == ["unread/tests"]


def test_data_and_snapshots_that_tests_compare_with_are_named_unless_the_task_speaks_of_them() -> None:
    snapshot = changed("tests/__snapshots__/page.snap", "a\n", "b\n")
    assert weakened(found(snapshot)) == ["snapshot-changed"]
    assert weakened(found(snapshot, task="Say hello differently and update the snapshots")) == []
    data = changed("tests/data/prices.json", "[1]\n", "[2]\n")
    assert weakened(found(data)) == ["test-data-changed"]
    assert weakened(found(changed("tests/data/more.json", None, "[2]\n"))) == []


def test_a_formatted_string_in_an_assertion_is_a_literal_like_another() -> None:
    before = 'from app import total\n\ndef test_receipt():\n    assert f"total {total(100)}" == "total 590"\n'
    same = found(changed("tests/test_app.py", before, before + "\ndef test_more():\n    assert total(1) == 2\n"))
    assert (weakened(same), [one.rule for one in same.unread]) == ([], [])
    other = found(PRICE, changed("tests/test_app.py", before, before.replace("total {total", "{total")))
    assert weakened(other) == ["expectation-changed"]


JAVA = (
    "class PriceTest {{\n{off}    @org.junit.jupiter.api.Test\n"
    "    void price() {{ assertEquals(590, price(100)); }}\n}}\n"
)


def test_a_java_test_on_one_line_counts_and_is_missed_when_its_long_mark_switches_it_off() -> None:
    before = JAVA.format(off="")
    assert touched(found(changed("src/test/java/PriceTest.java", None, before))) == ["added"]
    after = JAVA.format(off="    @org.junit.jupiter.api.Disabled\n")
    assert "switched-off" in weakened(found(changed("src/test/java/PriceTest.java", before, after)))
