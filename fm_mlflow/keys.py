"""Every name that fm_mlflow logs, once, with its unit and meaning.

`docs/keys.md` is generated from this file by `docs/generate.py`.
"""

from __future__ import annotations

from functools import partial


class Key(str):
    """A logged name: a plain string that also knows its unit and its meaning."""

    __slots__ = ("group", "meaning", "unit")

    group: str
    unit: str
    meaning: str

    def __new__(cls, group: str, name: str, unit: str, meaning: str) -> Key:
        """Create the name; `group` is the table of the docs that it belongs to."""
        key = super().__new__(cls, name)
        key.group, key.unit, key.meaning = group, unit, meaning
        return key

    def __getnewargs__(self) -> tuple[str, str, str, str]:  # type: ignore[override]
        return self.group, str(self), self.unit, self.meaning

    @property
    def is_metric(self) -> bool:
        """Whether it is a metric of a training run."""
        return self.group.startswith("Metrics")


# Tags of MLflow's own, by the names that its documentation gives.
MLFLOW_RUN_NAME = "mlflow.runName"
MLFLOW_RUN_NOTE = "mlflow.note.content"
MLFLOW_PARENT_RUN_ID = "mlflow.parentRunId"
MLFLOW_USER = "mlflow.user"
MLFLOW_GIT_COMMIT = "mlflow.source.git.commit"
MLFLOW_DATASET_CONTEXT = "mlflow.data.context"

_epoch_metric = partial(Key, "Metrics, one point an epoch (step 1 … epochs)")
_metric = partial(Key, "Metrics, one value a run")
_tag = partial(Key, "Tags")
_of_machine = partial(Key, "In the tag `fm_mlflow.machine`, by the last word of these names")
_file = partial(Key, "Artifacts")
_rare_file = partial(Key, "Artifacts that only some runs have")
_comparison = partial(Key, "Artifacts of a comparison")
_benchmark = partial(Key, "Artifacts of a benchmark")
_sweep = partial(Key, "Artifacts of a sweep")
_compared = partial(
    Key, "Values of a comparison, and of the run of a benchmark or a sweep that made it"
)
_search = partial(Key, "Values of a sweep, one point a round")
_version = partial(
    Key, "Tags of a version in the model registry, beside the metrics that were verified"
)

