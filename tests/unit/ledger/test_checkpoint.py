"""Checkpoints: one spelling, the specification's own example, and what is refused."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.ledger.checkpoint import Checkpoint, MalformedNote, origin_of
from controller.ledger.merkle import EMPTY_ROOT

EXAMPLE = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
ROOT = base64.b64encode(bytes(32)).decode()


def test_the_example_of_the_specification_is_read_and_written_back() -> None:
    found = Checkpoint.parse(EXAMPLE)
    assert (found.origin, found.size) == ("example.com/behind-the-sofa", 20_852_163)
    assert found.root.hex().startswith("0ac5186a9186")
    assert found.text() == EXAMPLE


@given(
    st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1, max_size=60),
    st.integers(1, 2**63 - 1),
    st.binary(min_size=32, max_size=32),
    st.lists(st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1, max_size=9), max_size=3),
)
def test_every_checkpoint_has_one_spelling(origin: str, size: int, root: bytes, more: list[str]) -> None:
    written = Checkpoint(origin, size, root, tuple(more))
    assert Checkpoint.parse(written.text()) == written


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"log\n1\n{ROOT}",  # no last newline
        f"\n1\n{ROOT}\n",
        f"log\n01\n{ROOT}\n",
        f"log\n+1\n{ROOT}\n",
        f"log\n-1\n{ROOT}\n",
        f"log\n1_000\n{ROOT}\n",
        f"log\n\u0661\n{ROOT}\n",  # a digit, but not of ASCII
        f"log\n{2**63}\n{ROOT}\n",
        f"log\n1\n{ROOT[:-4]}\n",
        f"log\n1\n {ROOT}\n",
        f"log\n1\n{ROOT[:-2]}B=\n",  # other base64 of the same bytes
        f"log\n1\n{ROOT}\n\n",
        f"log\n1\n{ROOT}\n\nmore\n",
        f"log\r\n1\r\n{ROOT}\r\n",
        f"log\n0\n{ROOT}\n",  # the empty tree has its own root
        f"{'x' * 256}\n1\n{ROOT}\n",
    ],
)
def test_any_other_spelling_is_refused(text: str) -> None:
    with pytest.raises(MalformedNote):
        Checkpoint.parse(text)


def test_an_empty_log_has_a_checkpoint() -> None:
    assert Checkpoint.parse(Checkpoint("log", 0, EMPTY_ROOT).text()).size == 0


def test_a_log_is_named_after_its_first_entry() -> None:
    assert origin_of(b"first") == "flyball/" + hashlib.sha256(b"first").hexdigest()[:16]
