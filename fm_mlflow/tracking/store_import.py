"""Imports what MLflow takes for a store, before it is asked."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import mlflow

from fm_mlflow.tracking.uris import is_database

_DATABASE = "mlflow.store.tracking.sqlalchemy_store"
_SERVER = "mlflow.store.tracking.rest_store"


@contextmanager
def importing_store() -> Iterator[None]:
    """Import what MLflow takes for the active store, beside what the block does.

    For a database that is most of a second, which ends early where the block lets go of Python.
    Nothing is opened or made.
    """
    module = _DATABASE if is_database(mlflow.get_tracking_uri()) else _SERVER

    def bring() -> None:
        with suppress(Exception):  # MLflow imports it when it needs it, and tells what is wrong
            importlib.import_module(module)

    thread = threading.Thread(target=bring, name="fm_mlflow-store")
    thread.start()
    try:
        yield
    finally:
        thread.join()
