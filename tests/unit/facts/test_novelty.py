"""What says nothing new needs no new test; whatever may behave differently does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from trees_kit import changed, found

from controller.facts.tree import ChangedFile

PRICES = """
import decimal
from shop.money import cents

RATE = decimal.Decimal("1.19")


def gross(net: int) -> int:
    return cents(net * RATE)


def _unused(a):
    return a + 1
"""
MOVED = """
import decimal
from .money import cents

RATE = decimal.Decimal("1.19")


def gross(net: int) -> int:
    return cents(net * RATE)
"""
REST = """
from shop.taxes import gross


def _unused(a):
    return a + 1
"""
IN_PRICES = "shop/prices.py"


def with_(old: str, new: str, text: str = PRICES) -> str:
    assert text.count(old) == 1
    return text.replace(old, new)


def nothing_new(*files: ChangedFile, task: str = "Tidy up") -> bool:
    return found(*files, task=task).nothing_new


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(with_("RATE = ", "# Of 2007.\nRATE = "), id="a comment"),
        pytest.param(with_("    return cents(", '    """Taxes included."""\n    return cents('), id="a docstring"),
        pytest.param(with_("cents(net * RATE)", "cents(\n        net * RATE,\n    )"), id="formatted otherwise"),
        pytest.param(with_("def _unused(a):", "def _unused(a: int | None) -> list[int]:"), id="annotated"),
        pytest.param(with_("RATE = ", "if TYPE_CHECKING:\n    import cart\n\nRATE = "), id="for checkers"),
    ],
)  # fmt: skip
def test_words_about_code_are_nothing_new(after: str) -> None:
    assert nothing_new(changed(IN_PRICES, PRICES, after))


def test_code_that_moves_with_its_imports_is_nothing_new() -> None:
    assert nothing_new(changed(IN_PRICES, PRICES, REST), changed("shop/taxes.py", None, MOVED.replace(".m", "shop.m")))
    assert nothing_new(changed("shop/taxes.py", PRICES, PRICES, was=IN_PRICES))


def test_dead_code_goes_without_a_new_test_when_the_task_names_it() -> None:
    after = PRICES.partition("\n\ndef _unused")[0]
    assert nothing_new(changed(IN_PRICES, PRICES, after), task="Delete _unused, which nobody calls")
    assert not nothing_new(changed(IN_PRICES, PRICES, after), task="Tidy up")
    still_named = after + "\n\nHOOKS = ['_unused']\n"
    assert not nothing_new(changed(IN_PRICES, PRICES, still_named), task="Delete _unused")
    always_named = "HOOKS = ['_unused']\n"
    assert not nothing_new(changed(IN_PRICES, PRICES + always_named, after + always_named), task="Delete _unused")


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(with_("1.19", "1.07"), id="a constant"),
        pytest.param(with_("a + 1", "a + 2"), id="a body"),
        pytest.param(with_("def _unused(a)", "def _unused(a=0)"), id="a default"),
        pytest.param(with_("def _unused(a)", "@cache\ndef _unused(a)"), id="a decorator"),
        pytest.param(with_("def _unused(a)", "def _unused(a: print(1))"), id="an annotation that runs"),
        pytest.param(with_("shop.money", "shop.evil"), id="an import from elsewhere"),
        pytest.param(with_("cents\n\n", "dollars as cents\n\n"), id="an import of another thing by that name"),
        pytest.param(with_("import decimal", "import decimal\nimport subprocess"), id="an import that runs something"),
        pytest.param(with_('RATE = decimal.Decimal("1.19")\n', ""), id="a statement that is gone"),
        pytest.param(PRICES + "\ngross(1)\n", id="a statement more"),
        pytest.param(PRICES.replace("RATE", "RATIO"), id="another name"),
    ],
)
def test_what_may_behave_differently_is_new(after: str) -> None:
    assert not nothing_new(changed(IN_PRICES, PRICES, after), task="Tidy up gross, RATE, _unused and cents")


def test_an_annotation_that_a_decorator_may_read_is_new() -> None:
    before = "@route\ndef page(size: int):\n    return size\n"
    assert not nothing_new(changed("a.py", before, before.replace("int", "str")))
    inside = "@model\nclass Page:\n    def size(self, n: int):\n        return n\n"
    assert not nothing_new(changed("a.py", inside, inside.replace("int", "str")))


def test_a_docstring_that_the_program_reads_is_new() -> None:
    before = '"""Usage: shop [--dry]"""\nOPTIONS = docopt(__doc__)\n'
    assert not nothing_new(changed("a.py", before, before.replace("--dry", "--wet")))


def test_statements_in_another_order_are_new() -> None:
    before = "data = load()\ndata = checked(data)\n"
    assert not nothing_new(changed("a.py", before, "data = checked(data)\ndata = load()\n"))


def test_namesakes_that_change_places_are_new() -> None:
    strict, lenient = "def check(a):\n    return a > 0\n", "def check(a):\n    return True\n"
    assert not nothing_new(changed("a.py", strict, lenient), changed("b.py", lenient, strict))
    user, other = "from a import check\n", "from b import check\n"
    swapped = (changed("c.py", user, other), changed("d.py", other, user))
    assert not nothing_new(*swapped)
    noted = changed("a.py", strict, "# strict\n" + strict), changed("b.py", lenient, "# lenient\n" + lenient)
    assert not nothing_new(*noted, changed("c.py", user, other))


def test_what_is_not_python_is_not_known_to_say_nothing() -> None:
    assert not nothing_new(changed("a.py", "# a\n", "# b\n"), changed("b.js", "// a\n", "// b\n"))
    assert not nothing_new(changed("README.md", "a\n", "b\n"))
    assert not nothing_new(changed("a.py", "a = 1\n", "a = (\n"))
