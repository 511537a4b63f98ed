"""A classifier that takes texts as they are: words are split and numbered inside the model.

python examples/text.py
"""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import fm_mlflow

WORDS = {
    0: ("dull", "slow", "empty", "a waste of time", "I left early"),
    1: ("warm", "funny", "well told", "a joy", "I saw it twice"),
}
random = np.random.default_rng(0)
labels = random.integers(0, 2, 600)
texts = np.array([", ".join(random.choice(WORDS[label], 3)) for label in labels])
train = tf.data.Dataset.from_tensor_slices((texts[:500], labels[:500])).batch(25)
test = tf.data.Dataset.from_tensor_slices((texts[500:], labels[500:])).batch(25)

with fm_mlflow.track("bag-of-words", seed=0, dataset="made-up reviews") as run:
    vectorize = layers.TextVectorization(max_tokens=200, output_sequence_length=16)
    vectorize.adapt(texts[:500])
    model = keras.Sequential(
        [
            keras.Input((), dtype="string"),
            vectorize,
            layers.Embedding(200, 8),
            layers.GlobalAveragePooling1D(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    model.fit(train, epochs=5, verbose=0, callbacks=[run.costs])
    print(run.evaluate(model, test).metrics)