# Tags
KIND = _tag(
    "fm_mlflow.kind", "word", "training, comparison, benchmark, sweep, trial or registration"
)
MODEL = _tag("fm_mlflow.model", "text", "the model, as given to `--model`")
VERSION = _tag("fm_mlflow.version", "version", "the fm_mlflow that logged the run")
DATASET_DIGEST = _tag("fm_mlflow.dataset_digest", "SHA-256", "contents of the data set, in hex")
JOBS = _tag("fm_mlflow.jobs", "count", "trainings that a benchmark ran at a time, with this")
DESIGN = _tag(
    "fm_mlflow.design",
    "JSON",
    "of `benchmark --seeds auto`, on its run and its trainings: models, max_seeds, margin, alpha",
)
DESIGN_MODEL = _tag("fm_mlflow.design_model", "text", "which of the design's models it is")
COMPARED_GROUPS = _tag(
    "fm_mlflow.compared_groups",
    "digest:count",
    "the groups that were compared pair by pair, each with its number of runs",
)
TRIAL = _tag("fm_mlflow.trial", "number", "which trial of its sweep a run is, from 0")
BOUNDED_OUT = _tag("fm_mlflow.bounded_out", "text", "which bounds a trial exceeds: not trained")
SPACE = _tag("fm_mlflow.space", "text", "what a sweep searches, with the ranges of annotations")
RECOMMENDED = _tag("fm_mlflow.recommended", "text", "the settings that a sweep recommends, if any")
COMPARED_RUNS = _tag("fm_mlflow.compared_runs", "count", "runs compared, named in its JSON")
BEST_RUN = _tag("fm_mlflow.best_run", "run id", "the run that a comparison chose")
WEIGHTS_DIGEST = _tag("fm_mlflow.weights_digest", "SHA-256", "the trained weights, in hex")
SAVED_DIGEST = _tag(
    "fm_mlflow.saved_digest",
    "SHA-256",
    "on the logged model: path, size and SHA-256 of each file as it was saved; without `MLmodel`, "
    "requirements and environments",
)
COMPILER = _tag(
    "fm_mlflow.compiler",
    "text",
    "what ran the training steps: tensorflow; xla; xla, each step; keras (`model.fit`); after "
    "tensorflow, what made it fast: session; batches in 2 parts (or more); oneDNN; fused Adam",
)
ERROR = _tag("fm_mlflow.error", "one line", "why a FAILED or KILLED run ended")
PROCESS = _tag("fm_mlflow.process", "text", "host; pid; boot, namespace of pids; start, in ticks")
HEARTBEAT = _tag("fm_mlflow.heartbeat", "UTC", "when the run last showed that it lives")
LEASE = _tag(
    "fm_mlflow.lease",
    "number, token",
    "the process that may write to the run: which owner it is, from 1, and a token of its own",
)
PARTS = _tag("fm_mlflow.parts", "count", "processes that trained it in turn, if several")
SETTINGS = _tag(
    "fm_mlflow.settings", "JSON", "what `resume` needs where there is no checkpoint yet"
)
EXTENDED_EPOCHS = _tag("fm_mlflow.extended.epochs", "count", "epochs after `resume` extended it")
EXTENDED_AT = _tag("fm_mlflow.extended.at", "ms", "since 1970: results since then are of those")
EPOCHS_DONE = _tag("fm_mlflow.epochs_done", "count", "epochs of a run that was stopped early")
BEST_EPOCH = _tag(
    "fm_mlflow.best_epoch", "number", "of those, the best by what the callback monitors or val_loss"
)
KEPT_EPOCH = _tag(
    "fm_mlflow.kept_epoch",
    "number",
    "the epoch whose weights the model has, where a callback restored those of the best one",
)
VALIDATED_ON = _tag(
    "fm_mlflow.validated_on",
    "text",
    "of a script's run: `held-out data`, or `the test set` where its fit validated on that",
)
STOPPED_BY = _tag("fm_mlflow.stopped_by", "text", "which callback stopped it early, and why")
JOURNAL = _tag("fm_mlflow.journal", "id", "its write-ahead journal: its id while offline")
MACHINE = _tag(
    "fm_mlflow.machine", "JSON", "what the run was on; `measurements.json` says more of it"
)
MACHINE_PREFIX = "fm_mlflow.machine."
MACHINE_CPU = _of_machine(MACHINE_PREFIX + "cpu", "text", "processor that the run was on")
MACHINE_CORES = _of_machine(
    MACHINE_PREFIX + "cores", "text", "logical cores; those the process may use"
)
MACHINE_MEMORY = _of_machine(MACHINE_PREFIX + "memory", "GiB", "physical memory")
MACHINE_THREADS = _of_machine(
    MACHINE_PREFIX + "threads", "text", "the backend's threads within and between operations"
)
MACHINE_VERSIONS = _of_machine(
    MACHINE_PREFIX + "versions", "text", "Python, Keras' backend (TensorFlow), Keras, NumPy"
)
MACHINE_ONEDNN = _of_machine(MACHINE_PREFIX + "onednn", "text", "the setting TF_ENABLE_ONEDNN_OPTS")
MACHINE_SYSTEM = _of_machine(MACHINE_PREFIX + "system", "text", "operating system and architecture")
MACHINE_GPUS = _of_machine(MACHINE_PREFIX + "gpus", "text", "GPUs that the backend sees, if any")
MACHINE_LOAD = _of_machine(
    MACHINE_PREFIX + "load", "processes", "1-minute load average before the run"
)

# One point an epoch
LOSS = _epoch_metric("loss", "nats", "training loss, mean over the epoch's batches")
ACCURACY = _epoch_metric("accuracy", "fraction", "training accuracy, mean over the epoch's batches")
VAL_LOSS = _epoch_metric("val_loss", "nats", "validation loss at the epoch's end")
VAL_ACCURACY = _epoch_metric("val_accuracy", "fraction", "validation accuracy at the epoch's end")
LEARNING_RATE = _epoch_metric("learning_rate", "1", "learning rate at the epoch's end")
EPOCH_SECONDS = _epoch_metric("epoch_seconds", "s", "wall time of the epoch, validation included")
MEMORY_RSS = _epoch_metric("memory/rss_mib", "MiB", "resident memory at the epoch's end")

