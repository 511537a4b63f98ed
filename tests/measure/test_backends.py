"""Costs of Keras models on JAX and PyTorch: each backend in a process that has no TensorFlow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from fm_mlflow import keys
from tests.processes import PROJECT

BACKENDS = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("jax", "torch")]
Found = dict[str, Any]

# As if TensorFlow were not installed.
CODE = """
import runpy, sys
sys.modules["tensorflow"] = None
runpy.run_module("tests.measure.on_backend", run_name="__main__")
"""


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    return name


@pytest.fixture(scope="module")
def found(backend: str, store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Found:
    from tests.stores import make_store

    store = make_store(store_template, tmp_path_factory.mktemp(backend))
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=PROJECT,
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "XLA_FLAGS": "",  # with those of the tests, JAX does not repeat a fit bit for bit
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_TRACKING_URI": store.uri,
        },
        stdout=subprocess.PIPE,
        check=True,
    )
    measured: Found = json.loads(done.stdout.splitlines()[-1])
    return measured


@pytest.fixture(scope="module")
def costs(found: Found) -> dict[str, Found]:
    return {each["name"]: each for each in found["costs"]}


CORE = {
    "mlp": 1_007_104,
    "cnn": 4_045_824,
    # Products and their two gradients; the layer that takes the input has one gradient less.
    "attention": 2 * 3 * 2 * 6 * 8 * 8 + 3 * (2 * 2 * 2 * 6 * 6 * 4 + 2 * 6 * 8 * 8),
    "dense": 2 * 2 * 3 * 5,
    "grouped": 2 * 2 * 36 * 9 * 2 * 8,
    "plain": 2 * 2 * 3 * 5,
    # 25 positions, the taps on padding counted as ours are.
    "strided": 2 * 2 * 25 * 9 * 3 * 5,
    # Larger kernels than maps.
    "small map": 2 * 2 * 4 * 9 * 3 * 4 + 3 * 2 * 4 * 25 * 4 * 2,
    "transposed": 2 * 2 * 16 * 9 * 2 * 3,
    "two convolutions": 2 * 2 * 16 * 9 * 1 * 2 + 3 * 2 * 4 * 9 * 2 * 3,
}
"""FLOPs of the products and convolutions of a training step, an example, by hand."""

STEP = 2 * 4 * 4
"""FLOPs of a step of the recurrent net for each value that it takes: 4 gates of 4 units."""


@pytest.mark.parametrize("name", CORE)
def test_products_of_a_training_step_are_those_by_hand(found: Found, name: str) -> None:
    profile = found["counted"][name]
    assert profile["training_core"] == CORE[name], profile
    assert profile["unsupported"] == {}


def test_a_loop_counts_as_often_as_it_runs(backend: str, found: Found) -> None:
    loop, unrolled = (found["counted"][name] for name in ("recurrent", "unrolled"))
    # Inputs and states, forward and for the weights; of the states also their own gradients. The
    # first needs none, which only a loop computes.
    products = 2 * 7 * (3 + 4) * STEP + 6 * 4 * STEP
    assert unrolled["training_core"] == products
    first = 4 * STEP if backend == "jax" else 0
    assert loop["training_core"] == products + first
    assert loop["inference"] == unrolled["inference"] >= 7 * (3 + 4) * STEP
    assert loop["beside"] == unrolled["beside"]


def test_what_the_counter_sees_is_said(backend: str, found: Found) -> None:
    mlp, dense = (found["counted"][name] for name in ("mlp", "dense"))
    assert dense["inference"] == 2 * 3 * 5
    if backend == "torch":
        assert "FlopCounterMode" in mlp["method"]
        assert mlp["inference"] == 469_504
        assert mlp["training"] == mlp["training_core"]
        return
    assert "XLA's cost analysis" in mlp["method"]
    # 394 biases, 384 comparisons of relu; the softmax of 10 has 39, and its exponentials aside.
    assert mlp["inference"] == 469_504 + 394 + 384 + 39
    assert mlp["beside"] == {"transcendentals": 10}
    # SGD multiplies and subtracts, for each weight; it counts its steps.
    assert dense["optimizer_step"] == pytest.approx(2 * 15, abs=2)


def test_the_whole_fit_counts_the_optimizer_once_a_step(found: Found) -> None:
    profile = found["counted"]["mlp"]
    metrics = {each["name"]: each["value"] for each in profile["metrics"]}
    # 10 images in batches of 4: 3 steps an epoch, of 2 epochs.
    images = profile["training"] - profile["optimizer_step"] / 4
    total = 20 * images + 6 * profile["optimizer_step"]
    assert metrics[keys.FLOPS_TRAINING_TOTAL] == pytest.approx(total)


def test_operations_without_a_formula_are_listed(backend: str, found: Found) -> None:
    listed = found["counted"]["inverse"]["inference_unsupported"]
    assert ("lu" if backend == "jax" else "linalg_inv_ex") in listed


def test_what_cannot_be_counted_says_why(backend: str, found: Found) -> None:
    assert "no arithmetic" in found["counted"]["no arithmetic"]["error"] or backend == "torch"
    assert "error" in found["counted"]["no arithmetic"]
    if backend == "jax":
        assert "a loop runs as often as the data say" in found["counted"]["loop"]["error"]
        assert "XLA tells no costs of what it has not compiled for cpu" in found["untold"]
    else:  # it is run
        assert found["counted"]["loop"]["training_core"] == 2 * 2 * 3 * 5


def test_measuring_leaves_the_fit_as_it_was(found: Found) -> None:
    # Its state is compared before and after in the process itself.
    assert found["same fit"]


def test_costs_are_measured_or_say_why(backend: str, costs: dict[str, Found]) -> None:
    allocators = {keys.MEMORY_ALLOCATOR_PEAK, keys.MEMORY_DEVICE_PEAK}
    missing = {
        name
        for name, each in costs.items()
        if each["value"] is None and not name.startswith("energy/")
    }
    # An eager call is too slow for the 99th percentile.
    assert missing - {keys.LATENCY_P99} <= {keys.FLOPS_KERAS} | allocators
    title = {"jax": "JAX", "torch": "PyTorch"}[backend]
    assert all(title in costs[name]["reason"] for name in missing - {keys.LATENCY_P99})
    assert title in costs[keys.MFU]["method"]
    assert {"jax": "jax.jit", "torch": "inference_mode"}[backend] in costs[keys.LATENCY_P50][
        "method"
    ]
    # Weights of 20 x 4, 23 x 4 + 4 and 2 x 3; the statistics of 3 numbers.
    assert costs[keys.PARAMETERS_TRAINABLE]["value"] == 80 + 96 + 6
    assert costs[keys.PARAMETERS_NON_TRAINABLE]["value"] == 6
    # Two dense layers of 23 inputs; the embedding has a gradient, so they have both.
    assert costs[keys.FLOPS_TRAINING_CORE]["value"] == 3 * 2 * 23 * 4
    assert costs[keys.MEMORY_TRAINING]["value"] > 0


def test_machine_names_the_backend(backend: str, found: Found) -> None:
    title = {"jax": "JAX", "torch": "PyTorch"}[backend]
    versions = found["machine"]["versions"]
    assert f"{title} {metadata.version(backend)}, Keras" in versions
    assert "TensorFlow" not in versions


def test_a_callback_logs_the_costs(found: Found) -> None:
    logged = found["callback"]
    assert logged["status"] == "FINISHED"
    assert logged["metrics"][keys.FLOPS_TRAINING_CORE] == CORE["mlp"]
    assert logged["metrics"][keys.MEMORY_PEAK] > 0
    assert keys.MEASUREMENTS_FILE in logged["files"]
    assert "flops" not in logged["files"]  # no counter but ours sees layers


def test_neither_tensorflow_nor_mlflow_is_imported(backend: str, found: Found) -> None:
    assert backend in found["imported"]
    assert not {"tensorflow", "mlflow"} & set(found["imported"])
