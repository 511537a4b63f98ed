"""YAML that takes time or memory beyond its length is refused; long texts are not."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fm_mlflow.data import bounded_file
from fm_mlflow.data.bounded_file import read_yaml
from tests.hostile_files import KINDS

BASE_60 = ":".join(["1"] * 50_000)


@pytest.fixture(params=["CSafeLoader", "SafeLoader"], autouse=True)
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML's parser in C, and the one in Python where it was built without."""
    monkeypatch.setattr(bounded_file, "_Loader", getattr(yaml, request.param, yaml.SafeLoader))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BASE_60, "more than 10,000 characters"),
        (f'!!int "{BASE_60}"', "more than 10,000 characters"),
        (f'! "{BASE_60}"', "more than 10,000 characters"),
        (f"{BASE_60}: a key", "more than 10,000 characters|simple key"),
        (KINDS["model"].cases["a prefix of tags"]().decode(), "%TAG"),
        (f"%TAG ! {'x' * 90_000}\n---\n[" + "!a 1," * 9000 + "]", "%TAG"),
    ],
)
def test_it_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "MLmodel"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        read_yaml(path)


def test_what_is_quoted_of_it_is_short(tmp_path: Path) -> None:
    path = tmp_path / "MLmodel"
    path.write_text(f"[!{'x' * 90_000} 1]")
    with pytest.raises(ValueError, match=r"xxx…$") as refused:
        read_yaml(path)
    assert len(str(refused.value)) < 600


@pytest.fixture(scope="module")
def long_text() -> tuple[dict[str, str], str]:
    """What has texts as the JSON of a signature with many columns is; and as YAML."""
    content = {"inputs": '[{"type": "double"}]' * 5_000, "outputs": BASE_60}
    return content, yaml.safe_dump(content)


def test_a_long_text_is_read(tmp_path: Path, long_text: tuple[dict[str, str], str]) -> None:
    path = tmp_path / "MLmodel"
    content, text = long_text
    path.write_text(text)
    assert read_yaml(path) == content
