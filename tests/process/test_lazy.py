"""Modules that are imported when something is taken from them."""

from __future__ import annotations

import importlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fm_mlflow.process.lazy import lazy_modules


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "shop_of_tests"
    folder.mkdir()
    (folder / "__init__.py").write_text("from shop_of_tests import dear as dear\n")
    (folder / "dear.py").write_text("import sys\nsys.stdout.write('executed ')\nprice = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("shop_of_tests", "shop_of_tests.dear"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return folder.name


def test_module_executes_once_when_something_is_taken(
    package: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with lazy_modules(f"{package}.dear"):
        shop = importlib.import_module(package)
    # As TensorFlow, inspect and pytest look at every module there is.
    assert shop.dear.__file__.endswith("dear.py")
    assert not hasattr(shop.dear, "__wrapped__")
    assert importlib.import_module(f"{package}.dear") is shop.dear
    assert not capsys.readouterr().out
    assert shop.dear.price == 7
    assert capsys.readouterr().out == "executed "
    assert shop.dear.price == 7
    with pytest.raises(AttributeError, match="has no attribute 'taste'"):
        _ = shop.dear.taste
    assert not capsys.readouterr().out


def test_names_are_imported_from_it(package: str, capsys: pytest.CaptureFixture[str]) -> None:
    with lazy_modules(f"{package}.dear"):
        importlib.import_module(package)
    namespace: dict[str, object] = {}
    exec(f"from {package}.dear import *", namespace)
    assert namespace["price"] == 7
    assert capsys.readouterr().out == "executed "


SLOW = """
import sys, time
dear = sys.modules[__name__]
itself = hasattr(dear, "price")
time.sleep(0.2)
if not itself and sys.argv is None:
    raise OSError("not yet")
price = 7
"""


def test_threads_wait_until_it_is_whole(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / package / "dear.py").write_text(SLOW)
    with lazy_modules(f"{package}.dear"):
        shop = importlib.import_module(package)
    with monkeypatch.context() as at_first:
        at_first.setattr(sys, "argv", None)
        with pytest.raises(OSError, match="not yet"):
            _ = shop.dear.price
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda _: shop.dear.price, range(4))) == [7] * 4
    assert not shop.dear.itself  # it looks at itself while it executes
