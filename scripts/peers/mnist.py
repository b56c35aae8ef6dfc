"""MNIST for every peer, read the shortest way; nothing here comes from the project under measurement."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

IMAGES = 60_000
BATCH = 100
WIDTH = 100
PIXELS = 784
CLASSES = 10
LEARNING_RATE = 0.01


def root() -> Path:
    """The data folder in torchvision's layout: MLP_STUDY_DATA, or data/; absolute, for commands that run elsewhere."""
    return Path(os.environ.get("MLP_STUDY_DATA", "data")).resolve()


def _idx(name: str, header: int) -> NDArray[np.uint8]:
    path = root() / "MNIST" / "raw" / name
    packed = path.with_name(path.name + ".gz")
    content = gzip.decompress(packed.read_bytes()) if packed.exists() else path.read_bytes()
    return np.frombuffer(content, np.uint8, offset=header)


def _part(name: str, images: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    images_NI = _idx(f"{name}-images-idx3-ubyte", 16).reshape(-1, PIXELS)[:images]
    labels_N = _idx(f"{name}-labels-idx1-ubyte", 8)[:images]
    return np.divide(images_NI, 255, dtype=np.float32), labels_N.astype(np.int64)


def training_set(images: int = IMAGES) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The first N of the 60,000 images [N, 784] in [0, 1], and their labels [N]."""
    return _part("train", images)


def test_set() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images [10000, 784] in [0, 1] and labels [10000]."""
    return _part("t10k", 10_000)
