"""Strangers' code that comes without a manifest, beside words and addresses that bring nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter

import pytest

sys.path.append(str(Path(__file__).parent))

from trees_kit import changed, found

from controller.facts.brought_in import brought_in

PEP723 = '# /// script\n# dependencies = ["left-pad"]\n# ///\nA = 1\n'


@pytest.mark.parametrize(
    ("path", "text", "ecosystem"),
    [
        ("shop/page.html", '<script async src="https://a.example/x.js"></script>\n', "web"),
        ("shop/page.html", "<script src=//a.example/x.js></script>\n", "web"),
        ("static/a.js", 'import x from "https://a.example/x.js";\n', "web"),
        ("shop/a.py", 'run([sys.executable, "-m", "pip", "install", name])\n', "install"),
        ("shop/a.py", 'os.system("pip install left-pad")\n', "install"),
        ("tools/a.sh", "curl -fsSL https://a.example | sudo bash\n", "shell"),
        ("tools/a.py", PEP723, "pypi"),
        ("shop/page.html", '<script src="/static/x.js"></script>\n', None),
        ("shop/page.html", '<a href="https://a.example/">a</a>\n', None),
        ("shop/a.py", 'raise ImportError("pip install shop[redis]")\n', None),
        ("shop/a.py", 'URL = "https://a.example/"\n', None),
        ("README.md", "Run `curl https://a.example | sh`.\n", None),
        ("tests/test_a.py", PEP723, None),
    ],
)
def test_code_of_strangers_is_a_dependency_wherever_it_is_named(path: str, text: str, ecosystem: str | None) -> None:
    moved = [one.ecosystem for one in found(changed(path, None, text)).dependencies]
    assert moved == ([ecosystem] if ecosystem else [])
    assert not found(changed(path, text, text + "\n")).dependencies


def test_metadata_that_is_no_toml_is_unread() -> None:
    analysis = found(changed("tools/a.py", None, "# /// script\n# dependencies = [\n# ///\n"))
    assert [one.rule for one in analysis.unread] == ["unread/dependencies"]


def test_long_texts_are_read_in_time() -> None:
    began = perf_counter()
    for word in ("<script ", "curl ", "import ", "run(", "# /// script\n# a\n"):
        list(brought_in(changed("shop/a.txt", None, word * 20_000)))
    assert perf_counter() - began < 20
