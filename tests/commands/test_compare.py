"""From real stores of simulated runs to the report."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

import fm_mlflow
from fm_mlflow import ComparisonError, InputError, TrackingError, compare, keys
from fm_mlflow.analysis.objective import DEFAULT, Objective
from fm_mlflow.analysis.records import RunDetails, TrainingRun
from fm_mlflow.commands import compare as comparing
from fm_mlflow.commands.compare import choose
from fm_mlflow.listeners import ProgressListener
from fm_mlflow.registration.seeds import over_examples
from fm_mlflow.results.compare import CompareResult
from fm_mlflow.settings.selection import Choice
from fm_mlflow.tracking import run_details
from tests.limits import largest_file
from tests.outages import Line, Way
from tests.processes import command_in_this_process
from tests.simulated import Simulated, log_run
from tests.stores import Store, active_store, make_store

FILES = {"report.html", "report.md", "comparison.csv", "comparison.json"}
GAP = [
    Simulated(model, seed, accuracy + seed / 1000)
    for model, accuracy in (("mlp", 0.87), ("cnn", 0.90))
    for seed in range(5)
]


def fill(store: Store, runs: list[Simulated]) -> list[str]:
    return [log_run(store.client, run) for run in runs]


@dataclass(frozen=True)
class Compared:
    """The store of ten runs that several tests look at, and what comparing them returned."""

    store: Store
    run_ids: list[str]
    result: CompareResult
    folder: Path


@contextmanager
def drawn(plots: dict[str, Any]) -> Iterator[None]:
    """Have reports all their plots."""
    with pytest.MonkeyPatch.context() as patch:
        for place, draw in plots.items():
            patch.setattr(place, draw)
        yield


@pytest.fixture(scope="module")
def compared(
    store_template: Path,
    tmp_path_factory: pytest.TempPathFactory,
    plots_of_reports: dict[str, Any],
) -> Compared:
    store = make_store(store_template, tmp_path_factory.mktemp("compared"))
    run_ids = fill(store, GAP)
    with active_store(store), drawn(plots_of_reports):
        result = compare(output=str(store.folder / "out"))
    return Compared(store, run_ids, result, store.folder / "out")


def document(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "comparison.json").read_text())
    return loaded


def test_the_report_of_two_models(compared: Compared) -> None:
    comparison = compared.result.comparison
    assert comparison.best.model == "cnn"
    assert comparison.best.run_id == compared.run_ids[-1]
    assert set(compared.result.files) == FILES

    contents = document(compared.folder)
    assert {model["model"]: len(model["run_ids"]) for model in contents["models"]} == {
        "cnn": 5,
        "mlp": 5,
    }
    accuracy = contents["models"][0]["metrics"][keys.TEST_ACCURACY]
    assert accuracy["n"] == 5
    assert accuracy["mean"] == pytest.approx(0.902)
    verdict = contents["verdicts"][0]
    assert {verdict["a"], verdict["b"]} == {"cnn", "mlp"}
    assert verdict["metric"] == keys.TEST_ACCURACY
    assert verdict["verdict"] == ("a_better" if verdict["a"] == "cnn" else "b_better")
    assert verdict["p_value"] == pytest.approx(2 / 252)
    # 4 times the parameters, a third of the arithmetic: neither dominates.
    assert set(contents["pareto"][keys.FLOPS_INFERENCE]) == {"mlp", "cnn"}
    assert contents["pareto"][keys.PARAMETERS_TRAINABLE] == ["cnn"]

    with (compared.folder / "comparison.csv").open() as file:
        assert [row["Model"] for row in csv.DictReader(file)] == ["cnn", "mlp"]


def test_the_run_that_holds_the_report(compared: Compared) -> None:
    store, result = compared.store, compared.result
    run = store.client.get_run(result.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags[keys.KIND] == keys.KIND_COMPARISON
    assert run.data.tags[keys.COMPARED_RUNS] == "10"
    assert run.data.tags[keys.BEST_RUN] == compared.run_ids[-1]
    assert {file.path for file in store.client.list_artifacts(result.run_id)} == FILES
    for name in FILES:
        logged = Path(store.client.download_artifacts(result.run_id, name))
        assert logged.read_bytes() == Path(result.files[name]).read_bytes()


def test_same_store_same_bytes(
    compared: Compared, tmp_path: Path, plots_of_reports: dict[str, Any]
) -> None:
    with active_store(compared.store), drawn(plots_of_reports):
        again = compare(output=str(tmp_path))
    for name in FILES:
        assert Path(again.files[name]).read_bytes() == (compared.folder / name).read_bytes()


def test_adding_seeds_until_it_is_significant_is_told(store: Store) -> None:
    fill(store, [run for run in GAP if run.seed < 3])
    assert not any("fewer seeds" in each for each in compare(output="a").comparison.warnings)
    fill(store, [run for run in GAP if run.seed >= 3])
    found = [compare(output=name).comparison.warnings for name in "bc"]
    assert "compared before with fewer seeds, in 1 way" in found[0][0]
    assert found[0] == found[1]


def test_the_gate_of_a_promotion_compares_seeds_as_the_report_does(compared: Compared) -> None:
    runs = [run for group in compared.result.comparison.groups for run in group.runs]
    cnn, mlp = ([run for run in runs if run.model == model] for model in ("cnn", "mlp"))
    found = over_examples(mlp, cnn, DEFAULT)
    assert found is not None
    assert found.counts_examples
    verdict = compared.result.comparison.verdicts[0]
    assert verdict.ci_low is not None
    assert found.difference == pytest.approx(-verdict.difference)
    assert found.interval.high == pytest.approx(-verdict.ci_low, rel=0.1)
    assert over_examples(cnn, cnn, DEFAULT) is None
    assert over_examples(cnn[:1], mlp, DEFAULT) is None


def test_nothing_to_compare(store: Store) -> None:
    with pytest.raises(
        ComparisonError, match="nothing to compare: 'Default' has no finished"
    ) as no:
        compare(output="out")
    assert f", in {store.uri};" in str(no.value)  # a wrong folder has a store of its own
    fill(store, [Simulated(status="FAILED", tags={keys.ERROR: "no memory"})])
    with pytest.raises(ComparisonError, match="1 run skipped, 1 because: it ended as FAILED: no m"):
        compare(output="out")
    assert not Path("out").exists()
    assert len(store.client.search_runs(["0"])) == 1


@pytest.mark.parametrize(
    ("runs", "best"),
    [
        ([Simulated("cnn")], "cnn"),
        ([Simulated("cnn", seed=seed) for seed in range(3)], "cnn"),
        # So few images do not tell these apart: the cheaper one.
        ([Simulated("cnn"), Simulated("mlp", accuracy=0.88)], "mlp"),
        ([Simulated("cnn", predictions=False), Simulated("mlp", predictions=False)], "mlp"),
        ([Simulated("cnn"), Simulated("mlp", accuracy=0.7)], "cnn"),
    ],
    ids=["one run", "one model", "one run each", "no predictions", "far apart"],
)
def test_little_to_compare_is_said(store: Store, runs: list[Simulated], best: str) -> None:
    fill(store, runs)
    result = compare(output="out")
    assert result.comparison.best.model == best
    assert {path.name for path in Path("out").iterdir()} == FILES


def test_hostile_names_are_shown_not_run(store: Store) -> None:
    hostile = "<script>alert('x')</script>|[red]*_`$x^2$"
    fill(store, [Simulated(hostile, name=hostile), Simulated("mlp", name=hostile)])
    fill(store, [Simulated(name=hostile, status="FAILED", tags={keys.ERROR: hostile})])
    compare(output="out")
    page = Path("out/report.html").read_text()
    assert page.count("<script") == 1  # its own
    assert "&lt;script&gt;" in page
    code = re.compile(r"^    .*$", re.MULTILINE)  # shown as it is
    text = code.sub("", Path("out/report.md").read_text())
    assert re.search(r"(?<!\\)<script", text) is None
    assert hostile in {model["model"] for model in document(Path("out"))["models"]}


def test_deleted_artifacts_are_a_warning(store: Store) -> None:
    fill(store, GAP[4:6])
    for folder in (store.folder / "mlruns" / "0").iterdir():
        shutil.rmtree(folder / "artifacts")
    result = compare(output="out")
    assert any("cannot be read" in warning for warning in result.comparison.warnings)


def test_an_output_that_is_a_file_is_refused(store: Store) -> None:
    fill(store, GAP[4:6])
    Path("out").write_text("mine")
    with pytest.raises(InputError, match="output"):
        compare(output="out")
    assert Path("out").read_text() == "mine"


def test_a_full_disk_leaves_the_report_before_and_nothing_else(store: Store) -> None:
    fill(store, GAP[4:6])
    compare(output="out")
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    fill(store, [Simulated("mlp", seed=9)])
    sizes = sorted(len(text) for text in before.values())
    with largest_file(sizes[-1] - 1000), pytest.raises(ComparisonError, match="cannot write"):
        compare(output="out")
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before
    with largest_file(sizes[-1] - 1000), pytest.raises(ComparisonError, match="cannot write"):
        compare(output="new")
    assert not Path("new").exists()


class CutsAt(ProgressListener):
    """Cuts the way to the server when a stage begins."""

    def __init__(self, line: Line, stage: str) -> None:
        self._line, self._stage = line, stage

    @override
    def stage(self, text: str) -> None:
        if text.startswith(self._stage):
            self._line.set(Way.CUT)


@pytest.mark.parametrize("stage", ["reading", "writing"])
def test_a_store_that_goes_away(
    server: Store, stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("FM_MLFLOW_JOURNAL_DIR", str(tmp_path / "journals"))
    monkeypatch.setattr(comparing, "_FLUSH_SECONDS", 0)
    name = f"goes away {stage}"
    experiment = server.client.create_experiment(name)
    for run in (Simulated("cnn"), Simulated("mlp")):
        log_run(server.client, run, experiment)
    with closing(Line(server)) as line, active_store(line.store(server)):
        refused = pytest.raises(TrackingError, match=line.uri)
        with refused if stage == "reading" else nullcontext():
            compare(experiment=name, output=str(tmp_path / "out"), progress=CutsAt(line, stage))
    # What was computed is not lost with the store: the report is written, its run has a journal.
    assert (tmp_path / "out" / "report.html").exists() == (stage == "writing")
    assert len(list((tmp_path / "journals").glob("j-*"))) == (stage == "writing")
    assert len(server.client.search_runs([experiment])) == 2


def test_choosing_follows_the_report(compared: Compared) -> None:
    best = compared.result.comparison.best
    with active_store(compared.store):
        run, reason = choose(Choice())
        assert run.run_id == best.run_id
        assert reason == best.reason
        with pytest.raises(ComparisonError, match="no model qualifies"):
            choose(Choice(max_parameters=1))


@pytest.mark.parametrize(("name", "said"), [("digits", "digits"), ("", "fashion_mnist, data e{8}")])
def test_choosing_names_the_data_sets_that_are_left_out(store: Store, name: str, said: str) -> None:
    other = Simulated(
        accuracy=0.99,
        tags={keys.DATASET_DIGEST: "e" * 64},
        params={"dataset": name} if name else {},
        predictions=False,
    )
    fill(store, [Simulated(predictions=False), Simulated(seed=1, predictions=False), other])
    run, reason = choose(Choice())
    assert run.data_digest == "d" * 64
    assert re.search(rf" Runs on {said} were left out \(--dataset\)\.$", reason)
    assert "left out" not in choose(Choice(dataset="d" * 64))[1]
    assert choose(Choice(dataset="e" * 8))[0].data_digest == "e" * 64


def test_the_command(compared: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # A process of its own: tests/test_imports.py.
    with active_store(compared.store):
        code, out, err = command_in_this_process("compare", "--output", "report")
        assert code == 0, err
        assert "cnn" in out
        text, _, _ = out.partition("The whole report:")  # then commands, never wrapped
        assert all(len(line) <= 80 for line in text.splitlines())
        assert {path.name for path in Path("report").iterdir()} == FILES

        _, out, _ = command_in_this_process("compare", "--json", "--max_flops", "1e6")
        printed = json.loads(out)
        assert printed["best"]["model"] == "mlp"
        assert compared.store.client.get_run(printed["run_id"]).info.status == "FINISHED"

        code, _, err = command_in_this_process("compare", "--experiment", "none")
        assert code == 2
        assert err.splitlines()[-1].startswith("fm-mlflow: experiment: received 'none'")


def test_the_public_names_are_there() -> None:
    assert fm_mlflow.compare is compare


def test_of_very_many_seeds_the_first_are_read_closely(
    compared: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("examples", "prose.cautions"):
        monkeypatch.setattr(f"fm_mlflow.analysis.{module}.MOST_READ", 2)
    asked: list[str] = []
    load = run_details.load_details

    def noted(runs: list[TrainingRun], objective: Objective) -> Mapping[str, RunDetails]:
        asked.extend(run.run_id for run in runs)
        return load(runs, objective)

    monkeypatch.setattr(run_details, "load_details", noted)
    with active_store(compared.store):
        part = compare(output=str(tmp_path / "out")).comparison
    ids = zip(compared.run_ids, GAP, strict=True)
    of_first_seeds = [run_id for run_id, run in ids if run.seed < 2]
    assert sorted(asked) == sorted(of_first_seeds)
    whole = compared.result.comparison
    assert [group.metrics for group in part.groups] == [group.metrics for group in whole.groups]
    assert [each.runs for each in part.by_class] == [2, 2]
    assert [each.runs for each in part.targets] == [2, 2]
    assert [each.difference for each in part.verdicts] == [
        each.difference for each in whole.verdicts
    ]
    assert "of the first 2 seeds only of cnn (5 runs) and mlp (5 runs)" in " ".join(part.warnings)
    assert not any("seeds only" in warning for warning in whole.warnings)
