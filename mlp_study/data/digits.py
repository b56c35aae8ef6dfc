"""The embedded data set: scikit-learn's 1,797 handwritten digits, 8x8, resized to 28x28 bytes."""

from __future__ import annotations

import gzip
import random
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mlp_study.errors import DataError
from mlp_study.factors.table import lazy_module

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_module("torch")

SIZE, SMALL, CLASSES = 28, 8, 10
TEST_PER_CLASS = 36  # 360 of 1,797: a fifth, the same for each class
SPLIT_SEED = 0


def read_digits() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Read training and test part, each (images uint8 [N, 28, 28], labels int64 [N]): 1,437 and 360 images.

    They are the same on every machine. Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits"
    (UCI, 1998), its test part, as scikit-learn carries it.

    Raises:
        DataError: scikit-learn is not installed whole.
    """
    small_N88, labels_N = _read_small()
    images_NHW = _enlarge(small_N88)
    test_N = _test_rows(labels_N)
    return (images_NHW[~test_N], labels_N[~test_N]), (images_NHW[test_N], labels_N[test_N])


def _read_small() -> tuple[Tensor, Tensor]:
    """Read scikit-learn's table: importing scikit-learn for it takes a second, reading it a hundredth."""
    package = find_spec("sklearn")
    path = Path((package and package.origin) or "", "..", "datasets", "data", "digits.csv.gz").resolve()
    try:
        rows = [[int(value) for value in line.split(b",")] for line in gzip.decompress(path.read_bytes()).splitlines()]
    except (OSError, ValueError, EOFError):
        raise DataError(f"{path} is missing or damaged; install scikit-learn again") from None
    table = torch.tensor(rows, dtype=torch.int64)
    return table[:, :-1].view(-1, SMALL, SMALL), table[:, -1].contiguous()


def _enlarge(small_N88: Tensor) -> Tensor:
    """Interpolate bilinearly between pixel centres, 0..16 to 0..255, rounded half up.

    All in integers, as weights of 1/14 are, so that no machine's rounding can change a pixel.
    """
    weight = torch.zeros(SIZE, SMALL, dtype=torch.int64)
    for i in range(
        SIZE
    ):  # pixel i's centre lies at (i + 1/2) 8/28 - 1/2 = (4i - 5)/14 on the small grid, held inside it
        low, part = divmod(min(max(4 * i - 5, 0), 14 * (SMALL - 1)), 14)
        weight[i, low] += 14 - part
        weight[i, min(low + 1, SMALL - 1)] += part
    scaled = 255 * (weight @ small_N88 @ weight.t())
    whole = 16 * 14 * 14
    return ((2 * scaled + whole) // (2 * whole)).to(torch.uint8)


def _test_rows(labels_N: Tensor) -> Tensor:
    """Draw the mask [N] of the test images by a fixed seed: the same number of each class."""
    draw = random.Random(SPLIT_SEED).random  # the one sequence that Python promises to keep for a seed
    test_N = torch.zeros(len(labels_N), dtype=torch.bool)
    for digit in range(CLASSES):
        rows = (labels_N == digit).nonzero().flatten().tolist()
        test_N[sorted(rows, key=lambda _: draw())[:TEST_PER_CLASS]] = True
    return test_N