# One value a run
TEST_LOSS = _metric("test_loss", "nats", "loss on the test set, after training")
TEST_ACCURACY = _metric("test_accuracy", "fraction", "accuracy on the test set, after training")
TEST_MAE = _metric(
    "test_mae",
    "target units",
    "mean absolute error on the test set, of a model that predicts numbers",
)
PARAMETERS_TRAINABLE = _metric("parameters/trainable", "count", "trainable parameters")
PARAMETERS_NON_TRAINABLE = _metric("parameters/non_trainable", "count", "parameters not trained")
SIZE_H5 = _metric("size/h5_mib", "MiB", "trained model as HDF5, with optimizer state")
SIZE_PARAMETERS = _metric("size/parameters_mib", "MiB", "parameters x bytes of their type")
SIZE_WEIGHTS = _metric("size/weights_mib", "MiB", "Keras' weights file, with optimizer state")
SIZE_MLFLOW_MODEL = _metric("size/mlflow_model_mib", "MiB", "all files of the logged MLflow model")
SIZE_INFERENCE = _metric("size/inference_mib", "MiB", "to ship for predicting: no optimizer state")
FLOPS_INFERENCE = _metric("flops/inference", "FLOPs an image", "one prediction, batch 1")
FLOPS_KERAS = _metric(
    "flops/keras_flops", "FLOPs an image", "the same by the package keras-flops, a second witness"
)
FLOPS_TRAINING = _metric(
    "flops/training", "FLOPs an image", "a real training step at the run's batch size / batch size"
)
FLOPS_TRAINING_CORE = _metric(
    "flops/training_core", "FLOPs an image", "of it, matrix products and convolutions only"
)
FLOPS_TRAINING_TOTAL = _metric(
    "flops/training_total", "FLOPs", "all training steps of the fit, without validation"
)
ESTIMATE_INFERENCE_FLOPS = _metric(
    "estimate/inference_flops", "FLOPs an image", "2 x kernel weights (rule of thumb)"
)
ESTIMATE_TRAINING_FLOPS = _metric(
    "estimate/training_flops", "FLOPs an image", "6 x kernel weights (rule of thumb)"
)
ESTIMATE_TRAINING_MEMORY = _metric(
    "estimate/training_memory_mib", "MiB", "3 x 4 bytes x kernel weights (rule of thumb)"
)
MEMORY_PEAK = _metric(
    "memory/peak_rss_mib",
    "MiB",
    "highest resident memory from the process' start to the end of training",
)
MEMORY_BASELINE = _metric(
    "memory/baseline_rss_mib", "MiB", "with libraries and data loaded, before the model is built"
)
MEMORY_TRAINING = _metric("memory/training_rss_mib", "MiB", "peak resident in training - baseline")
MEMORY_ALLOCATOR_PEAK = _metric(
    "memory/allocator_peak_mib", "MiB", "most that TensorFlow's host allocator gave out in training"
)
MEMORY_DEVICE_PEAK = _metric(
    "memory/device_peak_mib", "MiB", "most that TensorFlow's allocator for the first GPU gave out"
)
LATENCY_P50 = _metric("latency/p50_ms", "ms", "one image, warm, traced, output fetched: median")
LATENCY_P95 = _metric("latency/p95_ms", "ms", "the same: 95% of the calls are at most so long")
LATENCY_P99 = _metric("latency/p99_ms", "ms", "the same: 99%, if there are enough calls")
THROUGHPUT_INFERENCE = _metric("throughput/inference_per_second", "images/s", "on a warm batch")
THROUGHPUT_TRAINING = _metric(
    "throughput/training_per_second", "images/s", "training images over an epoch's time"
)
MFU = _metric(
    "utilization/mfu_percent",
    "%",
    "`flops/training_core` x images/s over the machine's matmul rate",
)
_PACKAGES = "of all processor packages"
_GPUS = "of all GPUs that the process may use"
_JOULES = "joules by the hardware's counter"
ENERGY_TRAINING = _metric("energy/training_joules", "J", f"the fit: {_JOULES} {_PACKAGES}")
ENERGY_INFERENCE = _metric(
    "energy/inference_joules_per_1000", "J", f"1,000 predictions: {_JOULES} {_PACKAGES}"
)
ENERGY_GPU_TRAINING = _metric("energy/gpu_training_joules", "J", f"the fit: {_JOULES} {_GPUS}")
ENERGY_GPU_INFERENCE = _metric(
    "energy/gpu_inference_joules_per_1000", "J", f"1,000 predictions: {_JOULES} {_GPUS}"
)
FIT_SECONDS = _metric("time/fit_seconds", "s", "wall time of the whole fit, tracing included")
TOTAL_SECONDS = _metric("time/total_seconds", "s", "wall time up to the last logged artifact")

# One point a round of a sweep
SEARCH_SECONDS = _search("search/seconds", "s", "wall time of the search, earlier calls included")
SEARCH_FLOPS = _search("search/flops", "FLOPs", "of the training steps of all trials together")
SEARCH_TRIALS = _search("search/trials", "count", "trials so far")

COMPARED_MODELS = _compared("verdict/models", "count", "models compared")
COMPARED_TRAININGS = _compared("verdict/trainings", "count", "their trainings")
OF_RECOMMENDED = _compared(
    "verdict/*",
    "the metric's",
    "the compared metric and the costs of the model that is recommended: means over its trainings; "
    "in their names, an underscore for the slash",
)

