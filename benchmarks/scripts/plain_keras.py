"""The reference protocol as a plain Keras script: `plain_keras.py mlp|cnn DATA_DIR SEED`."""

from __future__ import annotations

import gzip
import sys
import time
from pathlib import Path

import numpy as np


def read(folder: Path, name: str, header: int) -> np.ndarray:
    """Read an IDX file, compressed or not."""
    compressed = folder / f"{name}.gz"
    data = (
        gzip.decompress(compressed.read_bytes())
        if compressed.is_file()
        else (folder / name).read_bytes()
    )
    return np.frombuffer(data, np.uint8, offset=header)


def main(model_name: str, folder: Path, seed: int) -> None:
    """Load, train, evaluate, save."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    x_train = read(folder, "train-images-idx3-ubyte", 16).reshape(-1, 28, 28)
    y_train = read(folder, "train-labels-idx1-ubyte", 8)
    x_test = read(folder, "t10k-images-idx3-ubyte", 16).reshape(-1, 28, 28)
    y_test = read(folder, "t10k-labels-idx1-ubyte", 8)
    x_train, x_test = x_train.astype("float32") / 255, x_test.astype("float32") / 255
    if model_name == "cnn":
        x_train, x_test = x_train[..., np.newaxis], x_test[..., np.newaxis]
        model = keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                layers.Conv2D(16, 3, activation="relu"),
                layers.MaxPooling2D(2),
                layers.Conv2D(32, 3, activation="relu"),
                layers.MaxPooling2D(2),
                layers.Flatten(),
                layers.Dense(64, activation="relu"),
                layers.Dense(10, activation="softmax"),
            ]
        )
    else:
        model = keras.Sequential(
            [
                keras.Input((28, 28)),
                layers.Flatten(),
                layers.Dense(256, activation="relu"),
                layers.Dense(128, activation="relu"),
                layers.Dense(10, activation="softmax"),
            ]
        )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

    epochs: list[float] = []
    clock = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda _epoch, _logs: epochs.append(time.perf_counter()),
        on_epoch_end=lambda _epoch, _logs: epochs.append(time.perf_counter() - epochs.pop()),
    )
    began = time.perf_counter()
    model.fit(
        x_train,
        y_train,
        batch_size=64,
        epochs=5,
        validation_data=(x_test, y_test),
        callbacks=[clock],
        verbose=2,
    )
    fit_seconds = time.perf_counter() - began
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    model.save("model.h5")
    print(
        f'RESULT {{"epoch_seconds": {epochs}, "fit_seconds": {fit_seconds}, '
        f'"test_accuracy": {accuracy}, "test_loss": {loss}}}'
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
