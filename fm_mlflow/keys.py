"""Every name that fm_mlflow logs, once, with its unit and meaning.

`docs/keys.md` is generated from this file: `python -m fm_mlflow.keys > docs/keys.md`.
"""

from __future__ import annotations


class Key(str):
    """A logged name: a plain string that also knows its unit and its meaning."""

    __slots__ = ("group", "meaning", "unit")

    group: str
    unit: str
    meaning: str

    def __new__(cls, name: str, group: str, unit: str, meaning: str) -> Key:
        """Create the name; `group` is the table of the docs that it belongs to."""
        key = super().__new__(cls, name)
        key.group, key.unit, key.meaning = group, unit, meaning
        return key

    def __getnewargs__(self) -> tuple[str, str, str, str]:  # type: ignore[override]
        return str(self), self.group, self.unit, self.meaning

    @property
    def is_metric(self) -> bool:
        """Whether it is a metric of a training run."""
        return self.group in (_EPOCH, _RUN)


# Tags of MLflow's own, by the names that its documentation gives.
MLFLOW_RUN_NAME = "mlflow.runName"
MLFLOW_RUN_NOTE = "mlflow.note.content"
MLFLOW_PARENT_RUN_ID = "mlflow.parentRunId"
MLFLOW_USER = "mlflow.user"
MLFLOW_GIT_COMMIT = "mlflow.source.git.commit"
MLFLOW_DATASET_CONTEXT = "mlflow.data.context"

_EPOCH = "Metrics, one point an epoch (step 1 … epochs)"
_RUN = "Metrics, one value a run"
_TAG = "Tags"
_FILE = "Artifacts"
_VERSION = "Tags of a version in the model registry, beside the metrics that were verified"
_COMPARISON = "Artifacts of a comparison"
_BENCHMARK = "Artifacts of a benchmark"
_FILE_WHERE_NEEDED = "Artifacts that only some runs have"

# Tags
KIND = Key(
    "fm_mlflow.kind", _TAG, "word", "what the run is: training, comparison, benchmark, registration"
)
MODEL = Key("fm_mlflow.model", _TAG, "text", "the model, as given to `--model`")
VERSION = Key("fm_mlflow.version", _TAG, "version", "the fm_mlflow that logged the run")
DATASET_DIGEST = Key(
    "fm_mlflow.dataset_digest", _TAG, "SHA-256", "contents of the whole data set, in hexadecimal"
)
JOBS = Key(
    "fm_mlflow.jobs",
    _TAG,
    "count",
    "trainings that a benchmark let run at a time, this one included",
)
COMPARED_RUNS = Key(
    "fm_mlflow.compared_runs", _TAG, "count", "runs that a comparison is about; its JSON names them"
)
BEST_RUN = Key("fm_mlflow.best_run", _TAG, "run id", "the run that a comparison chose")
WEIGHTS_DIGEST = Key(
    "fm_mlflow.weights_digest",
    _TAG,
    "SHA-256",
    "the trained weights, whatever file holds them, in hexadecimal",
)
COMPILER = Key(
    "fm_mlflow.compiler",
    _TAG,
    "text",
    "what ran the training steps: tensorflow; xla; xla, each step; keras (`model.fit`); after "
    "tensorflow, what made it fast: session; batches in 2 parts (or more); oneDNN; fused Adam",
)
ERROR = Key("fm_mlflow.error", _TAG, "one line", "why a FAILED or KILLED run ended")
_PROCESS = "fm_mlflow.process."
PROCESS_HOST = Key(_PROCESS + "host", _TAG, "name", "host that the run is on")
PROCESS_PID = Key(_PROCESS + "pid", _TAG, "number", "its process there")
PROCESS_BOOT = Key(_PROCESS + "boot", _TAG, "ids", "boot of the host; namespace of its pids")
PROCESS_START = Key(_PROCESS + "start", _TAG, "ticks", "start of the process, since that boot")
HEARTBEAT = Key("fm_mlflow.heartbeat", _TAG, "UTC", "when the run last showed that it lives")
PARTS = Key(
    "fm_mlflow.parts",
    _TAG,
    "count",
    "processes that trained it, one after the other, where several",
)
EXTENDED_EPOCHS = Key(
    "fm_mlflow.extended.epochs", _TAG, "count", "epochs of a run that `resume` has extended"
)
EXTENDED_AT = Key(
    "fm_mlflow.extended.at", _TAG, "ms", "since 1970: results of the run from then on are of those"
)
JOURNAL = Key("fm_mlflow.journal", _TAG, "id", "its write-ahead journal: its id while offline")
MACHINE_PREFIX = "fm_mlflow.machine."
MACHINE_CPU = Key(MACHINE_PREFIX + "cpu", _TAG, "text", "processor that the run was on")
MACHINE_CORES = Key(
    MACHINE_PREFIX + "cores", _TAG, "text", "logical cores; those the process may use"
)
MACHINE_MEMORY = Key(MACHINE_PREFIX + "memory", _TAG, "GiB", "physical memory")
MACHINE_THREADS = Key(
    MACHINE_PREFIX + "threads", _TAG, "text", "TensorFlow's threads within and between operations"
)
MACHINE_VERSIONS = Key(
    MACHINE_PREFIX + "versions", _TAG, "text", "Python, TensorFlow, Keras and NumPy versions"
)
MACHINE_ONEDNN = Key(MACHINE_PREFIX + "onednn", _TAG, "text", "the setting TF_ENABLE_ONEDNN_OPTS")
MACHINE_SYSTEM = Key(MACHINE_PREFIX + "system", _TAG, "text", "operating system and architecture")
MACHINE_LOAD = Key(
    MACHINE_PREFIX + "load", _TAG, "processes", "load average of the minute before the run"
)

