"""The tracking store as a whole: where it is, whether it answers, how its errors look."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import mlflow
import requests
from mlflow.entities import Run
from mlflow.environment_variables import (
    MLFLOW_TRACKING_CLIENT_CERT_PATH,
    MLFLOW_TRACKING_INSECURE_TLS,
    MLFLOW_TRACKING_SERVER_CERT_PATH,
)
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes
from mlflow.store.entities import PagedList
from mlflow.tracking import MlflowClient

from fm_mlflow import keys
from fm_mlflow.errors import FmMlflowError, InputError, TrackingError
from fm_mlflow.process.redaction import one_line, redact
from fm_mlflow.tracking.uris import check_literal, database_file, is_database, make_folder_of

_PROBE_SECONDS = 5
_PAUSE_SECONDS = 1
_NO_REGISTRY = "Model registry functionality is unavailable"
_HTTP_STATUS = re.compile(r"failed with error code (\d{3}) !=|\b(\d{3}) (?:Client|Server) Error")
_TLS_REASON = re.compile(
    r"(?:\[SSL: CERTIFICATE_VERIFY_FAILED\] )?"
    r"(certificate verify failed: [^(\"']+|[A-Z0-9_]{8,}|EOF occurred in violation|PEM lib)"
)
_TLS_SETTINGS: tuple[Any, ...] = (
    MLFLOW_TRACKING_INSECURE_TLS,
    MLFLOW_TRACKING_SERVER_CERT_PATH,
    MLFLOW_TRACKING_CLIENT_CERT_PATH,
)
_CERTIFICATES = (
    "MLFLOW_TRACKING_SERVER_CERT_PATH (its certificate authority) and "
    "MLFLOW_TRACKING_CLIENT_CERT_PATH (your certificate and key, if it wants one)"
)
_TRANSIENT_STATUS = {408, 425, 429}
_TRANSIENT_CODES = (
    *(codes.TEMPORARILY_UNAVAILABLE, codes.REQUEST_LIMIT_EXCEEDED, codes.RESOURCE_EXHAUSTED),
    *(codes.DEADLINE_EXCEEDED, codes.ABORTED, codes.CANCELLED, codes.RESOURCE_CONFLICT),
)
_DENIED_CODES = (codes.UNAUTHENTICATED, codes.CUSTOMER_UNAUTHORIZED, codes.PERMISSION_DENIED)
_NEVER_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR}

_ARTIFACT_LIBRARIES = ("botocore", "boto3", "google", "azure")
_PAGE = 1000
OLDEST_FIRST = ["attributes.start_time ASC"]

_T = TypeVar("_T")


class StoreUnavailableError(TrackingError):
    """The store does not answer now; the same request may well succeed later."""


class StoreDeniedError(StoreUnavailableError):
    """The store, or the way to it, does not trust us; somebody has to change a setting."""


class StoreFailedError(StoreUnavailableError):
    """The store answers that it failed: it is ill, or cannot digest this very request."""


class StoreRefusedError(TrackingError):
    """The store says no, and will say so again."""


def context_tags(tags: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what MLflow sets on a run by itself - user, source, commit - and further tags."""
    try:
        from mlflow.tracking.context.registry import resolve_tags
    except ImportError:
        return dict(tags or {})
    return dict(resolve_tags(tags))


@lru_cache(maxsize=1)
def _connections(_process: int) -> requests.Session:
    """Return open connections for probes; a forked process must not use those of its parent."""
    return requests.Session()


@lru_cache(maxsize=8)
def _probe(
    process: int, uri: str, verify: bool | str, certificate: str | None
) -> tuple[requests.PreparedRequest, dict[str, Any]]:
    """Return the request that asks whether a server answers, and how it is sent.

    To make it takes more than to send it: for proxies all of the environment is searched.
    """
    session = _connections(process)
    settings = session.merge_environment_settings(uri, {}, None, verify, certificate)
    return session.prepare_request(requests.Request("HEAD", uri)), dict(settings)


