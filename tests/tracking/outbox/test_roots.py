"""Whose journals are used, for which store, and what of a journal is sent: nobody else's."""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import sqlite3
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fm_mlflow import InputError, TrackingError, keys, reconcile, resume, sync
from fm_mlflow.process import atomic_file
from fm_mlflow.tracking.outbox import roots
from fm_mlflow.tracking.outbox.journal import Journal, is_in_use, journals, open_journal
from fm_mlflow.tracking.outbox.records import Artifacts, Batch, Checkpoint, End, Model, RunStart
from fm_mlflow.tracking.outbox.state import State
from fm_mlflow.tracking.resumption import resumable
from fm_mlflow.tracking.run import TrackedRun
from fm_mlflow.tracking.store import prepare
from tests.stores import Store, active_store, make_store

SECRET = "ssh-rsa of the user"
VARIABLE = "FM_MLFLOW_JOURNAL_DIR"

posix = pytest.mark.skipif(os.name != "posix", reason="Windows keeps permissions elsewhere")
as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a folder away"
)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "journals"
    monkeypatch.setenv(VARIABLE, str(folder))
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, and no variable that says where the journals are."""
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    monkeypatch.setenv(VARIABLE, "")  # so that what a fallback sets is taken back
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return home


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret" / "id_rsa"
    path.parent.mkdir()
    path.write_text(SECRET)
    return path


def new(uri: str = "sqlite:///here.db", name: str = "j-1") -> Journal:
    header = RunStart(uri, None, True, "a run", 1, None, None, {keys.KIND: "training"})
    return Journal.create(name, header)


def ended(uri: str, *records: Any, name: str = "j-1") -> Path:
    """A journal of a run that has ended, closed."""
    journal = new(uri, name)
    for record in (*records, End("FINISHED", 2)):
        journal.append(record)
    journal.close()
    return journal.folder


def artifacts_of(store: Store) -> dict[str, str]:
    """All files that a store has, by the last part of their paths."""
    files = [path for path in (store.folder / "mlruns").rglob("*") if path.is_file()]
    return {path.name: path.read_text() for path in files}


class TestRoot:
    """The folder of all journals."""

    def test_it_follows_the_state_directory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(VARIABLE)
        monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
        assert str(roots.journal_root()) == "/var/state/fm_mlflow/journal"
        monkeypatch.setenv("XDG_STATE_HOME", "state")  # which the standard has ignored
        monkeypatch.setenv("HOME", "/home/ann")
        assert str(roots.journal_root()) == "/home/ann/.local/state/fm_mlflow/journal"

    def test_the_working_directory_does_not_count(
        self, store: Store, root: Path, home: Path
    ) -> None:
        """A cloned project brings a journal and a store."""
        folder = ended(store.uri)
        there = store.folder / ".fm_mlflow" / "journal" / folder.name
        there.parent.mkdir(parents=True)
        shutil.move(next(home.rglob("j-1")), there)
        before = {path: path.stat().st_mtime_ns for path in there.rglob("*")}
        assert sync().journals == []
        assert reconcile().delivered == []
        assert open_journal(folder.name) is None
        assert {path: path.stat().st_mtime_ns for path in there.rglob("*")} == before
        assert store.client.search_runs(["0"]) == []

    @pytest.mark.parametrize(
        "name", ["journals", "./journals", "../journals", "~no-such-user/journals"]
    )
    def test_a_variable_that_depends_on_the_working_directory_is_refused(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv(VARIABLE, name)
        for use in (new, sync, lambda: open_journal("j-1"), roots.lock_folder):
            with pytest.raises(InputError, match=f"{VARIABLE}: received '{name}', accepted: the"):
                use()
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            (lambda root: root.rename(f"{root}-moved"), ""),
            (lambda root: _link(root, root.parent), "it is a link"),
            (lambda root: root.rename(f"{root}-moved") and root.touch(), "it is not a folder"),
            pytest.param(lambda root: root.chmod(0o777), r"others \(`chmod go-w", marks=posix),
            pytest.param(lambda root: root.chmod(0o1777), "can be written by", marks=posix),
            pytest.param(lambda root: root.chmod(0o770), "can be written by", marks=posix),
            pytest.param(
                lambda root: os.chown(root, 12345, -1),
                r"belongs to another user \(uid 12345\)",
                marks=as_root,
            ),
        ],
        ids=["gone", "link", "file", "0777", "1777", "0770", "owner"],
    )
    def test_one_that_others_can_write_is_refused(
        self, root: Path, spoil: Callable[[Path], Any], reason: str
    ) -> None:
        ended("sqlite:///here.db")
        spoil(root)
        if not reason:  # as before the first run
            assert sync().journals == []
            assert roots.lock_folder() == root
            return
        for use in (sync, reconcile, new, lambda: resume("j-1"), roots.lock_folder):
            with pytest.raises(InputError, match=reason):
                use()

    @posix
    def test_what_is_made_is_for_this_user_alone(self, root: Path) -> None:
        before = os.umask(0)
        try:
            journal = new()
        finally:
            os.umask(before)
        assert stat.S_IMODE(root.stat().st_mode) == 0o700
        assert stat.S_IMODE(journal.folder.stat().st_mode) == 0o700
        journal.close()

    @posix
    def test_one_of_an_earlier_version_is_closed_to_others(self, home: Path) -> None:
        root = home / ".local" / "state" / "fm_mlflow" / "journal"
        root.mkdir(parents=True)
        root.chmod(0o775)  # a umask of 002
        journal = new()
        assert journal.folder.parent == root
        assert stat.S_IMODE(root.stat().st_mode) == 0o700
        journal.close()

    def test_a_variable_that_cannot_be_written(self, tmp_path: Path, monkeypatch: Any) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setattr(Path, "mkdir", _no_room)
        with pytest.raises(TrackingError, match=f"No space left.*set {VARIABLE} to a folder that"):
            new()


def _link(folder: Path, place: Path) -> None:
    folder.symlink_to(folder.rename(place / "moved"))


def _no_room(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


class TestFallback:
    """A home that cannot be written."""

    @pytest.fixture(params=["file", "link"])
    def spoilt(self, request: pytest.FixtureRequest, home: Path, tmp_path: Path) -> Path:
        root = home / ".local" / "state" / "fm_mlflow" / "journal"
        if request.param == "file":
            (home / ".local").write_text("a file, not a folder")
        else:
            root.parent.mkdir(parents=True)
            root.symlink_to(tmp_path)
        return home

    def test_it_is_a_new_folder_that_the_variable_names(
        self, spoilt: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        planted = tmp_path / "temporary" / "fm_mlflow-journals-planted" / "j-2"
        planted.mkdir(parents=True)
        (planted / "journal.jsonl").write_text("planted")
        journal = new()
        fallback = journal.folder.parent
        assert fallback.parent == tmp_path / "temporary"
        assert os.environ[VARIABLE] == str(fallback)
        (told,) = caplog.messages
        assert f"`fm-mlflow sync` and `resume` find it with {VARIABLE}={fallback}" in told
        assert roots.sync_command() == f"{VARIABLE}={fallback} fm-mlflow sync"
        assert list(journals()) == [journal.folder]
        second = new(name="j-3")  # the folder is made, and told, once
        assert second.folder.parent == roots.lock_folder() == fallback
        assert len(caplog.messages) == 1
        if os.name == "posix":
            assert stat.S_IMODE(fallback.stat().st_mode) == 0o700
        journal.close()
        second.close()

    def test_a_later_process_finds_nothing_by_its_place(
        self, spoilt: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = new()
        journal.close()
        monkeypatch.setenv(VARIABLE, "")
        with pytest.raises(TrackingError, match=f"set {VARIABLE} to another folder"):
            list(journals())
        assert not is_in_use("j-1")

    def test_nothing_can_be_written(
        self, spoilt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
        with pytest.raises(TrackingError, match=f"set {VARIABLE} to a folder that can"):
            new()
        assert os.environ[VARIABLE] == ""
        assert roots.sync_command() == "fm-mlflow sync"


class TestJournal:
    """One journal among others: told in one line, left as it is, the others delivered."""

    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            (lambda folder: _link(folder, folder.parents[1]), "it is a link"),
            (lambda folder: (folder / "state.json").symlink_to("/etc/passwd"), "holds a link"),
            (lambda folder: (folder / "crash.txt").symlink_to("/etc/passwd"), "holds a link"),
            (lambda folder: (folder / "checkpoint").symlink_to("/etc"), "holds a link"),
            (lambda folder: os.mkfifo(folder / "crash.txt"), "holds crash.txt, which is no file"),
            pytest.param(
                lambda folder: os.chown(folder / "journal.jsonl", 12345, -1),
                r"holds another user's file: journal.jsonl (uid 12345)",
                marks=as_root,
            ),
            (lambda folder: folder.rename(folder.with_name("j-1' OR ''='")), "has a name"),
            pytest.param(lambda folder: folder.chmod(0o777), "written by others", marks=posix),
            pytest.param(lambda folder: folder.chmod(0o720), "written by others", marks=posix),
            pytest.param(
                lambda folder: os.chown(folder, 12345, -1), "to another user", marks=as_root
            ),
        ],
        ids=[
            "link",
            "state",
            "crash",
            "checkpoint",
            "pipe",
            "file",
            "name",
            "0777",
            "0720",
            "owner",
        ],
    )
    def test_one_that_is_not_this_users_alone(
        self,
        store: Store,
        root: Path,
        spoil: Callable[[Path], Any],
        reason: str,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        spoilt = ended(store.uri, Batch(tags={"a": "b"}))
        ended(store.uri, name="j-2")
        spoil(spoilt)
        done = {each.journal_id: each for each in sync().journals}
        assert done.pop("j-2").pending == ""
        (told,) = done.values()
        assert reason in told.pending
        assert "is left alone" in told.pending
        assert "\n" not in told.pending
        assert len(store.client.search_runs(["0"])) == 1
        assert open_journal(told.journal_id) is None
        assert caplog.messages == [told.pending]
        assert sync([told.journal_id]).journals == [told]

    @pytest.mark.parametrize("mode", [0o000, 0o300])
    def test_one_that_cannot_be_looked_into(
        self, store: Store, root: Path, mode: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spoilt, _ = ended(store.uri), ended(store.uri, name="j-2")
        spoilt.chmod(mode)
        if os.geteuid() == 0:  # who can look into any
            real = Path.iterdir

            def refused(path: Path) -> Iterator[Path]:
                if path == spoilt:
                    raise PermissionError(errno.EACCES, "Permission denied")
                return real(path)

            monkeypatch.setattr(Path, "iterdir", refused)
        done = {each.journal_id: each.pending for each in reconcile().delivered}
        says = f"the journal {spoilt} is left alone: it cannot be looked into (Permission denied)"
        assert done == {"j-1": says, "j-2": ""}

    def test_nobody_takes_it_while_it_is_made(
        self, store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A `sync` beside it delivered and removed it, and the run could not begin."""
        real, seen = atomic_file.sync_to_disk, []

        def slow(path: Path) -> None:
            real(path)
            if path.is_dir():
                seen.append(sync())

        monkeypatch.setattr(atomic_file, "sync_to_disk", slow)
        journal = new(store.uri)
        assert [each.in_use for each in seen if each.in_use] == [["j-1"]]
        assert not any(each.journals for each in seen)
        assert journal.header.name == "a run"
        journal.close()

    def test_a_lock_that_is_a_link(self, store: Store, secret: Path) -> None:
        folder = ended(store.uri)
        (folder / "lock").symlink_to(secret)
        (told,) = sync().journals
        assert "holds a link: lock" in told.pending
        assert secret.read_text() == SECRET

    def test_a_lock_for_the_store_is_in_the_root(
        self, store: Store, root: Path, secret: Path
    ) -> None:
        """It was beside the root, where others may write: in the folder for temporary files."""
        made = set[str]()
        real = os.open

        def spy(path: Any, *arguments: Any, **more: Any) -> int:
            if str(path).endswith(".lock"):
                made.add(str(Path(path).parent))
            return real(path, *arguments, **more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "open", spy)
            prepare(store.uri, roots.lock_folder())
            with pytest.raises(InputError), resumable("../" * 9 + "x" * 300):
                pytest.fail("there is no such run")
        assert made == {str(root)}
        assert list(root.iterdir()) == []


