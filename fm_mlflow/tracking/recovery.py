"""What becomes of runs whose process is gone: their journals are delivered, their status is set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mlflow

from fm_mlflow import keys
from fm_mlflow.errors import TrackingError
from fm_mlflow.process.identity import (
    Presence,
    ProcessIdentity,
    kernel_killed_for_memory,
    out_of_memory_kills,
)
from fm_mlflow.process.redaction import HIDDEN, redact
from fm_mlflow.results.recovery import Delivered
from fm_mlflow.tracking.outbox.delivery import Delivery, what_is_pending
from fm_mlflow.tracking.outbox.journal import Journal, Record
from fm_mlflow.tracking.store import absolute_uri


@dataclass(frozen=True)
class Death:
    """How a process ended that said nothing of it.

    Attributes:
        status: KILLED, or FAILED where the fault was its own.
        cause: One line for the tag `fm_mlflow.error`.
    """

    status: str
    cause: str


def deliver_journal(journal: Journal, store: str = "") -> Delivered:
    """Deliver the journal of a run that is over, then remove it.

    Args:
        journal: Open. A run whose process is gone and that has not ended there is ended first.
        store: Tracking URI to deliver to instead of the journal's own.
    """
    try:
        uri = store or journal_uri(journal[0])
    except TrackingError as error:
        journal.close()
        return Delivered(journal.journal_id, journal.state.run_id or "", "", 0, str(error))
    death = death_of(journal)
    if death is not None:
        end(journal, death)
    delivery = Delivery(journal, uri)
    delivery.final = True
    before = delivery.pending + len(journal.state.refused)
    failure: TrackingError | None = None
    try:
        delivery.deliver(retry_refused=True)
    except TrackingError as error:
        failure = error
    pending = "" if delivery.complete else what_is_pending(delivery, failure)
    left = delivery.pending + len(journal.state.refused)
    if delivery.complete:
        journal.remove()
    else:
        journal.save_state()
        journal.close()
    run_id = journal.state.run_id or ""
    return Delivered(journal.journal_id, run_id, redact(uri), before - left, pending)


def journal_uri(header: Record) -> str:
    """Return the tracking URI of a journal, whose password is never written down."""
    if header["type"] != "run":
        raise TrackingError("the journal's first line is damaged: it does not say whose it is")
    recorded = str(header["uri"])
    if HIDDEN not in recorded:
        return recorded
    active = absolute_uri(mlflow.get_tracking_uri())
    if redact(active) == recorded:
        return active
    raise TrackingError(
        f"the journal belongs to {recorded}; set MLFLOW_TRACKING_URI to it, with its password"
    )


def death_of(journal: Journal) -> Death | None:
    """Tell how the process of a journal died; None when the run ended well or is not its to end."""
    header, ended = journal[0], not journal[0]["owned"]
    for number in range(len(journal)):
        record = journal[number]
        if record["type"] == "reopen":
            header, ended = {**header, **record}, False
        ended = ended or record["type"] == "end"
    process = ProcessIdentity.from_tags(header["tags"])
    if ended or process is None:
        return None
    presence = process.presence()
    if presence is Presence.ALIVE:
        return None
    crash = _crash(journal.crash_file)
    if crash:
        return Death(keys.FAILED, f"the process crashed: {crash}")
    cause = cause_of_death(process, presence, header.get("out_of_memory_kills"))
    return Death(keys.KILLED, cause)


def end(journal: Journal, death: Death) -> None:
    """Note in a journal how its run ended, and when it was last alive."""
    last = int((journal.folder / "journal.jsonl").stat().st_mtime * 1000)
    journal.append({"type": "batch", "tags": {keys.ERROR: death.cause}})
    record = {"type": "end", "status": death.status, "end_time": last}
    journal.append(record, durable=True)


def cause_of_death(
    process: ProcessIdentity, presence: Presence, memory_kills_before: int | None = None
) -> str:
    """Say why a process of this host is gone, as far as the system tells.

    Args:
        process: The process.
        presence: What is known of it.
        memory_kills_before: How many processes the kernel had killed for want of memory by then.
    """
    if presence is Presence.REBOOTED:
        return f"{process.host} was rebooted"
    name = f"process {process.pid} on {process.host}"
    if kernel_killed_for_memory(process.pid):
        return f"out of memory: the kernel killed {name}"
    kills = out_of_memory_kills()
    if kills and memory_kills_before is not None and kills > memory_kills_before:
        return (
            f"{name} is gone, probably for want of memory: the kernel has killed "
            f"{kills - memory_kills_before} processes for that since the run began"
        )
    return f"{name} is gone without a word: killed by SIGKILL, or as suddenly"


def _crash(trace: Path) -> str:
    """Return the first line of what Python wrote when it crashed, if it did."""
    try:
        lines = trace.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return lines[0].removeprefix("Fatal Python error: ") if lines else ""
