"""A training loop of one's own, with a gradient tape: `track` times its epochs.

python examples/own_loop.py
"""

import keras
import tensorflow as tf
from sklearn.datasets import load_digits

import fm_mlflow

digits = load_digits()
x, y = (digits.data / 16).astype("float32"), digits.target
batches = tf.data.Dataset.from_tensor_slices((x[:1400], y[:1400])).shuffle(1400, seed=0).batch(50)

with fm_mlflow.track("own-loop", seed=0, dataset="digits") as run:
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])  # so that the step can be profiled

    @tf.function
    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Learn from one batch."""
        with tf.GradientTape() as tape:
            value = loss(labels, model(images, training=True))
        gradients = tape.gradient(value, model.trainable_variables)
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return value

    for _ in range(5):
        with run.epoch(examples=1400) as metrics:
            losses = [step(images, labels) for images, labels in batches]
            metrics["loss"] = float(tf.reduce_mean(losses))
    run.measure(model, x[:256], y[:256], batch_size=50)
    print(run.evaluate(model, x[1400:], y[1400:]).metrics)
    run.log_model(model, x[1400:1408])