LEADS_OUT = [
    "../secret",
    "artifacts/../../../secret",
    "{secret}",
    "artifacts/1/../../../../secret",
    "artifacts\\..\\..\\secret",
    "artifacts/./1",
    "artifacts//1",
    "artifacts/1\0",
    "C:/secret",
    "~/secret",
    "",
    ".",
    "..",
    7,
    None,
]


class TestPaths:
    """What a record names is within its journal, or is not sent."""

    @pytest.mark.parametrize("name", LEADS_OUT, ids=repr)
    def test_a_name_that_leads_out(self, store: Store, secret: Path, name: Any) -> None:
        name = name.format(secret=secret.parent) if isinstance(name, str) else name
        file = f"{name}/id_rsa" if isinstance(name, str) else name
        records = [Artifacts(name), Checkpoint(file), Model(1, name, 1, 0, {}, {})]
        folder = ended(store.uri, *records, Batch(tags={"last": "one"}))
        (folder / "artifacts" / "1").mkdir(parents=True)
        (told,) = sync().journals
        assert "3 records of" in told.pending
        reasons = ("is not the path of a file in a journal", "Input should be an instance of str")
        assert any(reason in told.pending for reason in reasons)
        assert artifacts_of(store) == {}
        assert store.only_run().data.tags["last"] == "one"  # the rest is delivered
        assert store.only_run().info.status == "FINISHED"
        assert folder.exists()
        assert secret.read_text() == SECRET
        assert store.client.search_logged_models(["0"]) == []

    @pytest.mark.parametrize(
        "link",
        [
            lambda folder, secret: (folder / "artifacts").symlink_to(secret.parent.parent),
            lambda folder, secret: _made(folder / "artifacts" / "secret").symlink_to(secret.parent),
            lambda folder, secret: _made(folder / "artifacts" / "secret" / "x").symlink_to(secret),
            lambda folder, secret: _made(folder / "artifacts" / "secret" / "y" / "z").symlink_to(
                secret.parent
            ),
            lambda folder, _secret: os.mkfifo(_made(folder / "artifacts" / "secret" / "pipe")),
        ],
        ids=["of all", "folder", "file within", "folder within", "pipe"],
    )
    def test_a_link_that_leads_out(
        self, store: Store, secret: Path, link: Callable[[Path, Path], Any]
    ) -> None:
        folder = ended(store.uri, Artifacts("artifacts/secret"))
        link(folder, secret)
        (told,) = sync().journals
        assert "is a link" in told.pending or "holds a link" in told.pending
        assert artifacts_of(store) == {}

    def test_a_model_whose_description_is_a_link(self, store: Store, secret: Path) -> None:
        """The file is signed before it is sent: what it led to was overwritten."""
        folder = ended(store.uri, Model(1, "models/1", 1, 0, {}, {}))
        _made(folder / "models" / "1" / "MLmodel").symlink_to(secret)
        (told,) = sync().journals
        assert "is a link" in told.pending
        assert secret.read_text() == SECRET

    def test_a_run_whose_model_leads_out_is_not_resumed(self, store: Store) -> None:
        folder = ended(store.uri, Model(1, "../secret", 1, 0, {}, {}))
        before = (folder / "journal.jsonl").read_bytes()
        with pytest.raises(TrackingError, match="is not the path of a file in a journal"):
            resume("j-1")
        assert (folder / "journal.jsonl").read_bytes() == before

    def test_a_running_run_sends_no_link_either(self, store: Store, secret: Path) -> None:
        with TrackedRun("training", "a run", flush_timeout=5) as run:
            with run.artifacts() as folder:
                (folder / "key").symlink_to(secret)
            run.log_metrics({"after": 1.0})
        assert "is a link" in run.pending
        assert (store.only_run().data.metrics, artifacts_of(store)) == ({"after": 1.0}, {})

    def test_what_is_within_is_sent(self, store: Store) -> None:
        folder = ended(store.uri, Artifacts("artifacts/1"), Checkpoint("checkpoint/even.npz"))
        _made(folder / "artifacts" / "1" / "..odd ü\\name" / "x").write_text("deep")
        _made(folder / "checkpoint" / "even.npz").write_text("weights")
        assert sync().complete
        assert artifacts_of(store) == {"x": "deep", "even.npz": "weights"}


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