def check_reachable(uri: str | None = None) -> None:
    """Fail at once where MLflow would retry for minutes: nothing answers at the tracking URI.

    The request has the certificates that MLflow's requests have, but no password.

    Args:
        uri: By default the active tracking URI.

    Raises:
        InputError: The store is a database, and the working directory one that MLflow misreads.
        StoreUnavailableError: No answer.
        StoreDeniedError: No trust: a TLS certificate is not accepted, the server's or ours.
    """
    uri = uri or mlflow.get_tracking_uri()
    if not uri.startswith(("http://", "https://")):
        if is_database(uri):
            # MLflow keeps the artifacts of new experiments in ./mlruns.
            check_literal("working directory", Path.cwd())
        return
    insecure, authority, certificate = (each.get() for each in _TLS_SETTINGS)
    try:
        process, verify = os.getpid(), not insecure and (authority or True)
        request, settings = _probe(process, uri, verify, certificate)
        answer = _connections(process).send(
            request, timeout=_PROBE_SECONDS, allow_redirects=False, **settings
        )
    except requests.exceptions.SSLError as error:
        found = _TLS_REASON.search(str(error))
        reason = found[1].strip() if found else "TLS"
        raise StoreDeniedError(
            f"the tracking server {redact(uri)} is not trusted, or does not trust us ({reason}); "
            f"check {_CERTIFICATES}"
        ) from error
    except requests.RequestException as error:
        raise StoreUnavailableError(
            f"the tracking server {redact(uri)} does not answer ({type(error).__name__}); "
            "check MLFLOW_TRACKING_URI and that the server runs"
        ) from error
    except OSError as error:  # a certificate's file is missing
        raise StoreDeniedError(
            f"the tracking server {redact(uri)} cannot be asked: {one_line(error)}; "
            f"check {_CERTIFICATES}"
        ) from error
    status = answer.status_code
    if _is_transient(status):
        raise StoreUnavailableError(f"the tracking server {redact(uri)} answers {status}")


def check_writable(uri: str) -> None:
    """Refuse a database in a file that nobody here can write; MLflow would retry for minutes.

    Raises:
        StoreDeniedError: It is one.
    """
    file = database_file(uri)
    if file is not None and file.exists():
        for place in (file, file.parent):  # SQLite writes its journal beside the file
            if not os.access(place, os.W_OK):
                raise StoreDeniedError(f"{place} cannot be written: no run can be stored there")