# One point an epoch
LOSS = Key("loss", _EPOCH, "nats", "training loss, mean over the epoch's batches")
ACCURACY = Key("accuracy", _EPOCH, "fraction", "training accuracy, mean over the epoch's batches")
VAL_LOSS = Key("val_loss", _EPOCH, "nats", "validation loss at the epoch's end")
VAL_ACCURACY = Key("val_accuracy", _EPOCH, "fraction", "validation accuracy at the epoch's end")
LEARNING_RATE = Key("learning_rate", _EPOCH, "1", "learning rate at the epoch's end")
EPOCH_SECONDS = Key("epoch_seconds", _EPOCH, "s", "wall time of the epoch, validation included")
MEMORY_RSS = Key("memory/rss_mib", _EPOCH, "MiB", "resident memory at the epoch's end")

# One value a run
TEST_LOSS = Key("test_loss", _RUN, "nats", "loss on the whole test set, after training")
TEST_ACCURACY = Key(
    "test_accuracy", _RUN, "fraction", "accuracy on the whole test set, after training"
)
PARAMETERS_TRAINABLE = Key("parameters/trainable", _RUN, "count", "trainable parameters")
PARAMETERS_NON_TRAINABLE = Key(
    "parameters/non_trainable", _RUN, "count", "parameters that training does not change"
)
SIZE_H5 = Key("size/h5_mib", _RUN, "MiB", "trained model as HDF5, with optimizer state")
SIZE_PARAMETERS = Key(
    "size/parameters_mib", _RUN, "MiB", "parameters x bytes of their type: the least possible"
)
SIZE_WEIGHTS = Key(
    "size/weights_mib", _RUN, "MiB", "Keras' weights file, which holds the optimizer's state too"
)
SIZE_MLFLOW_MODEL = Key(
    "size/mlflow_model_mib", _RUN, "MiB", "the logged MLflow model with all its files"
)
SIZE_INFERENCE = Key(
    "size/inference_mib", _RUN, "MiB", "what must be shipped to predict: no optimizer state"
)
FLOPS_INFERENCE = Key(
    "flops/inference", _RUN, "FLOPs an image", "one prediction of one image, batch 1"
)
FLOPS_KERAS = Key(
    "flops/keras_flops",
    _RUN,
    "FLOPs an image",
    "the same by the package keras-flops, a second witness",
)
FLOPS_TRAINING = Key(
    "flops/training",
    _RUN,
    "FLOPs an image",
    "one real training step at the run's batch size / batch size",
)
FLOPS_TRAINING_CORE = Key(
    "flops/training_core",
    _RUN,
    "FLOPs an image",
    "of `flops/training`, matrix products and convolutions only",
)
FLOPS_TRAINING_TOTAL = Key(
    "flops/training_total", _RUN, "FLOPs", "all training steps of the fit, without validation"
)
ESTIMATE_INFERENCE_FLOPS = Key(
    "estimate/inference_flops", _RUN, "FLOPs an image", "2 x kernel weights (rule of thumb)"
)
ESTIMATE_TRAINING_FLOPS = Key(
    "estimate/training_flops", _RUN, "FLOPs an image", "6 x kernel weights (rule of thumb)"
)
ESTIMATE_TRAINING_MEMORY = Key(
    "estimate/training_memory_mib", _RUN, "MiB", "3 x 4 bytes x kernel weights (rule of thumb)"
)
MEMORY_PEAK = Key(
    "memory/peak_rss_mib",
    _RUN,
    "MiB",
    "highest resident memory of the process, from its start to the end of training",
)
MEMORY_BASELINE = Key(
    "memory/baseline_rss_mib",
    _RUN,
    "MiB",
    "resident memory with libraries and data loaded, before the model is built",
)
MEMORY_TRAINING = Key(
    "memory/training_rss_mib", _RUN, "MiB", "highest resident memory in training - baseline"
)
MEMORY_ALLOCATOR_PEAK = Key(
    "memory/allocator_peak_mib",
    _RUN,
    "MiB",
    "most that TensorFlow's allocator for the host had handed out in training",
)
MEMORY_DEVICE_PEAK = Key(
    "memory/device_peak_mib",
    _RUN,
    "MiB",
    "most that TensorFlow's allocator for the first GPU had handed out in training",
)
LATENCY_P50 = Key(
    "latency/p50_ms", _RUN, "ms", "one image, warm, traced call, output materialised: median"
)
LATENCY_P95 = Key("latency/p95_ms", _RUN, "ms", "the same: 95% of the calls are at most so long")
LATENCY_P99 = Key(
    "latency/p99_ms", _RUN, "ms", "the same: 99% of the calls, if there are enough of them"
)
THROUGHPUT_INFERENCE = Key(
    "throughput/inference_per_second", _RUN, "images/s", "traced calls on a warm batch"
)
THROUGHPUT_TRAINING = Key(
    "throughput/training_per_second", _RUN, "images/s", "training images over an epoch's time"
)
MFU = Key(
    "utilization/mfu_percent",
    _RUN,
    "%",
    "`flops/training_core` x training images/s over the machine's matrix-product rate",
)
FIT_SECONDS = Key("time/fit_seconds", _RUN, "s", "wall time of the whole fit, tracing included")
TOTAL_SECONDS = Key(
    "time/total_seconds", _RUN, "s", "wall time from the call to the last logged artifact"
)

