"""Keras on PyTorch: the same line, the same costs, measured by PyTorch's means.

pip install torch
KERAS_BACKEND=torch python examples/torch_backend.py
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
from sklearn.datasets import load_digits

import fm_mlflow

digits = load_digits()
x, y = (digits.images / 16).astype("float32")[..., None], digits.target

keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        keras.layers.Conv2D(8, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10, activation="softmax"),
    ],
    name="digits-cnn",
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(
    x[:1400],
    y[:1400],
    epochs=3,
    verbose=0,
    callbacks=[fm_mlflow.CostCallback(seed=0, dataset="digits")],
)
print(fm_mlflow.measure_model(model, x[:256], y[:256], measure="latency"))
