"""TensorFlow's own account of its memory, where it keeps one."""

from __future__ import annotations

import json
import sys

import pytest
import tensorflow as tf

from fm_mlflow import keys
from fm_mlflow.measure.measurement import MIB
from fm_mlflow.measure.memory import MemoryMonitor
from tests import forked

CODE = """
import json, os
# TensorFlow's allocators for the host do not all keep statistics; this one does.
os.environ["TF_CPU_ALLOCATOR_USE_BFC"] = "true"
import tensorflow as tf
from fm_mlflow.measure.memory import MemoryMonitor

def floats(mib):
    return tf.fill((mib << 18,), 1.0)

with MemoryMonitor() as monitor:
    monitor.phase("model")
    weights = floats(100)
    before = floats(300)
    del before
    monitor.phase("training")
    first = floats(50)
    del first
    second = floats(50)
    monitor.phase("evaluation")
    after = floats(400)
print(json.dumps({m.name: m.value for m in monitor.measurements()}))
"""


def test_allocator_peak_is_that_of_training() -> None:
    done = forked.run([sys.executable, "-c", CODE])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    # 100 MiB of weights, kept, and 50 at a time; neither the 300 before nor the 400 after. This
    # allocator counts whole chunks: 100 MiB may sit in 128.
    assert 150 <= found[keys.MEMORY_ALLOCATOR_PEAK] <= 150 + 64


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="there is a GPU")
def test_figure_of_the_host_or_the_reason_and_no_device() -> None:
    with MemoryMonitor() as monitor:
        monitor.phase("training")
        kept = tf.fill((20 << 18,), 1.0)
    host, device = monitor.measurements()[3:]
    assert device.value is None
    assert "no GPU:0 here" in (device.reason or "")
    try:  # It depends on the processor: oneDNN's allocator keeps statistics.
        current = tf.config.experimental.get_memory_info("CPU:0")["current"]
    except ValueError:
        assert host.value is None
        assert "keeps no statistics" in (host.reason or "")
    else:
        assert 20 <= (host.value or 0) <= current / MIB + 64
    del kept
