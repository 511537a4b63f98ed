"""What a person sees of `sync` and `reconcile`."""

from __future__ import annotations

from io import StringIO

from fm_mlflow.results.recovery import Delivered, ReconcileResult, SyncResult
from fm_mlflow.terminal.lines import SafeConsole
from fm_mlflow.terminal.recovery import print_reconcile_result, print_sync_result

COMMAND = "`fm-mlflow sync --store 'sqlite:////home/ann/it is here/mlflow.db' j-1`"
JOURNALS = [
    Delivered("j-1", "", "", 0, f"the journal belongs to another store; {COMMAND}"),
    Delivered("j-2", "r2", "sqlite:///here.db", 7, ""),
]


def test_a_command_is_one_line_in_a_narrow_terminal() -> None:
    written = StringIO()
    console = SafeConsole(file=written, width=40)
    print_sync_result(console, SyncResult(JOURNALS, ["j-3"]))
    print_reconcile_result(console, ReconcileResult(JOURNALS, [], [], []))
    lines = written.getvalue().splitlines()
    told = [
        f"j-1: the journal belongs to another store; {COMMAND}",
        "j-2: run r2 is complete in sqlite:///here.db",
    ]
    assert lines[:2] == lines[-2:] == told
    assert lines[2].startswith("j-3: in use")
