"""Damaged journals, states and files: what is told and kept, and what is delivered all the same."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from benchmarks.damaged_journals import KINDS, line
from benchmarks.fuzz_journals import campaign
from fm_mlflow import TrackingError, keys, reconcile, resume, sync
from fm_mlflow.process.file_lock import FileLock
from fm_mlflow.tracking.outbox import remote_run
from fm_mlflow.tracking.outbox.delivery import Delivery
from fm_mlflow.tracking.outbox.journal import Journal
from fm_mlflow.tracking.outbox.journal_file import encoded
from fm_mlflow.tracking.outbox.records import (
    Artifacts,
    Batch,
    Checkpoint,
    Dataset,
    End,
    KnownModel,
    LinkedModels,
    Model,
    Point,
    Record,
    Reopen,
    RunStart,
    Unreadable,
)
from fm_mlflow.tracking.outbox.state import State
from fm_mlflow.tracking.store import StoreUnavailableError
from tests.stores import Store


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FM_MLFLOW_JOURNAL_DIR", str(tmp_path / "journals"))
    return tmp_path / "journals"


def numbered(number: int) -> Batch:
    return Batch((Point(f"m{number}", float(number), 1, 0),), tags={"number": str(number)})


def new(store: Store | None = None, name: str = "j-1", batches: int = 5) -> Journal:
    uri = store.uri if store else "sqlite:///here.db"
    tags: dict[str, str] = {keys.KIND: "training", keys.JOURNAL: name}
    journal = Journal.create(name, RunStart(uri, None, True, name, 1, "0", None, tags))
    for number in range(1, batches + 1):
        journal.append(numbered(number))
    return journal


def closed(journal: Journal) -> Path:
    journal.close()
    return journal.folder


def run_of(store: Store, journal_id: str) -> mlflow.entities.Run:
    (run,) = store.client.search_runs(["0"], f"tags.`{keys.JOURNAL}` = '{journal_id}'")
    return run


def read_again(journal: Journal, lines: list[bytes]) -> Journal:
    journal.close()
    (journal.folder / "journal.jsonl").write_bytes(b"".join(lines))
    return Journal.open(journal.folder)


def lines_of(journal: Journal) -> list[bytes]:
    return (journal.folder / "journal.jsonl").read_bytes().splitlines(keepends=True)


class TestNumbers:
    """Whatever happens to a line, those after it keep their numbers."""

    @pytest.mark.parametrize(
        ("change", "lost", "damage"),
        [
            (lambda a: [*a[:2], b"garbage\n", *a[3:]], {2}, "line 3: it is damaged"),
            (lambda a: [*a[:2], *a[3:]], {2}, "record 2 is missing"),
            (lambda a: [*a[:2], a[2][:-1] + b"?", *a[3:]], {2, 3}, "line 3: it is damaged"),
            (lambda a: [*a[:2], a[2][:9] + b"\n" + a[2][9:], *a[3:]], {2}, "line 3: it is damaged"),
            (lambda a: [*a[:3], a[2], *a[3:]], set(), ""),
            (lambda a: a[::-1], set(), ""),
            (lambda a: [*a[:2], b"\0" * 4096 + b"\n", *a[4:]], {2, 3}, "line 3: it is damaged"),
            (lambda a: [*a, encoded(numbered(9), 3)], set(), "line 7: there is another record 3"),
            (lambda a: [*a, encoded(numbered(9), 60)], set(), "record 6 is missing"),
            (lambda a: [*a, encoded(numbered(9), 10**9)], {6}, "line 7: its number cannot be"),
            (lambda a: [*a, b"torn"], set(), ""),
            (lambda a: [*a, *[b"x\n"] * 200], set(), "line 7: it is damaged"),
        ],
    )
    def test_of_a_line(
        self, change: Callable[[list[bytes]], list[bytes]], lost: set[int], damage: str
    ) -> None:
        journal = new()
        journal = read_again(journal, change(lines_of(journal)))
        for number, record in enumerate(journal.records[:6]):
            if number in lost:
                assert isinstance(record, Unreadable)
            elif number:
                assert isinstance(record, Batch)
                assert record.tags["number"] == str(number)
        assert (bool(journal.damaged), journal.damage) == (bool(damage), damage)
        number = journal.append(numbered(6))
        journal = read_again(journal, lines_of(journal))
        assert journal.records[number] == numbered(6)

    def test_lines_of_version_0_1_0_have_none(self) -> None:
        journal = new()
        texts = [json.dumps(each, default=lambda one: one.to_json()) for each in journal.records]
        old = [line(text.encode()) for text in texts]
        journal = read_again(journal, [*old[:2], b"garbage\n", *old[3:]])
        assert isinstance(journal.records[2], Unreadable)
        assert journal.records[3] == numbered(3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"[" * 100_000, "it is not JSON: RecursionError"),
        (b'{"type":"end","status":"FINISHED","end_time":' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"type":"end","status":"FINISHED","end_time":' + b"9" * 20 + b"}", "end_time: Input"),
        (b'{"type":"end","status":7,"end_time":1}', "status: Input should be an instance of str"),
        (b'{"type":"batch","tags":{"a":1}}', "tags: Value error, Input should be text"),
        (b'{"type":"batch","tags":[]}', "tags: Value error, Input should be text"),
        (b'{"type":"batch","metrics":"abc"}', "metrics: Input should be a valid tuple"),
        (b'{"type":"batch","metrics":[{"key":"a","value":"1","timestamp":1,"step":1}]}', "value"),
        (b'{"type":"reopen","time":1,"tags":{},"points":[["a"]]}', r"points\.0\.1: Field required"),
        (b'{"type":"batch","number":"7"}', "its number is none"),
        (b'{"type":"\\u001b]0;x"}', r"the unknown type '\\x1b\]0;x'"),
        (b'"' + b"x" * 9 * 2**20 + b'"', "bytes, more than a record may"),
        (b"\xff\xfe{}", "it is not JSON: UnicodeDecodeError"),
        (b"null", "it is damaged"),
    ],
)
def test_a_record_that_cannot_be_read(text: bytes, says: str) -> None:
    journal = new()
    lines = lines_of(journal)
    journal = read_again(journal, [*lines[:3], line(text), *lines[4:]])
    assert journal.damaged == 1
    with pytest.raises(TrackingError, match=says):
        raise TrackingError(journal.damage)
    assert journal.damage.isprintable()
    assert journal.records[4] == numbered(4)


def test_records_of_all_kinds_before_a_damaged_line_are_delivered(store: Store) -> None:
    known = store.client.create_logged_model("0", name="known").model_id
    journal = new(store)
    for record in everything(store, journal.folder, known):
        journal.append(record)
    journal.append(numbered(8))
    path = closed(journal) / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-10] + b"damaged!!\n")
    (told,) = sync().journals
    assert "1 records of" in told.pending
    assert "refused" not in told.pending
    run = run_of(store, "j-1")
    found = {each.path for each in store.client.list_artifacts(run.info.run_id)}
    assert found == {"text.txt", "checkpoint"}
    assert run.inputs
    assert run.outputs
    assert (len(run.inputs.dataset_inputs), len(run.outputs.model_outputs)) == (1, 1)
    assert run.info.status == "FINISHED"


@pytest.mark.parametrize("what", ["folder", "pipe", "large", "lines"])
def test_what_is_no_journal(store: Store, what: str) -> None:
    good = closed(new(store, "j-good"))
    path = closed(new(store, "j-bad")) / "journal.jsonl"
    path.unlink()
    match what:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "large":
            path.touch()
            os.truncate(path, 2**31)
        case "lines":
            path.write_bytes(b"\n" * 200_000)
    told = {each.journal_id: each.pending for each in sync().journals}
    reasons = {
        "folder": "cannot be read: not a regular file",
        "pipe": "is left alone: it holds journal.jsonl, which is no file",
        "large": "cannot be read: its 2048 MiB are more than 96",
        "lines": "cannot be read: too much is damaged, first line 1: it is damaged",
    }
    assert told == {"j-good": "", "j-bad": f"the journal {path.parent} {reasons[what]}"}
    assert not good.exists()
    assert path.exists()


def test_a_damaged_header_of_a_run_that_the_store_has(store: Store) -> None:
    journal = new(store)
    run_id = store.client.create_run("0").info.run_id
    journal.state.run_id, journal.state.experiment_id = run_id, "0"
    journal.save_state()
    path = closed(journal) / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"name":"j-1"', b'"name":"j-2"'))
    (told,) = sync().journals
    assert "`fm-mlflow sync j-1 --store URI` delivers the rest of it to run" in told.pending
    with pytest.raises(TrackingError, match="the journal's first line is damaged"):
        resume(run_id)
    (told,) = sync(["j-1"], store=store.uri).journals
    assert "1 records of" in told.pending
    assert sorted(store.client.get_run(run_id).data.metrics) == ["m1", "m2", "m3", "m4", "m5"]


def test_an_empty_journal_is_not_taken_for_a_delivered_one(store: Store) -> None:
    journal = new(store)
    journal.state.run_id = store.client.create_run("0").info.run_id
    journal.save_state()
    path = closed(journal) / "journal.jsonl"
    path.write_bytes(b"torn")
    (told,) = sync(["j-1"], store=store.uri).journals
    assert "record 0 is missing" in told.pending
    assert path.exists()


def test_a_last_line_that_cannot_be_read_may_say_how_the_run_ended(store: Store) -> None:
    journal = new(store)
    journal.append(Batch(tags={keys.PROCESS: "x"}))
    path = closed(journal) / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-10] + b"damaged!!\n")
    (told,) = reconcile().delivered
    assert "1 records of" in told.pending
    assert run_of(store, "j-1").info.status == "RUNNING"


class TestState:
    """A state that cannot be trusted means: deliver all of it again."""

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "\0" * 100,
            "[]",
            "[" * 100_000,
            '{"run_id": "ab',
            '{"colour": "red"}',
            '{"run_id": 7}',
            '{"position": -1}',
            '{"position": 99}',
            '{"position": true}',
            '{"position": ' + "9" * 5000 + "}",
            '{"deferred": {"99": "why"}}',
            '{"deferred": {"-1": "why"}}',
            '{"refused": {"' + "9" * 5000 + '": "why"}}',
            '{"models": {"3": null}}',
            '{"models": []}',
            '{"position": 3, "checksum": "00000000"}',
        ],
    )
    def test_a_damaged_one_is_told_and_a_fresh_one(
        self, text: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        folder = closed(new())
        (folder / "state.json").write_text(text)
        assert Journal.open(folder).state == State()
        assert "all of it is delivered again, which changes nothing there" in caplog.text

    def test_a_flipped_bit_is_noticed(self) -> None:
        folder = closed(new())
        State("ab", "0", "/somewhere", position=3).write(folder)
        assert State.load(folder, 6) == State("ab", "0", "/somewhere", position=3)
        path = folder / "state.json"
        path.write_text(path.read_text().replace('"ab"', '"aa"'))
        assert State.read(folder) == State()

    def noted(self, function: Callable[..., Any], name: str, calls: list[str]) -> Any:
        def called(*arguments: Any) -> Any:
            calls.append(name)
            return function(*arguments)

        return called

    def test_it_is_on_the_disk_before_it_takes_its_name(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = new()
        calls: list[str] = []
        for module, name in ((os, "fsync"), (Path, "replace")):
            noted = self.noted(getattr(module, name), name, calls)
            monkeypatch.setattr(module, name, noted)
        journal.state.position = 2
        journal.save_state()
        journal.save_state()  # nothing has changed
        assert calls == ["fsync", "replace"]


def everything(store: Store, folder: Path, known: str) -> list[Record]:
    """A record of each kind, and their files."""
    from mlflow.models import Model as SavedModel

    for name in ("artifacts/1", "models/2", "checkpoint"):
        (folder / name).mkdir(parents=True)
    (folder / "artifacts/1/text.txt").write_text("text")
    (folder / "checkpoint/odd.npz").write_bytes(b"odd")
    (folder / "models/2/model.keras").write_bytes(b"keras")
    SavedModel().save(str(folder / "models/2/MLmodel"))
    dataset = {"name": "d", "digest": "1", "source_type": "local", "source": "here"}
    return [
        Dataset(dataset, "training"),
        Artifacts("artifacts/1", {"text.txt": 4}),
        KnownModel(known),
        Model(1, "models/2", 10, 0, {"p": "1"}, {"t": "1"}, {"model.keras": 5}),
        Batch((Point("test_loss", 0.5, 1, 0, of_model=True),), {"p": "1"}, {"t": "1"}),
        LinkedModels((known,)),
        Checkpoint("checkpoint/odd.npz"),
        Batch(tags={keys.ERROR: "it failed"}),
        End("FAILED", 4),
        Reopen(5, {"t": "2"}, (("loss", 1),)),
        numbered(7),
        End("FINISHED", 9),
    ]


def stored(store: Store, journal_id: str) -> dict[str, Any]:
    run = run_of(store, journal_id)
    points = {
        key: [(p.step, p.value, p.timestamp) for p in client_history(store, run.info.run_id, key)]
        for key in run.data.metrics
    }
    models = store.client.search_logged_models(["0"])
    return {
        "info": {**dict(run.info), "artifact_uri": ""},
        "data": (run.data.params, run.data.tags, points),
        "inputs": run.inputs and run.inputs.to_dictionary(),
        "outputs": run.outputs and run.outputs.to_dictionary(),
        "models": [(m.model_id, str(m.status), m.params, m.tags, m.metrics) for m in models],
    }


def client_history(store: Store, run_id: str, key: str) -> list[Any]:
    return list(store.client.get_metric_history(run_id, key))


def test_starting_over_changes_nothing_whatever_the_kind(store: Store, tmp_path: Path) -> None:
    known = store.client.create_logged_model("0", name="known").model_id
    journal = new(store)
    for record in everything(store, journal.folder, known):
        journal.append(record)
    kept = tmp_path / "kept"
    shutil.copytree(closed(journal), kept)
    (done,) = sync().journals
    assert (done.pending, done.records) == ("", 18)
    expected = stored(store, "j-1")
    assert expected["info"]["status"] == "FINISHED"
    assert keys.ERROR not in expected["data"][1]
    assert len(expected["models"]) == 2
    for text in (None, "", '{"position": 99}'):
        shutil.copytree(kept, journal.folder)
        if text is not None:
            (journal.folder / "state.json").write_text(text)
        (done,) = sync().journals
        assert (done.pending, done.records) == ("", 18)
        assert json.dumps(stored(store, "j-1"), default=str) == json.dumps(expected, default=str)
        assert not journal.folder.exists()


@pytest.mark.parametrize(
    "missing",
    [
        *("artifacts/1", "artifacts/1/text.txt", "checkpoint/odd.npz"),
        *("models/2", "models/2/MLmodel", "models/2/model.keras"),
    ],
)
def test_missing_files_are_told_and_kept(store: Store, missing: str) -> None:
    known = store.client.create_logged_model("0", name="known").model_id
    journal = new(store)
    for record in everything(store, journal.folder, known):
        journal.append(record)
    path = closed(journal) / missing
    path.rename(path.with_name("away"))
    (told,) = sync().journals
    assert f"{path.name}' is missing in" in told.pending
    assert f"; they are kept in {journal.folder}" in told.pending
    assert run_of(store, "j-1").data.metrics["m7"] == 7
    assert run_of(store, "j-1").info.status == "FINISHED"
    assert len(store.client.search_logged_models(["0"])) == 1 + ("models" not in missing)
    path.with_name("away").rename(path)
    assert sync().complete
    assert not journal.folder.exists()


def test_a_file_of_another_size_is_told(store: Store) -> None:
    journal = new(store)
    (journal.folder / "artifacts/1").mkdir(parents=True)
    for name in ("cut.txt", "whole.txt"):
        (journal.folder / "artifacts/1" / name).write_text("te")
    journal.append(Artifacts("artifacts/1", {"cut.txt": 4, "whole.txt": 2}))
    closed(journal)
    (told,) = sync().journals
    assert "'cut.txt' in" in told.pending
    assert "has 2 bytes and had 4" in told.pending
    found = store.client.list_artifacts(run_of(store, "j-1").info.run_id)
    assert "whole.txt" in [each.path for each in found]


def test_what_the_store_refused_is_not_forgotten_when_it_goes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = new(store, batches=1)
    journal.append(Batch((Point("bad\nname", 1.0, 1, 0),)))
    closed(journal)
    for _ in range(2):
        (told,) = sync().journals
        assert "1 records of run" in told.pending
        assert "were refused" in told.pending

    def away(*_: object, **__: object) -> None:
        raise StoreUnavailableError("it is away")

    with monkeypatch.context() as patched:
        patched.setattr(remote_run.RemoteRun, "log", away)
        (told,) = sync().journals
    assert "(it is away)" in told.pending
    (told,) = sync().journals
    assert "were refused" in told.pending
    assert journal.folder.exists()


class TestRemoval:
    """A journal is removed all at once: nobody ever meets half of one."""

    @pytest.mark.parametrize("survives", range(3))
    def test_that_is_cut_off(
        self, store: Store, monkeypatch: pytest.MonkeyPatch, survives: int
    ) -> None:
        known = store.client.create_logged_model("0", name="known").model_id
        journal = new(store)
        for record in everything(store, journal.folder, known):
            journal.append(record)
        delivery = Delivery(journal, store.uri)
        delivery.final = True
        delivery.deliver()
        assert delivery.complete
        steps = iter(range(survives))

        def killed(original: Callable[..., None]) -> Callable[..., None]:
            def step(*arguments: Any, **more: Any) -> None:
                if next(steps, None) is None:
                    raise KeyboardInterrupt
                original(*arguments, **more)

            return step

        with monkeypatch.context() as patched:
            patched.setattr(shutil, "rmtree", killed(shutil.rmtree))
            patched.setattr(Path, "rename", killed(Path.rename))
            patched.setattr(Path, "unlink", killed(Path.unlink))
            with pytest.raises(KeyboardInterrupt):
                journal.remove()
        journal.close()
        before = stored(store, "j-1")
        assert sync().complete
        assert stored(store, "j-1") == before
        assert [*journal.folder.parent.iterdir()] == []

    def test_the_file_is_closed_and_the_lock_is_held(self, monkeypatch: pytest.MonkeyPatch) -> None:
        journal = new()
        file = journal._file
        assert file is not None
        seen: list[tuple[bool, bool]] = []
        rename = Path.rename

        def look(path: Path, target: Path) -> Path:
            seen.append((file.closed, FileLock(path / "lock").is_held()))
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", look)
        journal.remove()
        assert seen == [(True, True)]
        assert not journal.folder.exists()

    def test_one_that_waited_for_its_lock_finds_nothing(self, root: Path) -> None:
        folder = closed(new())
        (folder / "journal.jsonl").unlink()
        waiting = Journal(folder)
        with pytest.raises(FileNotFoundError):
            waiting._open()
        assert not folder.exists()


def test_a_short_campaign(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_EXPERIMENT_ID", "FM_MLFLOW_JOURNAL_DIR"):
        monkeypatch.setenv(name, "")  # so that what it sets is taken back
    before, level = mlflow.get_tracking_uri(), logging.root.manager.disable
    try:
        rows = campaign(20, seed=7, parts="journals")
    finally:
        mlflow.set_tracking_uri(before)
        logging.disable(level)
    assert {row["kind"] for row in rows} == {f"journal: {kind}" for kind in KINDS}
    for row in rows:
        assert row["escaped"] == [], row
        assert row["complete"] + row["refused"] == row["inputs"] > 0
