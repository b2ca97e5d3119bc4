import pytest
from slugs import slug


@pytest.mark.parametrize(
    ("title", "expected"),
    [("Hello, world", "hello-world"), ("Crème brûlée, twice", "creme-brulee-twice"), ("  a  b ", "a-b"), ("…", "")],
)
def test_title_becomes_a_slug(title: str, expected: str) -> None:
    assert slug(title) == expected
