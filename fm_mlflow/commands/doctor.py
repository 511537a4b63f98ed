"""Look at everything that a training needs, and say what is missing before one is started."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from fm_mlflow import __version__
from fm_mlflow.data import fashion_mnist
from fm_mlflow.errors import FmMlflowError
from fm_mlflow.listeners import ProgressListener
from fm_mlflow.measure.machine import describe_machine, processor_features
from fm_mlflow.process.quiet import import_tensorflow
from fm_mlflow.process.redaction import one_line
from fm_mlflow.results.doctor import DoctorResult, Finding

_PACKAGE = "fm_mlflow"


def doctor(*, progress: ProgressListener | None = None) -> DoctorResult:
    """Check Python, packages, TensorFlow, the tracking store, the data and pending journals.

    Nothing is written: a store that does not exist yet is not created.

    Args:
        progress: Told each step; by default nothing is said.

    Returns:
        The findings; `wrong` holds those that would stop a training.

    Examples:
        >>> fm_mlflow.doctor().wrong
    """
    progress = progress or ProgressListener()
    findings = [_python(), *_packages()]
    progress.stage("importing TensorFlow")
    findings += _tensorflow()
    progress.stage("asking the tracking store")
    findings += [_store(), _data(), _journals()]
    return DoctorResult(tuple(findings))


def _python() -> Finding:
    version = platform.python_version()
    accepted = str(metadata.metadata(_PACKAGE)["Requires-Python"])
    if version in SpecifierSet(accepted):
        return Finding("Python", f"{version}, {platform.system()} {platform.machine()}")
    return Finding("Python", f"{version}; tested with {accepted}", "wrong")


def _packages() -> Iterator[Finding]:
    wanted = [Requirement(line) for line in metadata.requires(_PACKAGE) or ()]
    needed = [each for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    fine = 0
    for each in needed:
        try:
            version = metadata.version(each.name)
        except metadata.PackageNotFoundError:
            yield Finding(each.name, f"not installed; pip install '{each}'", "wrong")
            continue
        if version in each.specifier:
            fine += 1
        else:
            yield Finding(each.name, f"{version}; tested with {each.specifier}", "note")
    found = f"{_PACKAGE} {__version__}; {fine} of {len(needed)} within the tested ranges"
    yield Finding("packages", found)


def _tensorflow() -> Iterator[Finding]:
    try:
        import_tensorflow()
    except Exception as error:  # whatever a broken installation raises
        yield Finding("TensorFlow", f"cannot be imported: {one_line(error)}", "wrong")
        return
    machine = describe_machine()
    gpus = f"; GPUs: {', '.join(machine.gpus)}" if machine.gpus else "; no GPU"
    yield Finding("TensorFlow", f"{machine.tensorflow}, Keras {machine.keras}{gpus}")
    found = f"{machine.cpu}, {machine.usable_cores} of {machine.logical_cores} cores usable"
    features = processor_features()
    yield Finding("processor", f"{found}; {', '.join(features) or 'features unknown'}")
    memory = f"{machine.memory_gib:.1f} GiB; load {machine.load_average or 0:.1f}"
    busy = (machine.load_average or 0) > machine.usable_cores / 2
    told = f"{memory}: times taken now would not be clean" if busy else memory
    yield Finding("memory, load", told, "note" if busy else "ok")


def _store() -> Finding:
    from fm_mlflow.tracking.probe import probe
    from fm_mlflow.tracking.store import tracking_uri

    try:
        return Finding("tracking store", f"{tracking_uri()}: {probe()}")
    except FmMlflowError as error:
        return Finding("tracking store", one_line(error), "wrong")


def _data() -> Finding:
    try:
        folder = fashion_mnist.find_folder("")
    except FmMlflowError as error:
        return Finding("Fashion-MNIST", one_line(error), "wrong")
    if folder is not None:
        return Finding("Fashion-MNIST", str(folder))
    found = "not on this machine; the first training downloads it (29 MiB); digits needs none"
    return Finding("Fashion-MNIST", found, "note")


def _journals() -> Finding:
    from fm_mlflow.tracking.outbox.journal import journals

    try:
        pending = len(list(journals()))
    except FmMlflowError as error:
        return Finding("journals", one_line(error), "wrong")
    if not pending:
        return Finding("journals", "nothing is pending")
    return Finding(
        "journals", f"{pending} here; `fm-mlflow sync` delivers those whose run has ended", "note"
    )
