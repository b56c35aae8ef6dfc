"""The data of the corpus: bundled tables, synthetic ones, and real images; each is (x, y) as a person would load it."""

from __future__ import annotations

import gzip
import os
from functools import cache
from pathlib import Path

import numpy as np
import torch
from sklearn import datasets
from torch import Tensor

Table = tuple[Tensor, Tensor]
"""Inputs [N, ...] float32 and targets: class numbers [N] int64, values [N] float32 or labels [N, L] float32."""


def _table(x: np.ndarray, y: np.ndarray) -> Table:
    real = np.asarray(y).dtype.kind == "f"
    return torch.tensor(np.asarray(x, np.float32)), torch.tensor(y, dtype=torch.float32 if real else torch.int64)


def standard(table: Table) -> Table:
    """Standardise each column."""
    x, y = table
    deviation = x.std(0)
    return (x - x.mean(0)) / torch.where(deviation > 0, deviation, 1.0), y


def scaled_target(table: Table, factor: float, offset: float = 0.0) -> Table:
    """Replace y by offset + factor * (y in standard units)."""
    x, y = table
    return x, offset + factor * (y - y.mean()) / y.std()


def mixed(table: Table, seed: int = 5) -> Table:
    """Permute the targets against their inputs: nothing is left to learn."""
    x, y = table
    return x, y[torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))]


def in_order(table: Table) -> Table:
    """Sort the examples by their target."""
    x, y = table
    order = torch.argsort(y, stable=True)
    return x[order], y[order]


def first(table: Table, n: int) -> Table:
    """Keep the first n examples."""
    return table[0][:n], table[1][:n]


@cache
def digits(n: int = 900) -> Table:
    """8x8 images, 0..16 as scikit-learn gives them, divided by 16."""
    d = datasets.load_digits()
    return _table(d.data[:n] / 16, d.target[:n].astype(np.int64))


@cache
def digit_images(n: int = 900) -> Table:
    """The same as images [N, 1, 8, 8]."""
    x, y = digits(n)
    return x.reshape(-1, 1, 8, 8), y


@cache
def bundled(name: str) -> Table:
    """One of iris, wine, breast_cancer, in random order and in their own units."""
    d = getattr(datasets, f"load_{name}")()
    order = np.random.default_rng(3).permutation(len(d.data))
    return _table(d.data[order], d.target[order].astype(np.int64))


@cache
def diabetes() -> Table:
    """Measured columns in their own units, and a target of 25..346."""
    x, y = datasets.load_diabetes(return_X_y=True, scaled=False)
    return _table(x, y.astype(float))


@cache
def moons(n: int = 600, noise: float = 0.15) -> Table:
    """Two half circles."""
    x, y = datasets.make_moons(n, noise=noise, random_state=4)
    return _table(x, y.astype(np.int64))


@cache
def rings(n: int = 600) -> Table:
    """A circle inside another."""
    x, y = datasets.make_circles(n, noise=0.08, factor=0.5, random_state=4)
    return _table(x, y.astype(np.int64))


@cache
def clouds(n: int = 600, classes: int = 4, spread: float = 1.2) -> Table:
    """Gaussian clouds in five dimensions."""
    x, y = datasets.make_blobs(n, 5, centers=classes, cluster_std=spread, random_state=6)
    return _table(x, y.astype(np.int64))


@cache
def friedman(n: int = 600) -> Table:
    """Friedman's first regression problem: ten columns of 0..1, target about 0..30."""
    x, y = datasets.make_friedman1(n, noise=0.5, random_state=2)
    return _table(x, y)


@cache
def wave(n: int = 400) -> Table:
    """One input of -3..3 and its sine."""
    x = np.sort(np.random.default_rng(1).uniform(-3, 3, n))
    return _table(x[:, None], np.sin(2 * x))


@cache
def plane(n: int = 500, columns: int = 6) -> Table:
    """A linear function of standard columns with a little noise."""
    rng = np.random.default_rng(8)
    x = rng.normal(size=(n, columns))
    return _table(x, x @ np.linspace(-1, 2, columns) + 0.1 * rng.normal(size=n))


