"""What becomes of runs whose process is gone: their journals are delivered, their status is set."""

from __future__ import annotations

import shlex
from pathlib import Path

import mlflow

from fm_mlflow import keys
from fm_mlflow.errors import TrackingError
from fm_mlflow.escaping import HIDDEN
from fm_mlflow.process.file_lock import LockedError
from fm_mlflow.process.identity import (
    Presence,
    ProcessIdentity,
    kernel_killed_for_memory,
    out_of_memory_kills,
)
from fm_mlflow.process.redaction import one_line, redact
from fm_mlflow.results.recovery import Delivered
from fm_mlflow.tracking.outbox.delivery import Delivery
from fm_mlflow.tracking.outbox.journal import Journal, stored_run_id
from fm_mlflow.tracking.outbox.pending import what_is_pending
from fm_mlflow.tracking.outbox.records import Batch, End, Reopen, RunStart, Unreadable
from fm_mlflow.tracking.outbox.remote_run import RemoteRun, journal_of
from fm_mlflow.tracking.uris import absolute_uri, is_same_store

_LONGEST_CRASH = 1000


def deliver_journal(folder: Path, store: str = "", *, is_named: bool = False) -> Delivered:
    """Deliver the journal of a run that is over, then remove it.

    A run whose process is gone and that has not ended in its journal is ended there first.

    Args:
        folder: The journal's.
        store: Tracking URI to deliver to; by default the one that the environment names.
        is_named: Whether a person named this very journal: then `store` may be another than its
            own.

    Raises:
        LockedError: Another process has it open.
        FileNotFoundError: It has been delivered and removed meanwhile.
    """
    journal: Journal | None = None
    try:
        journal = Journal.open(folder)
        if journal.state.run_id is None:
            _ = journal.header  # the run is to be created as it says
        is_given = store and is_named
        uri = store if is_given else journal_uri(journal, f"sync {journal.journal_id}", store)
        delivery = Delivery(journal, uri)
        if _is_void(journal, delivery.run):
            run_id = stored_run_id(folder) or ""
            journal.remove()
            return Delivered(folder.name, run_id, redact(uri), 0, "")
        _end_if_dead(journal)
    except Exception as error:  # whatever it is, the other journals are to be delivered
        if journal is not None:
            journal.close()
        elif isinstance(error, (LockedError, FileNotFoundError)):
            raise
        return Delivered(folder.name, stored_run_id(folder) or "", "", 0, one_line(error))
    delivery.final = True
    before = delivery.pending + len(journal.state.refused)
    failure: TrackingError | None = None
    try:
        delivery.deliver(retry_refused=True)
    except Exception as error:
        failure = TrackingError(one_line(error))
    pending = what_is_pending(delivery, failure)
    left = delivery.pending + len(journal.state.refused)
    if delivery.complete:
        journal.remove()
    else:
        journal.save_state()
        journal.close()
    run_id = journal.state.run_id or ""
    return Delivered(journal.journal_id, run_id, redact(uri), before - left, pending)


def journal_uri(journal: Journal, command: str, store: str = "") -> str:
    """Return the tracking URI of a journal, which a person must name too: it may have a password.

    Nothing is asked of another store, and so no password or token is sent to one that only a
    journal names.

    Args:
        journal: Open.
        command: What a person calls for it, after `fm-mlflow`.
        store: What a person named; by default the active one.

    Raises:
        TrackingError: It is another; says which command takes that one.
    """
    uri = journal.header.uri
    if not isinstance(uri, str) or not uri.isprintable():
        raise TrackingError(f"the journal {journal.folder} names no store: {uri!r}")
    active = absolute_uri(store or mlflow.get_tracking_uri())
    if is_same_store(uri, active) or is_same_store(uri, redact(active)):
        return active
    if HIDDEN in uri:
        remedy = "set MLFLOW_TRACKING_URI to it, with its password"
    else:
        name, _, arguments = command.partition(" ")
        remedy = f"if you trust it: `fm-mlflow {name} --store {shlex.quote(uri)} {arguments}`"
    raise TrackingError(
        f"the journal {journal.folder} belongs to the store {uri}, and "
        f"{'--store' if store else 'this environment'} names {redact(active)}; {remedy}"
    )


def _is_void(journal: Journal, run: RemoteRun) -> bool:
    """Tell whether a journal says nothing: its process was killed before it had taken the run over.

    It was to resume a run that still belongs to the journal of an earlier process.
    """
    header = journal.records[0] if len(journal.records) == 1 else None
    if not isinstance(header, RunStart) or header.run_id is None:
        return False
    try:
        run.connect()
        owner = journal_of(header.open(run).data.tags)
    except TrackingError:
        return False  # the delivery says why
    return owner not in (None, journal.journal_id)


def _end_if_dead(journal: Journal) -> None:
    """Note how a run ended whose process is gone without a word, and when it was last alive.

    It is KILLED, or FAILED where the fault was its own.
    """
    start: RunStart | Reopen | None = None
    ended = False
    for record in journal.records:
        if isinstance(record, (RunStart, Reopen)):
            start, ended = record, isinstance(record, RunStart) and not record.owned
        ended = ended or isinstance(record, End)
    if start is None or isinstance(journal.records[-1], Unreadable):
        return  # what cannot be read may say how it ended
    process = ProcessIdentity.from_tags(start.tags)
    if ended or process is None:
        return
    presence = process.presence()
    if presence is Presence.ALIVE:
        return
    if crash := _crash(journal.crash_file):
        status, cause = keys.FAILED, f"the process crashed: {crash}"
    else:
        status = keys.KILLED
        cause = cause_of_death(process, presence, start.out_of_memory_kills)
    last = int((journal.folder / "journal.jsonl").stat().st_mtime * 1000)
    journal.append(Batch(tags={keys.ERROR: cause}))
    journal.append(End(status, last), durable=True)


def cause_of_death(
    process: ProcessIdentity, presence: Presence, memory_kills_before: int | None = None
) -> str:
    """Say why a process of this host is gone, as far as the system tells.

    Args:
        process: Of this host.
        presence: What is known of it.
        memory_kills_before: How many processes the kernel had killed for want of memory by then.
    """
    if presence is Presence.REBOOTED:
        return f"{process.host} was rebooted"
    name = f"process {process.pid} on {process.host}"
    if kernel_killed_for_memory(process):
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
        with trace.open(encoding="utf-8", errors="replace") as lines:
            first = lines.readline(_LONGEST_CRASH)
    except OSError:
        return ""
    return first.rstrip("\n").removeprefix("Fatal Python error: ")
