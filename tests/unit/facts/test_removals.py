"""A removal is the task's only as far as the task speaks of it."""

from __future__ import annotations

import pytest
from trees_kit import changed, found, touched, weakened

from controller.facts.removals import only_removes, removes, speaks_of

GIFT = '''
    """Gift wrapping."""
    import math


    def wrapping(cents):
        return 150 if cents > 1_000 else 200


    def ribbon(metres):
        return math.ceil(metres) * 30
'''
WRAPPING_ONLY = '''
    """Gift wrapping."""


    def wrapping(cents):
        return 150 if cents > 1_000 else 200
'''
TESTS = """
    from gift import ribbon


    def test_ribbon():
        assert ribbon(1) == 30
"""


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("Remove gift wrapping", "wrapping"),
        ("We no longer wrap gifts", "wrapping"),
        ("Drop the discounts", "discount_of"),
        ("Delete the export of orders", "ExporterOfOrders"),
        ("Remove prices", "pricing"),
    ],
)
def test_a_task_speaks_of_what_it_names_in_whatever_form(task: str, name: str) -> None:
    assert removes(task)
    assert speaks_of(task, name)


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("Remove gift wrapping", "allowed"),
        ("Remove the tests", "test_everything"),
        ("Remove the old format of prices", "price_limits"),
        ("Delete the CSV export", "ExporterOfOrders"),
        ("Delete the unused code", "unused_code_of"),
        ("Get rid of it", "get"),
        ("Remove the export", "allowed"),
    ],
)
def test_a_task_speaks_of_nothing_else(task: str, name: str) -> None:
    assert not speaks_of(task, name)


def test_a_task_that_removes_nothing_asks_for_no_removal() -> None:
    assert not removes("Wrap gifts for nothing")
    analysis = found(changed("gift.py", GIFT, None), changed("tests/test_gift.py", TESTS, None), task="Better ribbons")
    assert analysis.removals == ()
    assert weakened(analysis) == ["test-removed"]


def test_a_file_that_the_task_names_goes_with_its_tests() -> None:
    analysis = found(
        changed("gift.py", GIFT, None), changed("tests/test_gift.py", TESTS, None), task="Remove gift wrapping"
    )
    assert analysis.removals == ("gift.py",)
    assert touched(analysis) == ["removed-with-feature", "file-removed-with-feature"]
    assert weakened(analysis) == []


def test_a_function_that_the_task_names_goes_with_its_tests_and_its_imports() -> None:
    files = changed("gift.py", GIFT, WRAPPING_ONLY), changed("tests/test_gift.py", TESTS, None)
    assert found(*files, task="Remove the ribbon").removals == ("gift.py",)
    assert found(*files, task="Remove the bow").removals == ()
    assert weakened(found(*files, task="Remove the bow")) == ["test-removed"]


def test_what_goes_beside_it_is_no_part_of_the_removal() -> None:
    other = WRAPPING_ONLY.replace("200", "0")
    assert found(changed("gift.py", GIFT, other), task="Remove the ribbon").removals == ()
    assert (
        found(changed("gift.py", GIFT, WRAPPING_ONLY + "\n    FREE = True\n"), task="Remove the ribbon").removals == ()
    )


def test_an_import_that_the_removed_code_did_not_use_stays() -> None:
    before = "import guards\nimport math\n\n\ndef ribbon(metres):\n    return math.ceil(metres)\n"
    assert only_removes(before, "import guards\n", frozenset({"ribbon"}))
    assert not only_removes(before, "import math\n", frozenset({"ribbon"}))
    assert not only_removes(before, "import guards\nimport more\n", frozenset({"ribbon"}))
    assert not only_removes(before, "import guards\nimport math\n\n\ndef ribbon(metres):\n    return 0\n", frozenset())


def test_one_test_of_something_else_keeps_the_file_from_going_with_the_feature() -> None:
    more = TESTS + "\n\n    def test_other():\n        assert allowed('ann')\n"
    files = changed("gift.py", GIFT, None), changed("tests/test_gift.py", more, None)
    analysis = found(*files, task="Remove gift wrapping")
    assert "file-removed-with-feature" not in touched(analysis)
    assert weakened(analysis) == ["test-removed"]


def test_a_removal_that_was_not_asked_for_is_none_of_the_asked_one() -> None:
    access = "def allowed(name):\n    return name in {'ann'}\n"
    tests = "from access import allowed\n\n\ndef test_allowed():\n    assert allowed('ann')\n"
    analysis = found(
        changed("gift.py", GIFT, None),
        changed("tests/test_gift.py", TESTS, None),
        changed("access.py", access, None),
        changed("tests/test_access.py", tests, None),
        task="Remove gift wrapping and its tests",
    )
    assert analysis.removals == ("gift.py",)
    assert weakened(analysis) == ["test-removed"]