# Artifacts
LONG_PARAMS_FILE = _rare_file("params.json", "JSON", "parameters too long for the store")
SOURCE_FILES_FILE = _rare_file(
    "source_files.txt", "text", "files of a user's own that travel with the model"
)
MEASUREMENTS_FILE = _file("measurements.json", "JSON", "costs or why not; method, spread")
MODEL_SUMMARY_FILE = _file("model_summary.txt", "text", "layers, output shapes, parameters")
FLOPS_LAYERS_FILE = _file(
    "flops/layers.csv", "CSV", "a layer and image: multiply-adds, FLOPs forward and of gradients"
)
LEARNING_CURVE_FILE = _file("plots/learning_curve.png", "image", "loss and accuracy by epoch")
CONFUSION_MATRIX_FILE = _file("plots/confusion_matrix.png", "image", "images by true, given class")
MEMORY_TIMELINE_FILE = _file(
    "memory/timeline.csv", "CSV", "seconds, resident memory in MiB, phase of the run"
)
MEMORY_PLOT_FILE = _file("plots/memory.png", "image", "resident memory, phases and peak marked")
PREDICTIONS_FILE = _file(
    "predictions/test.npz", "NumPy", "`label` (n,), `probability` (n, classes), in test order"
)
REPORT_HTML_FILE = _comparison("report.html", "HTML", "the final report, one file, no network")
REPORT_MARKDOWN_FILE = _comparison("report.md", "Markdown", "the final report as text")
COMPARISON_CSV_FILE = _comparison(
    "comparison.csv", "CSV", "one row a model: every metric with n, mean, SD, interval"
)
COMPARISON_JSON_FILE = _comparison("comparison.json", "JSON", "all of the report, for programs")
TRAININGS_FILE = _benchmark(
    "trainings.json", "JSON", "trainings as started: run, status, accuracy, seconds, error"
)
OUTPUT_FILE = _benchmark("output.log", "text", "a training's run: what its process wrote, its end")

SWEEP_HTML_FILE = _sweep("sweep.html", "HTML", "the report of the search and the proof, one file")
SWEEP_JSON_FILE = _sweep("sweep.json", "JSON", "all of it, for programs")
TRIALS_CSV_FILE = _sweep("trials.csv", "CSV", "one row a trial: settings, epochs, metric, costs")

# A version in the model registry
VERIFIED_AT = _version("fm_mlflow.verified_at", "ISO 8601, UTC", "when the model was verified")
MODEL_DIGEST = _version(
    "fm_mlflow.model_digest", "SHA-256", "all files verified: path, size and SHA-256 of each"
)
DATASET = _version(
    "fm_mlflow.dataset",
    "text",
    "name of the data set; on the registered model, too, beside `fm_mlflow.dataset_digest`: the "
    "one that it belongs to",
)
METRIC = _version(
    "fm_mlflow.metric",
    "name",
    "the metric that decided; on the registered model, too: the one that decides there",
)
DIRECTION = _version(
    "fm_mlflow.direction", "word", "which of its values is better: higher or lower"
)
MEMORY_LOAD = _version(
    "memory/load_rss_mib", "MiB", "peak in loading the model and a first prediction - just before"
)
PROMOTING = _version(
    "fm_mlflow.promoting",
    "text",
    "plus a token, on the registered model: who moves its aliases now",
)

COMPILED_PREFIX = "compiled/"
"""Before `optimizer` and `learning_rate` where they are a compiled model's own, not the options."""

KEPT_PREFIX = "kept/"
"""Before loss and metrics of the epoch whose weights the model has, where it is not the last one.

Who reads the run takes them for the model's: the last values of the curves are of other weights.
"""

HELD_OUT, TEST_SET = "held-out data", "the test set"
"""Values of the tag `fm_mlflow.validated_on`."""

CHECKPOINT_FOLDER = "checkpoint"
"""Folder of the artifacts that `fm-mlflow resume` goes on from; two files take turns."""

MODEL_NAME = "model"
"""Name of the logged MLflow model."""

PARAMS_OF_STOP = ("epochs_done", "best_epoch", "stopped_by")
"""Parameters of a run that was stopped early: results, which do not tell its group from others."""

KIND_TRAINING = "training"  # values of the tag `fm_mlflow.kind`
KIND_COMPARISON = "comparison"
KIND_BENCHMARK = "benchmark"  # the parent run of a benchmark's trainings
KIND_SWEEP = "sweep"  # the parent run of a sweep's trials
KIND_TRIAL = "trial"  # no training that `compare` looks at: no test result, no model
KIND_REGISTRATION = "registration"  # the run that `mlflow run` opens for registering a model

RUNNING, FINISHED, FAILED, KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"
"""Status of a run: under way; ended well; ended by an error; stopped from outside."""

ENDED = frozenset({FINISHED, FAILED, KILLED})
"""Status of a run that has ended."""


def all_keys() -> list[Key]:
    """Every key, in the order of this file."""
    return [value for value in globals().values() if isinstance(value, Key)]