class Listener:
    """A server that notes what is asked of it, and with which password."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        heard = self.requests

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                heard.append(str(self.rfile.readline()))
                self.close_connection = True

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()
        self.uri = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "longtoken")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    made = Listener()
    yield made
    made.close()


class TestStore:
    """A journal is for the store that this environment names, or a command line does."""

    @pytest.mark.parametrize("state", [State(), State("r1", "0", "file:///", position=1)])
    def test_nothing_is_asked_of_another(
        self, store: Store, listener: Listener, state: State
    ) -> None:
        folder = ended(listener.uri, Artifacts("artifacts/1"))
        _made(folder / "artifacts" / "1" / "a.txt").write_text("a")
        state.write(folder)
        contents = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        changed = (folder / "journal.jsonl").stat().st_mtime_ns
        (told,) = sync().journals
        command = f"`fm-mlflow sync --store {listener.uri} j-1`"
        assert f"belongs to the store {listener.uri}, and this environment names" in told.pending
        assert command in told.pending
        assert reconcile().delivered == [told]
        for run_id in filter(None, ("j-1", state.run_id)):
            command = f"`fm-mlflow resume --store {listener.uri} {run_id}`"
            with pytest.raises(TrackingError, match=re.escape(command)):
                resume(run_id)
        assert listener.requests == []
        # When the run was last alive is what its last change says.
        assert (folder / "journal.jsonl").stat().st_mtime_ns == changed
        assert contents == {path: path.read_bytes() for path in contents}
        sync(["j-1"], store=listener.uri)
        assert listener.requests  # now it was named

    @pytest.mark.parametrize("uri", ["databricks", "http://a\nb", "", "--debug", "$(reboot)", 7])
    def test_a_name_that_is_no_address(self, store: Store, uri: Any) -> None:
        ended(uri)
        (told,) = sync().journals
        reasons = ("belongs to the store", "names no store", "the journal's first line is damaged")
        assert any(reason in told.pending for reason in reasons)
        assert "\n" not in told.pending
        assert "--store $(" not in told.pending

    def test_a_slash_at_the_end_changes_nothing(self, listener: Listener) -> None:
        ended(f"{listener.uri}/")
        with active_store(Store(listener.uri, Path())):
            assert "belongs to the store" not in sync().journals[0].pending
        assert listener.requests

    def test_the_default_store_of_another_folder(
        self, store_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each folder has its own; the command in the line delivers from anywhere."""
        here, there = tmp_path / "here", tmp_path / "it's there"
        for folder in (here, there):
            folder.mkdir()
            make_store(store_template, folder)
        uri = f"sqlite:///{there}/mlflow.db"
        ended(uri)
        ended(uri, name="j-2")
        with active_store(Store("sqlite:///mlflow.db", here)):
            monkeypatch.chdir(here)
            told = sync().journals
            assert len(told) == 2
            command = re.search("`(.*)`", told[0].pending)
            assert command is not None
            expected = ["fm-mlflow", "sync", "--store", uri, told[0].journal_id]
            assert shlex.split(command[1]) == expected
            (done,) = sync([told[0].journal_id], store=uri).journals
            assert done.pending == ""
            monkeypatch.chdir(there)
            (done,) = sync().journals
            assert done.pending == ""
        assert len(Store(uri, there).client.search_runs(["0"])) == 2

    def test_a_store_that_is_named_gets_its_own_journals_only(
        self, store: Store, store_template: Path, tmp_path: Path
    ) -> None:
        """The journals of all other stores were delivered there, and removed."""
        other = make_store(store_template, _made(tmp_path / "other" / "x").parent)
        ended(store.uri)
        ended(other.uri, name="j-2")
        done = {each.journal_id: each.pending for each in sync(store=other.uri).journals}
        assert done.pop("j-2") == ""
        assert f"and --store names {other.uri}; if you trust it: `fm-mlflow sync" in done["j-1"]
        assert len(other.client.search_runs(["0"])) == 1

    def test_a_working_directory_that_is_gone(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It was "nothing is pending"."""
        ended(store.uri)
        (tmp_path / "gone").mkdir()
        monkeypatch.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        with active_store(Store("sqlite:///mlflow.db", tmp_path)):
            (told,) = sync().journals
            assert "No such file or directory" in told.pending
        monkeypatch.chdir(tmp_path)
        assert sync().complete

    def test_a_foreign_stores_place_for_artifacts(
        self, store: Store, store_template: Path, tmp_path: Path, secret: Path
    ) -> None:
        """It said `file:` and a folder of the home, whose files were overwritten."""
        foreign = make_store(store_template, _made(tmp_path / "foreign" / "x").parent)
        with sqlite3.connect(foreign.folder / "mlflow.db") as connection:
            place = secret.parent.as_uri()
            connection.execute("UPDATE experiments SET artifact_location = ?", [place])
        folder = ended(foreign.uri, Artifacts("artifacts/1"))
        _made(folder / "artifacts" / "1" / "id_rsa").write_text("another's")
        State(artifact_uri=place).write(folder)
        (told,) = sync().journals
        assert "belongs to the store" in told.pending
        assert [path.name for path in secret.parent.rglob("*")] == ["id_rsa"]
        # In a store that is named, what the journal's state says of the place does not count.
        (done,) = sync(["j-1"], store=store.uri).journals
        assert done.pending == ""
        assert artifacts_of(store) == {"id_rsa": "another's"}
        assert secret.read_text() == SECRET
