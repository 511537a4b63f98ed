"""One line in a `model.fit` on arrays: `CostCallback`.

    python examples/arrays.py
    fm-mlflow compare --runs RUN_ID

Logs to the active MLflow run, here to one of its own.
"""

import keras
from sklearn.datasets import load_digits

import fm_mlflow

digits = load_digits()
x, y = (digits.images / 16).astype("float32"), digits.target

keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        keras.Input((8, 8)),
        keras.layers.Flatten(),
        keras.layers.Dense(32, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ],
    name="digits-mlp",
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(
    x[:1400],
    y[:1400],
    epochs=5,
    validation_data=(x[1400:], y[1400:]),
    verbose=0,
    callbacks=[fm_mlflow.CostCallback(seed=0, dataset="digits")],  # the line that was added
)
