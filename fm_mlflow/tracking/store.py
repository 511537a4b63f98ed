"""The tracking store as a whole: where it is, whether it answers, how its errors look."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
from mlflow.exceptions import MlflowException

from fm_mlflow.errors import FmMlflowError, TrackingError
from fm_mlflow.redaction import one_line, redact


def check_reachable() -> None:
    """Fail at once where MLflow would retry for minutes: nothing listens at the tracking URI.

    Raises:
        TrackingError: No connection.
    """
    import requests

    uri = mlflow.get_tracking_uri()
    if not uri.startswith(("http://", "https://")):
        return
    try:
        requests.head(uri, timeout=10, allow_redirects=False)
    except requests.exceptions.SSLError:
        return  # it answers; whether it is trusted is for MLflow's own settings to say
    except requests.RequestException as error:
        raise TrackingError(
            f"the tracking server {redact(uri)} does not answer ({type(error).__name__}); "
            "check MLFLOW_TRACKING_URI and that the server runs"
        ) from error


def tracking_uri() -> str:
    """The active tracking URI with any password hidden."""
    return redact(mlflow.get_tracking_uri())


@contextmanager
def store_errors(action: str) -> Iterator[None]:
    """Give whatever the store raises one shape: what was tried, where, why."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except FmMlflowError:
        raise
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise TrackingError(f"cannot {action} in {tracking_uri()}: {one_line(error)}") from error
