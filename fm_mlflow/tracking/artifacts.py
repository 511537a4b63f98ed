"""Artifacts of a store as files of this machine: read within limits, and kept in a power cut."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow import get_tracking_uri
from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from fm_mlflow.process.atomic_file import sync_names, sync_to_disk
from fm_mlflow.process.redaction import one_line
from fm_mlflow.process.temporary import temporary_folder


@contextmanager
def artifact_file(root: str, name: str, largest: int) -> Iterator[Path]:
    """Have an artifact as a file within a block; as `fetch_artifact`."""
    if _is_local(root):
        yield fetch_artifact(root, name, "", largest)
        return
    with temporary_folder() as folder:
        yield fetch_artifact(root, name, str(folder), largest)


def fetch_artifact(root: str, name: str, folder: str, largest: int) -> Path:
    """Return an artifact as a file, downloaded unless it is on this machine already.

    Args:
        root: URI of the folder of artifacts.
        name: Its path there.
        folder: Where a download goes.
        largest: Bytes beyond which it is not downloaded; the store says how many it has.

    Raises:
        MlflowException, OSError: The store does not give it.
        ValueError: It is too large, or no single file.
    """
    uri = f"{root}/{name}"
    is_local = _is_local(root)
    try:
        if not is_local:
            _check_listed(posixpath.dirname(uri), posixpath.basename(uri), largest)
        # Without a folder MLflow gives the store's own file, which is only read.
        return Path(download_artifacts(artifact_uri=uri, dst_path=None if is_local else folder))
    except (MlflowException, OSError, ValueError):
        raise
    except Exception as error:
        # The library of an artifact store raises what no import here can name, or is missing.
        raise OSError(one_line(error)) from error


def is_missing(root: str, name: str) -> bool:
    """Tell whether a run has artifacts, but not this one; False where the store does not say."""
    folder, base = posixpath.split(name)
    try:
        if not list_artifacts(artifact_uri=root):
            return False  # all of them are gone, as after a move
        beside = list_artifacts(artifact_uri=f"{root}/{folder}" if folder else root)
        return all(posixpath.basename(each.path) != base for each in beside)
    except Exception:  # whatever a store's library raises: it does not say
        return False


def upload(run_id: str, root: str, path: Path) -> None:
    """Log a file as an artifact of a run, without asking the store where that has its artifacts.

    Args:
        run_id: Of the run.
        root: URI of its folder of artifacts.
        path: The file.

    Raises:
        MlflowException, OSError: The store does not take it.
    """
    try:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    except ImportError:  # of a later MLflow
        MlflowClient().log_artifact(run_id, str(path))
        return
    get_artifact_repository(root, get_tracking_uri()).log_artifact(str(path))  # type: ignore[no-untyped-call]


def sync_stored(root: str, sent: Path) -> None:
    """Have artifacts survive a power cut that were just copied into a folder of this machine.

    MLflow leaves them in the system's memory. What they were copied from is deleted soon.

    Args:
        root: URI of the folder of artifacts; of a server nothing is done.
        sent: The file that was copied into that folder, or the folder whose contents were.
    """
    if not _is_local(root):
        return
    with suppress(OSError, ValueError):  # the store has them, and promises no more
        # As MLflow reads it, which ignores a host and decodes plain paths.
        folder = Path(url2pathname(urlsplit(root).path if root.startswith("file:") else root))
        base, files = (sent.parent, [sent]) if sent.is_file() else (sent, sent.rglob("*"))
        stored = [folder.absolute() / path.relative_to(base) for path in files if path.is_file()]
        for path in filter(Path.is_file, stored):
            sync_to_disk(path)
        for parent in {parent for path in stored for parent in path.parents}:
            sync_names(parent)


def _is_local(uri: str) -> bool:
    # One letter is a drive of Windows.
    return urlsplit(uri).scheme == "file" or len(urlsplit(uri).scheme) < 2


def _check_listed(folder: str, name: str, largest: int) -> None:
    for listed in list_artifacts(artifact_uri=folder):
        if posixpath.basename(listed.path) == name:
            if listed.is_dir:
                raise ValueError("it is a folder")
            # No size: a few kinds of stores do not say. Whoever reads the file looks again.
            if listed.file_size is not None and listed.file_size > largest:
                raise ValueError(f"it has {listed.file_size:,} bytes, at most {largest:,} are read")
            return
    raise ValueError("it is missing")