# Artifacts
LONG_PARAMS_FILE = Key(
    "params.json", _FILE_WHERE_NEEDED, "JSON", "parameters that are too long for the store, in full"
)
MEASUREMENTS_FILE = Key(
    "measurements.json",
    _FILE,
    "JSON",
    "every cost: value, unit, method, spread, or why not",
)
MODEL_SUMMARY_FILE = Key("model_summary.txt", _FILE, "text", "layers, output shapes, parameters")
FLOPS_LAYERS_FILE = Key(
    "flops/layers.csv",
    _FILE,
    "CSV",
    "per layer and image: multiply-adds, FLOPs of the forward pass and of both gradients",
)
LEARNING_CURVE_FILE = Key("plots/learning_curve.png", _FILE, "image", "loss and accuracy by epoch")
CONFUSION_MATRIX_FILE = Key(
    "plots/confusion_matrix.png", _FILE, "image", "test images by true and predicted class"
)
MEMORY_TIMELINE_FILE = Key(
    "memory/timeline.csv", _FILE, "CSV", "seconds, resident memory in MiB, phase of the run"
)
MEMORY_PLOT_FILE = Key(
    "plots/memory.png", _FILE, "image", "resident memory over time, phases and peak marked"
)
PREDICTIONS_FILE = Key(
    "predictions/test.npz",
    _FILE,
    "NumPy",
    "`label` (n,), `probability` (n, classes), in test order",
)
REPORT_HTML_FILE = Key("report.html", _COMPARISON, "HTML", "the final report, one file, no network")
REPORT_MARKDOWN_FILE = Key("report.md", _COMPARISON, "Markdown", "the final report as text")
COMPARISON_CSV_FILE = Key(
    "comparison.csv", _COMPARISON, "CSV", "one row a model: every metric with n, mean, SD, interval"
)
COMPARISON_JSON_FILE = Key(
    "comparison.json", _COMPARISON, "JSON", "everything in the report, for programs"
)
TRAININGS_FILE = Key(
    "trainings.json",
    _BENCHMARK,
    "JSON",
    "its trainings in the order in which they were started: run, status, accuracy, seconds, error",
)
OUTPUT_FILE = Key(
    "output.log", _BENCHMARK, "text", "in each training's run: what its process wrote, or the end"
)