@cache
def people(n: int = 900) -> Table:
    """Age, yearly salary, hours a week and years at school, in their units: who takes a loan depends on all of them."""
    rng = np.random.default_rng(11)
    age, school = rng.uniform(18, 80, n), rng.integers(6, 20, n)
    salary, hours = np.exp(rng.normal(10.6, 0.5, n)), rng.normal(38, 8, n)
    said = (age - 49) / 18 + (np.log(salary) - 10.6) / 0.5 - (hours - 38) / 8 + (school - 12.5) / 4
    return _table(np.c_[age, salary, hours, school], (said > 0).astype(np.int64))


@cache
def machines(n: int = 900) -> Table:
    """A time stamp, a pressure in pascal, a share and a speed; three states."""
    rng = np.random.default_rng(12)
    hour, speed = rng.uniform(0, 24, n), rng.normal(0.002, 0.0005, n)
    pressure, share = rng.normal(101_325, 800, n), rng.uniform(0, 1, n)
    said = (hour - 12) / 7 + (speed - 0.002) / 0.0005 + (pressure - 101_325) / 800 + (share - 0.5) / 0.29
    return _table(np.c_[1.6e9 + 3600 * hour, pressure, share, speed], np.digitize(said, [-0.9, 0.9]).astype(np.int64))


@cache
def rents(n: int = 600) -> Table:
    """Square metres, year, distance in metres and floor; the rent in a currency's hundredths."""
    rng = np.random.default_rng(13)
    size, year = rng.uniform(20, 160, n), rng.integers(1900, 2024, n)
    far, floor = rng.exponential(4000, n), rng.integers(0, 9, n)
    rent = 1200 * size + 300 * (year - 1900) - 5 * far + 1500 * floor + rng.normal(0, 4000, n)
    return _table(np.c_[size, year, far, floor], rent)


@cache
def rare(n: int, share: float, distance: float, columns: int = 8, classes: int = 2) -> Table:
    """Standard normal columns; each rare class is shifted by `distance` along a direction of its own."""
    rng = np.random.default_rng(17)
    y = rng.choice(classes, n, p=[1 - share * (classes - 1)] + [share] * (classes - 1))
    shift = np.eye(columns)[:classes] * distance
    shift[0] = 0
    return _table(rng.normal(size=(n, columns)) + shift[y], y.astype(np.int64))


@cache
def one_digit_among_all(digit: int, n: int = 1500) -> Table:
    """Is it this digit? About one in ten is."""
    x, y = digits(n)
    return x, (y == digit).long()


@cache
def tags(n: int = 700, labels: int = 4, columns: int = 10) -> Table:
    """Several yes-or-no labels an example, each a linear rule."""
    rng = np.random.default_rng(19)
    x = rng.normal(size=(n, columns))
    return _table(x, (x @ rng.normal(size=(columns, labels)) + 0.2 > 0).astype(float))


@cache
def stripes(n: int = 600, side: int = 12) -> Table:
    """Noisy images [N, 1, S, S] of horizontal, vertical or diagonal stripes at random places."""
    rng = np.random.default_rng(23)
    y, phase = rng.integers(0, 3, n), rng.uniform(0, 6.28, n)
    row, column = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    along = np.stack([row, column, (row + column) / 1.41])[y]
    x = np.sin(1.6 * along + phase[:, None, None]) + 0.5 * rng.normal(size=(n, side, side))
    return _table(x[:, None], y.astype(np.int64))


@cache
def images(folder: str, n: int = 1500) -> Table:
    """The first images of MNIST or FashionMNIST [N, 784], 0..255, below the folder that MLP_STUDY_DATA names."""
    root = Path(os.environ["MLP_STUDY_DATA"]) / folder / "raw"

    def read(name: str, skip: int, size: int) -> np.ndarray:
        packed = root / f"{name}.gz"
        with gzip.open(packed) if packed.exists() else (root / name).open("rb") as file:
            return np.frombuffer(file.read(skip + size), np.uint8, offset=skip)

    x = read("train-images-idx3-ubyte", 16, 784 * n).reshape(n, 784)
    return _table(x.astype(np.float32), read("train-labels-idx1-ubyte", 8, n).astype(np.int64))
