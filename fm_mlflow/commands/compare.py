"""From a store full of runs to a report: which model is best, what it costs, how sure that is."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fm_mlflow import __version__, keys
from fm_mlflow.analysis.main_figures import main_figures
from fm_mlflow.analysis.prose.words import counted, listed
from fm_mlflow.errors import ComparisonError, InputError, TrackingError
from fm_mlflow.escaping import markdown
from fm_mlflow.listeners import ProgressListener
from fm_mlflow.naming import command_line, training_command, training_config
from fm_mlflow.process.atomic_file import atomic_file, sync_where_possible
from fm_mlflow.process.beside import Beside
from fm_mlflow.process.garbage import rare_garbage_collection
from fm_mlflow.process.signals import guard
from fm_mlflow.results.compare import CompareResult
from fm_mlflow.settings.base import parse
from fm_mlflow.settings.selection import Choice, CompareConfig

if TYPE_CHECKING:
    from fm_mlflow.analysis.comparison import Comparison, Group, Repeat
    from fm_mlflow.analysis.records import DataSet, TrainingRun
    from fm_mlflow.report.pictures import Pictures
    from fm_mlflow.tracking.find_runs import FoundRuns

_LIBRARIES = ("mlflow", "numpy", "scipy", "matplotlib")
_FLUSH_SECONDS = 10.0
_MOST_NAMES_IN_TITLE = 4
_MOST_NAMES = 8
_MOST_COPIED = 1_000
"""Runs of a comparison that another process may write the report of: it gets a copy of them."""


def compare(*, progress: ProgressListener | None = None, **settings: Any) -> CompareResult:
    """Compare the training runs of a tracking store and write the final report.

    It reads runs that anybody made, anywhere; it starts none. The report goes into the output
    folder and into a run of kind `comparison`. The same store gives the same files, byte for byte.

    Args:
        progress: Hears how it goes on; by default nothing is said.
        **settings: The fields of `CompareConfig`: experiment, runs, models, filter, cost, the
            bounds (max_flops, …), metric, smaller_is_better, larger_is_better, target, top,
            pictures, output.

    Returns:
        The comparison and where its report is.

    Raises:
        InputError: A setting was refused; nothing was written.
        ComparisonError: There is no run to compare.
        TrackingError: The store refused or did not answer.

    Examples:
        >>> result = fm_mlflow.compare(models="mlp,cnn")
        >>> result.comparison.best.model, result.comparison.summary
    """
    config = parse(CompareConfig, settings)
    progress = progress or ProgressListener()
    output = check_output(config.output)
    with Beside(_get_ready) as beside, guard(), rare_garbage_collection():
        comparison = _analyse(config, progress, may_choose="metric" not in config.model_fields_set)
        progress.stage("writing the report")
        drawn = comparison, _pictures(comparison, config.pictures)
        is_small = sum(len(group.runs) for group in comparison.groups) <= _MOST_COPIED
        written = beside.begin(_render, *drawn) if is_small else partial(_render, *drawn)
        _get_ready_to_log()
        texts = written()
        files = write_files(texts, output)
        try:
            return _log(config, comparison, texts, files)
        except TrackingError as error:
            text = f"the report is in {output}, but not in the store: {error}"
            raise TrackingError(text) from error


def check_output(folder: str) -> Path:
    """Return the folder for the report; refuse what cannot be one.

    Raises:
        InputError: It is a file, or what can be no path.
    """
    path, accepted = Path(folder), "a folder, there already or not"
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:
        return path
    except OSError as error:  # too long, a loop of links, beneath a file
        raise InputError("output", folder, f"{accepted} ({error.strerror})") from error
    if not is_folder:
        raise InputError("output", folder, accepted)
    return path


def choose(choice: Choice, progress: ProgressListener | None = None) -> tuple[TrainingRun, str]:
    """Choose the best run of a store by the rule that `compare` reports; return it and why.

    Args:
        choice: Which runs are meant, and what decides.
        progress: Hears how it goes on; by default nothing is said.

    Raises:
        ComparisonError: No run qualifies.
        InputError: As `compare`.
        TrackingError: As `compare`.
    """
    from fm_mlflow.analysis.choice import chosen_run

    with rare_garbage_collection():
        comparison = _analyse(
            parse(CompareConfig, choice.model_dump()), progress or ProgressListener()
        )
    reason, run = comparison.best.reason, chosen_run(comparison)
    if run is None:
        raise ComparisonError(f"no model qualifies: {reason}")
    runs = [each for group in comparison.groups for each in group.runs]
    return run, reason + _left_out(run.data_set, runs)


def _left_out(chosen: DataSet, runs: Sequence[TrainingRun]) -> str:
    """Say which other data sets a choice among runs on one leaves out."""
    others = {each.data_set for each in runs if each.data_set.is_other_than(chosen)}
    names = {each.exactly if str(each) == str(chosen) else str(each) for each in others}
    return f" Runs on {listed(sorted(names))} were left out (--dataset)." if names else ""


def _analyse(
    config: CompareConfig, progress: ProgressListener, *, may_choose: bool = False
) -> Comparison:
    from fm_mlflow.analysis.compare import compare as compare_groups
    from fm_mlflow.analysis.examples import read_closely
    from fm_mlflow.analysis.grouping import group_runs
    from fm_mlflow.analysis.metric_choice import only_metric, suggested
    from fm_mlflow.analysis.objective import Objective
    from fm_mlflow.tracking.find_runs import find_runs
    from fm_mlflow.tracking.run_details import load_details

    progress.stage("querying the tracking store")
    objective = Objective.of(config)
    metric = objective.metric
    found = find_runs(config, metric)
    if found.elsewhere:
        progress.notice(
            f"the experiment {found.elsewhere} has trainings, too, which are not among these: "
            f"--experiment {found.elsewhere} takes those, --runs any by their ids"
        )
    if not found.runs:
        is_default = metric == keys.TEST_ACCURACY and config.target_accuracy is None
        finished = (run for run in found.unfinished if run.status == keys.FINISHED)
        if may_choose and is_default and (only := only_metric(finished)):
            progress.notice(f"no run has {metric}; all that have {only} are compared by it")
            return _analyse(config.model_copy(update={"metric": only}), progress)
        if names := suggested(metric, found.other_metrics):
            accepted = "a metric that these runs have"
            if metric in found.other_metrics:
                accepted = f"{metric} is of the training data; of other data these runs have"
            example = f"; --metric {names.partition(' (')[0]} compares by the first"
            raise InputError("metric", metric, f"{accepted}: {names}{example}")
        if config.models:
            _refuse_models(config, find_runs(config.model_copy(update={"models": ""}), metric).runs)
        raise ComparisonError(_nothing(found))
    grouping = group_runs(found.runs, config.top, config, objective)
    progress.stage(f"reading the runs of {counted(len(grouping.detailed), 'model')}")
    read = [run for group in grouping.detailed for run in read_closely(group)]
    details = load_details(read, objective)
    progress.stage("comparing")
    skipped = [*found.skipped, *grouping.skipped]
    repeat = _repeat(config, grouping.groups, grouping.detailed)
    comparison = compare_groups(found.experiment, grouping.groups, details, skipped, config, repeat)
    return _counting_looks(comparison)


def _counting_looks(comparison: Comparison) -> Comparison:
    """Add a warning where the same groups were compared before with fewer seeds."""
    from fm_mlflow.analysis.earlier_looks import looked_before, read_groups
    from fm_mlflow.tracking.earlier_comparisons import earlier_comparisons

    detailed = [group for group in comparison.groups if group.detailed]
    benchmarks = {run.benchmark for group in detailed for run in group.runs}
    within = benchmarks.pop() if len(benchmarks) == 1 else None
    earlier = earlier_comparisons(within) if len(detailed) > 1 else []
    warning = looked_before(comparison, map(read_groups, earlier))
    return replace(comparison, warnings=(*filter(None, [warning]), *comparison.warnings))


def _refuse_models(config: CompareConfig, others: Sequence[TrainingRun]) -> None:
    """Name the models that there are, where only others were asked for."""
    if names := sorted({run.model for run in others}):
        shown = f"{', '.join(names[:_MOST_NAMES])}{', …' if len(names) > _MOST_NAMES else ''}"
        raise InputError("models", config.models, f"models of these runs: {shown}", names)


def _nothing(found: FoundRuns) -> str:
    from fm_mlflow.analysis.metric_choice import comparable
    from fm_mlflow.tracking.store import tracking_uri

    text = f"'{found.experiment}' has no finished training run that was asked for"
    text = f"nothing to compare: {text}, in {tracking_uri()}"
    skipped = found.skipped
    if skipped:
        reason, count = Counter(run.reason for run in skipped).most_common(1)[0]
        text += f"; {counted(len(skipped), 'run')} skipped, {count} because: {reason}"
    finished = [run.metrics for run in found.unfinished if run.status == keys.FINISHED]
    if any(keys.LOSS in each and not comparable(each) for each in finished):
        return f"{text}; all metrics are of the training data: give the fit validation_data"
    return f"{text}; `fm-mlflow train` makes one"


def _repeat(config: CompareConfig, groups: Sequence[Group], detailed: Sequence[Group]) -> Repeat:
    from fm_mlflow.analysis.comparison import Repeat

    runs = [run for group in groups for run in group.runs]
    versions = {"fm_mlflow": __version__}
    versions |= {name: metadata.version(name) for name in _LIBRARIES}
    logged = Counter(run.machine.get("versions", "not recorded") for run in runs)
    return Repeat(
        commands=(
            *map(_training_commands, detailed),
            command_line("compare", config, leave_out=["output"]),
        ),
        versions={**versions, "of the runs": "; ".join(sorted(logged))},
        data_digests=_counts(run.data_digest or "not recorded" for run in runs),
        commits=_counts(run.commit or "not recorded" for run in runs),
    )


def _counts(values: Any) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _training_commands(group: Group) -> str:
    """Return a shell line that repeats a group's trainings, or says why there is none."""
    try:
        config = training_config(group.model, group.config)
    except InputError:
        return f"# {group.name}: not trained by fm-mlflow train"
    return training_command(config, [run.seed for run in group.runs if run.seed is not None])


