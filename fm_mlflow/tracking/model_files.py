"""The files of a logged model: fetched for use, and known again by their contents."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from fm_mlflow import keys
from fm_mlflow.data.bounded_file import read_yaml
from fm_mlflow.errors import TrackingError
from fm_mlflow.process.redaction import one_line
from fm_mlflow.tracking.store import check_reachable

_log = logging.getLogger(__name__)

MODEL_FILE = "MLmodel"
"""What MLflow says of a model, at the top of its files."""

# MLflow writes into each download of a model of which version it is.
_OF_THE_DOWNLOAD = "registered_model_meta"

_DESCRIPTIVE = frozenset(
    {
        *(MODEL_FILE, "conda.yaml", "python_env.yaml", "requirements.txt", "constraints.txt"),
        _OF_THE_DOWNLOAD,
    }
)
"""Files at the top of a model that MLflow may write after it was saved, and does not count."""

# What `sign_model` writes.
_SIGNED = frozenset({"model_id", "model_uuid", "artifact_path", "run_id"})

_CACHE = "__pycache__"
_PYC_FLAGS = slice(4, 8)
_PIECE = 1024**2


@dataclass(frozen=True)
class ModelFiles:
    """What a model's folder holds.

    Attributes:
        files: Size in bytes and SHA-256 of each file, by relative path.
        described: What `MLmodel` says, but for which logged model of which run it is.
    """

    files: Mapping[str, tuple[int, str]]
    described: str

    @classmethod
    def of(cls, folder: Path) -> ModelFiles:
        """Read every file of a folder.

        Raises:
            OSError: A file cannot be read, or is no regular file: a link, say, or a device.
            ValueError: `MLmodel` is damaged.
        """
        files, described = {}, ""
        for path in folder.rglob("*"):
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                continue
            if not stat.S_ISREG(mode):
                raise OSError(f"{path.relative_to(folder).as_posix()} is no regular file")
            name = path.relative_to(folder).as_posix()
            if name != _OF_THE_DOWNLOAD:
                files[name] = _size_and_hash(path)
            if name == MODEL_FILE:
                described = _description(read_yaml(path))
        return cls(files, described)

    @property
    def digest(self) -> str:
        """SHA-256, in hex, over path, size and SHA-256 of every file."""
        return _digest(self.files)

    @property
    def saved_digest(self) -> str:
        """The same as the training wrote them, before the store knew which logged model it is."""
        files = {name: each for name, each in self.files.items() if name != MODEL_FILE}
        return _digest({**files, MODEL_FILE: (0, self.described)})

    @property
    def counted_bytes(self) -> int:
        """Their size, counted as MLflow counts it when a model is saved."""
        return sum(size for name, (size, _) in self.files.items() if name not in _DESCRIPTIVE)


def fetch_model(uri: str, folder: Path) -> Path:
    """Download a model's files, but for compiled Python, which loading would prefer to its source.

    Args:
        uri: Of the model, as MLflow takes it.
        folder: Where they go; empty or missing. (Not given one, MLflow would hand out the store's
            own files and write into them.)

    Returns:
        The folder that they are in.

    Raises:
        MlflowException, OSError: There is no such model, it cannot be read, or it has compiled
            Python that others would load whatever its source says.
    """
    folder.mkdir(exist_ok=True)
    fetched = Path(download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    for cache in [*fetched.rglob(_CACHE)]:
        for file in cache.rglob("*.pyc"):
            with file.open("rb") as opened:
                # Python's own caches name the time of their source; MLflow's serving would use one
                # that names its contents, and that may say not to compare them.
                if any(opened.read(_PYC_FLAGS.stop)[_PYC_FLAGS]):
                    raise OSError(f"{file.name} is compiled Python that no import made")
        shutil.rmtree(cache)
    return fetched


def check_version(name: str, version: int, digest: str, folder: Path) -> None:
    """Make sure that the store's files of a version in the registry are those that were verified.

    Args:
        name: The registered model.
        version: Its number.
        digest: Of the files that were verified.
        folder: Where they are downloaded to; empty or missing.

    Raises:
        ModelChangedError: They are others, or missing.
        TrackingError: The store does not answer.
    """
    try:
        # Where loading the version takes its files from, which need not be the logged model.
        uri = MlflowClient().get_model_version_download_uri(name, str(version))
        found = ModelFiles.of(fetch_model(uri, folder)).digest
    except (MlflowException, OSError, ValueError, RecursionError) as error:
        check_reachable()
        raise ModelChangedError(name, version, f"cannot be read ({one_line(error)})") from error
    _compare(name, version, found, digest)


def check_fetched(fetched: Path) -> None:
    """Make sure that downloaded files were verified, where they are a version's that says so.

    Raises:
        ModelChangedError: They are others.
        MlflowException, OSError, ValueError: They cannot be read, or the store does not answer.
    """
    note = fetched / _OF_THE_DOWNLOAD
    if not (fetched / MODEL_FILE).is_file() or not note.is_file():
        return  # nothing that can be loaded, or MLflow did not write the note
    named = read_yaml(note)
    name, version = named["model_name"], named["model_version"]
    if name is None or version is None:
        return
    tags = MlflowClient().get_model_version(name, version).tags
    if (digest := tags.get(keys.MODEL_DIGEST)) is None:
        warn_of_no_digest(name, int(version))
    else:
        _compare(name, int(version), ModelFiles.of(fetched).digest, digest)


def warn_of_no_digest(name: str, version: int) -> None:
    """Say that nobody can tell whether a version's files were verified."""
    _log.warning(
        "version %d of %s carries no digest of its files, so they are not compared with what was "
        "verified",
        version,
        name,
    )


def _compare(name: str, version: int, found: str, verified: str) -> None:
    if found != verified:
        raise ModelChangedError(name, version, f"have the digest {found[:12]}, not {verified[:12]}")


class ModelChangedError(TrackingError):
    """The files of a version are not those that were verified."""

    def __init__(self, name: str, version: int, how: str) -> None:
        super().__init__(
            f"the files of version {version} of {name} are not those that were verified: they "
            f"{how}; `fm-mlflow register` verifies a model and promotes it"
        )


def _size_and_hash(path: Path) -> tuple[int, str]:
    content, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            content.update(piece)
            size += len(piece)
    return size, content.hexdigest()


def _description(described: object) -> str:
    if not isinstance(described, dict):
        raise ValueError(f"{MODEL_FILE} does not describe a model")
    said = {str(name): each for name, each in described.items() if name not in _SIGNED}
    return json.dumps(said, sort_keys=True, default=str)


def _digest(files: Mapping[str, tuple[int, str]]) -> str:
    lines = [json.dumps([name, *files[name]]) for name in sorted(files)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