# A version in the model registry
VERIFIED_AT = Key(
    "fm_mlflow.verified_at", _VERSION, "ISO 8601, UTC", "when the logged model was verified"
)
MEMORY_LOAD = Key(
    "memory/load_rss_mib",
    _VERSION,
    "MiB",
    "highest resident memory in loading the model and a first prediction - just before",
)
PROMOTING = Key(
    "fm_mlflow.promoting",
    _VERSION,
    "text",
    "with a token appended, on the registered model: who is moving its aliases just now",
)

COMPILED_PREFIX = "compiled/"
"""Before `optimizer` and `learning_rate` where they are a compiled model's own, not the options."""

CHECKPOINT_FOLDER = "checkpoint"
"""Folder of the artifacts that `fm-mlflow resume` goes on from; two files take turns."""

MODEL_NAME = "model"
"""Name of the logged MLflow model."""

KIND_TRAINING = "training"
"""Value of the tag `fm_mlflow.kind` on a training run."""

KIND_COMPARISON = "comparison"
"""The same on a comparison."""

KIND_BENCHMARK = "benchmark"
"""The same on the parent run of a benchmark's trainings."""

KIND_REGISTRATION = "registration"
"""The same on the run that `mlflow run` opens for registering a model."""

RUNNING, FINISHED, FAILED, KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"
"""Status of a run: under way; ended well; ended by an error; stopped from outside."""

ENDED = frozenset({FINISHED, FAILED, KILLED})
"""Status of a run that has ended."""


def all_keys() -> list[Key]:
    """Every key, in the order of this file."""
    return [value for value in globals().values() if isinstance(value, Key)]


def markdown() -> str:
    """The documentation page that lists every key."""
    lines = ["# Names in the tracking store", "", "Generated from `fm_mlflow/keys.py`."]
    keys = all_keys()
    for group in dict.fromkeys(key.group for key in keys):
        lines += ["", f"## {group}", "", "| name | unit | meaning |", "|---|---|---|"]
        lines += [f"| `{key}` | {key.unit} | {key.meaning} |" for key in keys if key.group == group]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(markdown())
