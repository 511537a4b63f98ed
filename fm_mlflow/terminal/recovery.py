"""What a person sees of `sync` and `reconcile`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fm_mlflow.terminal.lines import SafeConsole, print_line

if TYPE_CHECKING:
    from fm_mlflow.results.recovery import Delivered, ReconcileResult, SyncResult


def print_sync_result(console: SafeConsole, result: SyncResult) -> None:
    """Show what was delivered, and where to."""
    for each in result.journals:
        _print_delivered(console, each)
    for journal_id in result.in_use:
        print_line(console, f"{journal_id}: in use, by its own run or by another `fm-mlflow sync`")
    if not result.journals and not result.in_use:
        print_line(console, "nothing is pending")


def print_reconcile_result(console: SafeConsole, result: ReconcileResult) -> None:
    """Show which runs were closed and why, and which were left alone."""
    for each in result.delivered:
        _print_delivered(console, each)
    groups = (("closed", result.closed), ("running", result.running), ("unknown", result.unknown))
    for label, runs in groups:
        for run in runs:
            print_line(console, f"{label}: run {run.run_id} ({run.name}): {run.reason}")
    if not any([result.delivered, *(runs for _, runs in groups)]):
        print_line(console, "no run is RUNNING")


def _print_delivered(console: SafeConsole, each: Delivered) -> None:
    done = f"run {each.run_id} is complete in {each.tracking_uri}"
    # What is pending names a command, which is there to be copied.
    print_line(console, f"{each.journal_id}: {each.pending or done}", wrapped=False)