def _pictures(comparison: Comparison, most: int) -> Pictures:
    """Return pictures of the test examples that models got wrong, or why there are none."""
    from fm_mlflow.report.pictures import Pictures, draw
    from fm_mlflow.tracking.test_images import NoImagesError, load_test_images

    wrong = comparison.wrong
    examples = [each for kind in wrong.kinds for each in kind.examples]
    if not examples or not most:
        return Pictures({}, "none were asked for." if examples else "")
    runs = (run for group in comparison.groups for run in group.runs)
    run = next(run for run in runs if run.run_id == wrong.run_id)
    try:
        return draw(load_test_images(run.run_id, run.data_set.name, examples))
    except NoImagesError as error:
        return Pictures({}, str(error))


def _get_ready() -> None:
    from fm_mlflow.report.files import prepare

    prepare()


def _render(comparison: Comparison, pictures: Pictures) -> dict[str, str]:
    from fm_mlflow.report.files import render

    return render(comparison, pictures)


def _get_ready_to_log() -> None:
    """Do while the report is written what comes before a run can be opened: imports, mostly."""
    from fm_mlflow.tracking import run, store

    _ = run, store.context_tags()


def write_files(texts: Mapping[str, str], folder: Path) -> dict[str, Path]:
    """Write all files or none: a reader sees neither half a report nor parts of two.

    Raises:
        ComparisonError: The folder or a file cannot be written.
    """
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # They get their names at the end of the block, when all are on the disk.
        with ExitStack() as together:
            for name, text in texts.items():
                partial = together.enter_context(atomic_file(folder / name))
                partial.write_text(text, encoding="utf-8", newline="")
                sync_where_possible(partial)
    except OSError as error:
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        text = f"cannot write the report: {error}; --output names another folder"
        raise ComparisonError(text) from error
    return {name: folder / name for name in texts}


