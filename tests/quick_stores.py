"""SQLite stores that do not wait for the disk: no test cuts the power of its machine.

Each commit would wait, and MLflow commits for each thing that it is told.
"""

from __future__ import annotations

import sqlite3

from sqlalchemy import Engine, event


@event.listens_for(Engine, "connect")
def _do_not_wait(connection: object, _record: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")
