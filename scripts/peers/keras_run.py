"""Keras 3, on JAX unless another backend was chosen: `fit` on in-memory arrays, as the puzzle's sources train."""

from __future__ import annotations

import os
from collections.abc import Callable
from time import perf_counter

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras

from peers.mnist import BATCH, CLASSES, IMAGES, LEARNING_RATE, WIDTH, test_set, training_set


class Stopwatch(keras.callbacks.Callback):  # type: ignore[misc]  # keras is untyped
    """Times the epoch alone, without what `fit` does around it."""

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:  # Keras calls it with both
        self.start = perf_counter()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.seconds = perf_counter() - self.start


def prepare(steps_per_execution: int = 1, *, images: int = IMAGES) -> tuple[Callable[[], float], Callable[[], float]]:
    """(train one epoch and return its seconds, accuracy on the test images)."""
    images_NI, labels_N = training_set(images)
    dense = keras.layers.Dense
    model = keras.Sequential([keras.Input((784,)), dense(WIDTH, activation="relu"), dense(CLASSES)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(LEARNING_RATE), loss, steps_per_execution=steps_per_execution)
    stopwatch = Stopwatch()

    def epoch() -> float:
        model.fit(images_NI, labels_N, batch_size=BATCH, epochs=1, verbose=0, callbacks=[stopwatch])
        return stopwatch.seconds

    def accuracy() -> float:
        images, labels = test_set()
        return float((model.predict(images, batch_size=10_000, verbose=0).argmax(1) == labels).mean())

    return epoch, accuracy
