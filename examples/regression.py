"""A regression on a table, fed by tf.data: tracked whole, with several seeds.

python examples/regression.py
fm-mlflow compare --metric test_mae --smaller-is-better
"""

import sys

import keras
import tensorflow as tf
from sklearn.datasets import load_diabetes

import fm_mlflow

table = load_diabetes()
x, y = table.data.astype("float32"), table.target.astype("float32")
x_train, y_train, x_test, y_test = x[:350], y[:350], x[350:], y[350:]


def build(width: int) -> keras.Model:
    """Return a net of one hidden layer."""
    model = keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(width, activation="relu"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    return model


def main(seeds: int, epochs: int) -> None:
    """Train two widths with each seed."""
    data = {"training": (x_train, y_train), "test": (x_test, y_test)}
    for width in (8, 64):
        for seed in range(seeds):
            name = f"width-{width}"
            with fm_mlflow.track(name, seed=seed, dataset="diabetes", data=data) as run:
                model = build(width)
                batches = tf.data.Dataset.from_tensor_slices((x_train, y_train))
                batches = batches.shuffle(350, seed=seed).batch(32)
                model.fit(batches, epochs=epochs, verbose=0, callbacks=[run.costs])
                scores = run.evaluate(model, x_test, y_test).metrics
                run.log_model(model, x_test[:8])
            print(f"{name}, seed {seed}: test_mae {scores['test_mae']:.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:] or ("3", "20")))
