"""Keras 3 on TensorFlow: the same code as on JAX."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "tensorflow"  # before Keras is imported
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

from peers.keras_run import prepare

__all__ = ["prepare"]
