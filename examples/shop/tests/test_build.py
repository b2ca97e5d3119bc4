from pathlib import Path

import pytest
from build import PACKAGE, build


def test_build_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    names = [path.relative_to(tmp_path).as_posix() for path in build(tmp_path)]
    assert "shop/__main__.py" in names
    assert all(name.startswith("shop/") and name.endswith(".py") for name in names)


def test_built_files_are_the_sources_byte_for_byte(tmp_path: Path) -> None:
    for path in build(tmp_path):
        assert path.read_bytes() == (PACKAGE.parent / path.relative_to(tmp_path)).read_bytes()


def test_build_refuses_a_folder_that_holds_something(tmp_path: Path) -> None:
    build(tmp_path)
    with pytest.raises(SystemExit, match="not empty"):
        build(tmp_path)