def _log(
    config: CompareConfig,
    comparison: Comparison,
    texts: Mapping[str, str],
    files: Mapping[str, Path],
) -> CompareResult:
    from fm_mlflow.analysis.earlier_looks import compared_groups
    from fm_mlflow.analysis.examples import read_closely
    from fm_mlflow.tracking.run import TrackedRun
    from fm_mlflow.tracking.store import tracking_uri

    detailed = [group for group in comparison.groups if group.detailed]
    names = [group.name for group in detailed[:_MOST_NAMES_IN_TITLE]]
    more = len(comparison.groups) - len(names)
    title = f"comparison of {', '.join(names)}" + (f" and {more} more" if more else "")
    compared = [run for group in comparison.groups for run in group.runs]
    tags: dict[str, str] = {
        keys.COMPARED_RUNS: str(len(compared)),
        keys.COMPARED_GROUPS: compared_groups(detailed),
    }
    if comparison.best.run_id is not None:
        tags[keys.BEST_RUN] = comparison.best.run_id
    with TrackedRun(keys.KIND_COMPARISON, title, flush_timeout=_FLUSH_SECONDS) as run:
        params = config.model_dump(exclude={"output"}, exclude_none=True)
        run.log_params({**params, "metric": comparison.objective.metric})
        run.set_tags(tags)
        run.log_metrics(main_figures(comparison))
        run.describe(f"{markdown(comparison.summary)}\n\n{markdown(comparison.best.reason)}")
        uris = [run.model_uri for group in detailed for run in read_closely(group)]
        run.link_models(uri.removeprefix("models:/") for uri in uris if uri)
        with run.artifacts() as folder:
            for name, text in texts.items():
                (folder / name).write_text(text, encoding="utf-8", newline="")
    return CompareResult(
        run.run_id,
        run.experiment_id,
        tracking_uri(),
        run.artifact_uri,
        {name: str(path) for name, path in files.items()},
        comparison,
    )
