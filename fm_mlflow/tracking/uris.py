"""URIs and paths as MLflow reads them."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from sqlalchemy.engine import make_url

from fm_mlflow.errors import InputError

_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_NAMES = ("databricks", "databricks-uc", "uc")
"""Tracking URIs that are names, neither paths nor URIs."""


def absolute_uri(uri: str) -> str:
    """Return a tracking URI that means the same from any working directory.

    Raises:
        InputError: A `file:` URI with a host, which MLflow would ignore.
    """
    scheme = _scheme(uri)
    if scheme == "sqlite":
        url = make_url(uri)
        place = url.database or ":memory:"
        special = place == ":memory:" or place.startswith("file:")
        if special or Path(place).is_absolute() or PureWindowsPath(place).drive:
            return uri
        return url.set(database=str(Path(place).absolute())).render_as_string(hide_password=False)
    if scheme == "file" and urlsplit(uri).netloc not in ("", "localhost"):
        raise InputError("tracking URI", uri, "file:///absolute/folder or file:folder, no host")
    if scheme == "file" or (scheme == "" and uri not in _NAMES):
        # Plain paths too: MLflow decodes them.
        path = urlsplit(uri).path if scheme == "file" else uri
        return Path(url2pathname(path)).absolute().as_uri()
    return uri


def is_same_store(one: str, other: str) -> bool:
    """Tell whether two tracking URIs name one store, however they are spelt.

    Raises:
        InputError: `absolute_uri` says when.
    """
    return _canonical(one) == _canonical(other)


def _canonical(uri: str) -> str:
    uri = absolute_uri(uri)
    if _scheme(uri) == "sqlite":  # a blank, say, may be encoded or not
        return make_url(uri).render_as_string(hide_password=False)
    return uri.rstrip("/")


def is_database(uri: str) -> bool:
    """Tell whether a tracking URI names a database."""
    return _scheme(uri) in _DATABASES


def _scheme(uri: str) -> str:
    """Return the scheme without a driver; empty for paths, those with a drive letter too."""
    scheme = urlsplit(uri).scheme.partition("+")[0]
    return scheme if len(scheme) > 1 else ""


def database_file(uri: str) -> Path | None:
    """Return the file of an SQLite database; None for other stores, and for one in memory."""
    if _scheme(uri) != "sqlite":
        return None
    database = make_url(uri).database
    return None if database in (None, "", ":memory:") else Path(str(database))


def make_folder_of(uri: str) -> None:
    """Make the folder of an SQLite database; MLflow makes one of the name as it is encoded."""
    if (file := database_file(uri)) is not None:
        file.parent.mkdir(parents=True, exist_ok=True)


def check_literal(parameter: str, path: Path) -> None:
    """Refuse a path that MLflow would take for another one: it decodes plain paths as URIs.

    Raises:
        InputError: It holds `%20` or the like.
    """
    text = str(path.absolute())
    if (decoded := unquote(text)) != text:
        accepted = f"a path without an encoded character; MLflow would take it for {decoded!r}"
        raise InputError(parameter, text, accepted)
