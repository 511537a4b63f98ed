"""A store whose every name is hostile, read by every command that lists what is in it."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.entities import LoggedModelStatus

from fm_mlflow import keys
from fm_mlflow.cli import main
from tests.hostile import HOSTILE, check_terminal
from tests.report.page import parse
from tests.simulated import Simulated, log_run
from tests.stores import Store

NAME = "classifier [red]a[red]\x1b[2J\x9b2J\u202e\r\nFORGED <script> *x*"  # without / and :


@pytest.fixture
def hostile_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    monkeypatch.setenv("COLUMNS", "4000")
    before, environment = logging.getLogRecordFactory(), dict(os.environ)
    client = store.client
    experiment = client.create_experiment(f"all of {HOSTILE}", str(store.folder / "artifacts"))
    params = dict.fromkeys(("optimizer", "loss", "dataset"), HOSTILE)
    tags = {keys.VERSION: HOSTILE, keys.MACHINE_VERSIONS: HOSTILE, keys.MLFLOW_GIT_COMMIT: HOSTILE}
    for number, model in enumerate((HOSTILE, f"B {HOSTILE}")):
        run = Simulated(model, accuracy=0.9 - 0.05 * number, name=HOSTILE, params=params, tags=tags)
        run_id = log_run(client, run, experiment)
    failed = Simulated(name=HOSTILE, status="FAILED", tags={keys.ERROR: HOSTILE})
    log_run(client, failed, experiment)
    log_run(client, Simulated(name=HOSTILE, status="RUNNING", predictions=False), experiment)
    logged = client.create_logged_model(experiment, name="model", source_run_id=run_id)
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    client.create_registered_model(NAME, description=HOSTILE)
    for number in (1, 2):
        tags = {keys.MODEL: HOSTILE, keys.VERIFIED_AT: HOSTILE, keys.TEST_ACCURACY: HOSTILE}
        client.create_model_version(
            NAME, f"models:/{logged.model_id}", run_id, tags=tags, description=HOSTILE
        )
        client.set_registered_model_alias(NAME, ("previous", "champion")[number - 1], str(number))
    yield store
    logging.setLogRecordFactory(before)
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    with pytest.raises(SystemExit):
        main(list(arguments))
    captured = capsys.readouterr()
    check_terminal(captured.err)
    if "--json" in arguments:
        assert captured.out.isascii()
        assert {each for each in captured.out if not each.isprintable()} == {"\n"}
        json.loads(captured.out)
    else:
        check_terminal(captured.out)
    return captured.out, captured.err


def test_every_command(hostile_store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    everything = ("--experiment", f"all of {HOSTILE}", "--output", "out")
    for more in ((), ("--json",)):
        assert "FORGED" in command(capsys, "compare", *everything, *more)[0]
        assert "FORGED" in command(capsys, "register", "--list", "--name", NAME, *more)[0]
        assert "FORGED" in command(capsys, "reconcile", "--dry-run", *more)[0]
    assert "[red]a[red]" in command(capsys, "register", "--rollback", "--name", NAME)[0]
    # Refused: what was asked for is quoted, what there is is listed.
    assert "FORGED" in command(capsys, "compare", "--experiment", HOSTILE)[1]
    assert "FORGED" in command(capsys, "compare", *everything, "--models", f"no {HOSTILE}")[1]
    assert "FORGED" in command(capsys, "register", "--name", NAME, *everything[:2])[1]
    for name in ("register --run-id", "predict --model models:/m-1 --input", "resume", "sync"):
        assert "FORGED" in command(capsys, *name.split(), HOSTILE)[1]

    page = Path("out/report.html").read_text(encoding="utf-8")
    assert page.count("<script") == 1  # the page's own
    parse(page)
    for name in ("report.html", "report.md", "comparison.csv"):
        text = Path("out", name).read_text(encoding="utf-8")
        assert "FORGED" in text
        assert {each for each in text if not each.isprintable()} == {"\n"}
    table = Path("out/comparison.csv").read_text(encoding="utf-8")
    fields = [field for row in csv.reader(io.StringIO(table)) for field in row]
    assert not any(field.startswith(("=", "+", "@")) for field in fields)