def wait_until_reachable(seconds: float) -> None:
    """Wait for the active store to answer; raise as `check_reachable` if it does not so long."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return check_reachable()
        except StoreUnavailableError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_PAUSE_SECONDS)


def tracking_uri() -> str:
    """The active tracking URI with any password hidden."""
    return redact(mlflow.get_tracking_uri())


def has_code(error: BaseException | None, *allowed: int) -> bool:
    """Tell whether MLflow raised an error with one of these codes (`databricks_pb2.ErrorCode`)."""
    return isinstance(error, MlflowException) and error.error_code in map(
        codes.ErrorCode.Name, allowed
    )


def if_existing(request: Callable[..., _T], *arguments: Any) -> _T | None:
    """Return what a request returns; None where what it is about does not exist."""
    try:
        return request(*arguments)
    except MlflowException as error:
        if not has_code(error, codes.RESOURCE_DOES_NOT_EXIST):
            raise
        return None


def get_run(run_id: str, parameter: str, accepted: str) -> Run:
    """Return a run that the user named.

    Raises:
        InputError: There is none with this id; names the user's parameter and what it accepts.
    """
    try:
        return MlflowClient().get_run(run_id)
    except MlflowException as error:
        if not has_code(error, codes.RESOURCE_DOES_NOT_EXIST, codes.INVALID_PARAMETER_VALUE):
            raise
        raise InputError(parameter, run_id, accepted) from error


@contextmanager
def registry_errors(action: str) -> Iterator[None]:
    """As `store_errors`; says so where the store has no registry at all."""
    try:
        with store_errors(f"{action} (model registry)"):
            yield
    except TrackingError as error:
        cause = error.__cause__
        missing = has_code(cause, codes.FEATURE_DISABLED, codes.ENDPOINT_NOT_FOUND)
        if missing or (isinstance(cause, MlflowException) and _NO_REGISTRY in str(cause)):
            raise TrackingError(
                f"there is no model registry at {redact(mlflow.get_registry_uri())}; use a "
                "database or an MLflow server (MLFLOW_TRACKING_URI, MLFLOW_REGISTRY_URI)"
            ) from error
        raise


def pages(search: Callable[..., PagedList[_T]], *arguments: Any, **more: Any) -> Iterator[_T]:
    """Yield all that a search of MlflowClient finds, requested page by page."""
    token: str | None = None
    while token != "":
        page = search(*arguments, max_results=_PAGE, page_token=token, **more)
        yield from page
        token = page.token or ""


def status_after(error: BaseException | None) -> str:
    """Return the status of a run that ended well, by an error, or by an interruption."""
    if error is None:
        return keys.FINISHED
    return keys.KILLED if isinstance(error, KeyboardInterrupt) else keys.FAILED


@contextmanager
def store_errors(action: str, uri: str | None = None) -> Iterator[None]:
    """Give whatever the store raises one shape: what was tried, where, why.

    Raises:
        StoreUnavailableError: It did not answer; or, more exactly, StoreDeniedError or
            StoreFailedError.
        StoreRefusedError: It said no for good.
    """
    try:
        yield
    except FmMlflowError:
        raise
    except Exception as error:
        kind = _kind(error)
        if kind is None:
            raise
        where = redact(uri) if uri else tracking_uri()
        raise kind(f"cannot {action} in {where}: {_reason(error)}") from error


def _kind(error: Exception) -> type[TrackingError] | None:
    """Tell a store that says no from one that does not answer; None for an error of no store."""
    from sqlalchemy import exc  # a tenth of a second; with a server, nothing else imports it

    if not isinstance(error, (MlflowException, exc.SQLAlchemyError, OSError)):
        # An artifact store's own library (botocore, …) raises what no import here can name.
        library = type(error).__module__.partition(".")[0]
        return StoreUnavailableError if library in _ARTIFACT_LIBRARIES else None
    kind: type[TrackingError] = StoreRefusedError
    if isinstance(error, MlflowException):
        status = _HTTP_STATUS.search(str(error))
        if has_code(error, *_DENIED_CODES):
            kind = StoreDeniedError
        elif status and not _is_transient(int(status[1] or status[2])):
            kind = StoreRefusedError
        elif has_code(error, *_TRANSIENT_CODES):
            kind = StoreUnavailableError
        elif has_code(error, codes.INTERNAL_ERROR):
            kind = StoreFailedError
    elif isinstance(error, (exc.OperationalError, exc.InterfaceError, exc.TimeoutError)):
        kind = StoreUnavailableError
    elif isinstance(error, OSError) and error.errno not in _NEVER_WRITABLE:
        status_code = getattr(getattr(error, "response", None), "status_code", None)
        if status_code is None or _is_transient(status_code):
            kind = StoreUnavailableError
    return kind


def _is_transient(status: int) -> bool:
    return status in _TRANSIENT_STATUS or status >= 500


def _reason(error: Exception) -> str:
    if has_code(error, codes.PERMISSION_DENIED):
        return (
            "not allowed (PERMISSION_DENIED): it is not this user's to change; "
            "MLFLOW_EXPERIMENT_NAME names an experiment of one's own, and the server's "
            "administrator grants more"
        )
    if isinstance(error, MlflowException) and has_code(error, *_DENIED_CODES):
        return (
            f"not allowed ({error.error_code}); check MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
    return one_line(error)


def prepare(uri: str, lock_folder: Path) -> None:
    """Make sure that a store in a database exists and is migrated; one process at a time.

    MLflow migrates an empty database without a lock: of several that start at once on one, all but
    the first fail on tables that exist already.

    Args:
        uri: The tracking URI.
        lock_folder: Where the lock goes that the processes of this user share; it exists.
    """
    from fm_mlflow.process.file_lock import FileLock

    if "://" not in uri or uri.startswith(("http://", "https://", "file://")):
        return
    check_writable(uri)
    name = hashlib.sha256(uri.encode()).hexdigest()[:16]
    with FileLock(lock_folder / f".store-{name}.lock"), store_errors("open the store", uri):
        make_folder_of(uri)
        MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
