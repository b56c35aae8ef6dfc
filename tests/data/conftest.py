"""IDX files for the tests of what reads them."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Writer = Callable[..., bytes]


@pytest.fixture(scope="session")
def write_idx() -> Writer:
    """Write an array as an IDX file, compressed if the path says so; returns the bytes before compression."""

    def write(path: Path | None, array: np.ndarray) -> bytes:
        kind = {"uint8": 0x08, "int32": 0x0C}[array.dtype.name]
        header = struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape)
        content = header + array.astype(array.dtype.newbyteorder(">")).tobytes()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
        return content

    return write


@pytest.fixture
def write_set(write_idx: Writer) -> Callable[..., dict[str, np.ndarray]]:
    """Write a small data set of four IDX files under MNIST's names; returns its arrays by file name."""

    def write(folder: Path, train: int = 20, test: int = 8, size: tuple[int, int] = (5, 3), ending: str = "") -> dict:
        rng = np.random.default_rng(train)
        arrays = {}
        for part, count in (("train", train), ("t10k", test)):
            arrays[f"{part}-images-idx3-ubyte"] = rng.integers(0, 256, (count, *size), dtype=np.uint8)
            arrays[f"{part}-labels-idx1-ubyte"] = np.arange(count, dtype=np.uint8) % 4
        for name, array in arrays.items():
            write_idx(folder / f"{name}{ending}", array)
        return arrays

    return write
