"""What of a user's own code travels with a model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fm_mlflow.training.user_source import UnfitError, accepting, find_function, source_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory; what is imported from it is forgotten afterwards."""
    known = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.thorough
def test_only_source_files_of_a_package_travel(folder: Path) -> None:
    package, elsewhere = folder / "pkg_of_ann", folder / "elsewhere"
    write(package / "__init__.py")
    write(package / "net.py", "from pkg_of_ann import parts\n\n\ndef build(): ...\n")
    write(package / "parts.py")
    write(package / "later" / "blocks.py")  # imported when the model is called, say
    for name in (".env", "private.csv", "key.pem", "settings.json", "py.typed", "net.pyi"):
        write(package / name, "secret")
    write(package / ".hidden.py")
    write(package / ".git" / "hook.py")
    write(package / "__pycache__" / "net.cpython-311.pyc")
    write(package / "of-a-tool" / "x.py")
    write(package / "env" / "pyvenv.cfg")
    write(package / "env" / "lib" / "six.py")
    write(package / "huge.py", "#" * (1 << 20) + "\n")
    write(elsewhere / "secret.py", "TOKEN = 1\n")
    (package / "link.py").symlink_to(elsewhere / "secret.py")
    (package / "linked").symlink_to(elsewhere)
    (package / "broken.py").symlink_to(elsewhere / "missing.py")
    (package / "alias.py").symlink_to(package / "parts.py")
    write(folder / "neighbour.py")

    source = source_of(find_function("pkg_of_ann.net:build"))
    assert source.folder == folder
    assert [path.as_posix() for path in source.files] == [
        "pkg_of_ann/__init__.py",
        "pkg_of_ann/alias.py",
        "pkg_of_ann/later/blocks.py",
        "pkg_of_ann/net.py",
        "pkg_of_ann/parts.py",
    ]


def test_a_file_takes_along_what_it_imports(folder: Path) -> None:
    write(folder / "net_of_bea.py", "import help_of_bea\nimport numpy\n\n\ndef build(): ...\n")
    write(folder / "help_of_bea.py")
    write(folder / "other_of_bea.py")
    write(folder / "data.csv")
    source = source_of(find_function(f"{folder}/net_of_bea.py:build"))
    assert source.files == (Path("help_of_bea.py"), Path("net_of_bea.py"))


@pytest.mark.thorough
def test_what_is_installed_or_edited_meanwhile_is_required(folder: Path) -> None:
    site, file = folder / "site", folder / "net_of_dan.py"
    sys.path.append(str(site))
    write(file, "import tool_of_dan, click\n\n\ndef build(): ...\n")
    write(site / "tool_of_dan.py")
    (click,) = source_of(build := find_function(f"{file}:build")).requirements
    assert click.startswith("click==")
    write(site / "dans_tools-1.2.dist-info" / "METADATA", "Name: dans-tools\nVersion: 1.2\n")
    write(site / "dans_tools-1.2.dist-info" / "top_level.txt", "tool_of_dan\n")
    assert source_of(build).requirements == (click, "dans-tools==1.2")
    write(file, "import tool_of_dan\n\n\ndef build(): ...\n")
    assert source_of(build).requirements == ("dans-tools==1.2",)


def test_an_installed_package_stays_where_it_is() -> None:
    assert source_of(find_function("click:echo")).files == ()


def test_a_secret_in_a_message_is_hidden_before_the_message_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hunter22-and-more")
    with pytest.raises(UnfitError) as raised, accepting("a model"):
        raise ValueError("x " * 193 + "hunter22-and-more")
    assert "hunter" not in str(raised.value)
