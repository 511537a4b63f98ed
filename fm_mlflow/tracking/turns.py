"""Turns of promotions: flags, tags of a registered model, that keep two promotions apart."""

from __future__ import annotations

import logging
import random
import re
import time
import uuid
from socket import gethostname

from mlflow.tracking import MlflowClient

from fm_mlflow import keys
from fm_mlflow.errors import TrackingError
from fm_mlflow.process.temporary import MARK, is_abandoned, mark
from fm_mlflow.tracking.store import if_existing, registry_errors

_log = logging.getLogger(__name__)

ABANDONED_SECONDS = 30.0
"""A flag that is up for longer is of a process that died."""

_TURN = f"{keys.PROMOTING}."
_PATIENCE_SECONDS = 120.0
_PAUSE_SECONDS = (0.02, 0.2)


def new_flag() -> str:
    """Return the name of a flag that nobody else has."""
    return f"{_TURN}{uuid.uuid4().hex[:12]}"


def wait(client: MlflowClient, model: str, flag: str) -> None:
    """Raise one's own flag when no other one is up.

    Raises:
        TrackingError: Others are promoting all the time, or the store does not answer.
    """
    began = time.monotonic()
    first_seen: dict[str, float] = {}
    with registry_errors("promote"):
        while time.monotonic() - began < _PATIENCE_SECONDS:
            if not _others(client, model, flag, first_seen):
                client.set_registered_model_tag(model, flag, f"{gethostname()} {mark()}")
                if not _others(client, model, flag, first_seen):
                    return
                lower(client, model, flag)
            time.sleep(random.uniform(*_PAUSE_SECONDS))
    raise TrackingError(f"others are promoting versions of '{model}' all the time; try again later")


def standing(client: MlflowClient, model: str) -> dict[str, str]:
    """Return all flags and whose they are; take down those of this host whose process is gone."""
    tags = client.get_registered_model(model).tags
    flags = {name: value for name, value in tags.items() if name.startswith(_TURN)}
    for name in [name for name, value in flags.items() if _is_abandoned(value)]:
        lower(client, model, name)
        del flags[name]
    return flags


def lower(client: MlflowClient, model: str, flag: str) -> None:
    """Take a flag down, which may be gone already."""
    if_existing(client.delete_registered_model_tag, model, flag)


def _is_abandoned(value: str) -> bool:
    found = re.fullmatch(rf"\S+ ({MARK})", value)
    return found is not None and is_abandoned(found[1])


def _others(client: MlflowClient, model: str, own: str, first_seen: dict[str, float]) -> bool:
    """Tell whether other flags count; note since when each has been up without a break."""
    flags, now = standing(client, model), time.monotonic()
    since = {flag: first_seen.get(flag, now) for flag in flags if flag != own}
    first_seen.clear()
    for flag, seen in since.items():
        if now - seen <= ABANDONED_SECONDS:
            first_seen[flag] = seen
            continue
        _log.warning(
            "a promotion from %s has not ended for %.0f s; continuing without it",
            *(flags[flag].partition(" ")[0], ABANDONED_SECONDS),
        )
        lower(client, model, flag)
    return bool(first_seen)
