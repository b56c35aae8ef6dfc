"""Cases of networks that are no chain of linear layers: sequences, token numbers, pixels, own parameters, dicts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from tests.doctor import tables as t
from tests.doctor.cases_network import CE, MSE, digit_mlp, friedman
from tests.doctor.measuring import Case, case
from tests.doctor.networks import Squeeze, adam, mlp, sgd


def rows_of_digits() -> t.Table:
    """Return digits as sequences of eight rows of eight pixels [N, 8, 8]."""
    x, y = t.digits()
    return x.reshape(-1, 8, 8), y


def sentences(n: int = 800, length: int = 12, words: int = 60) -> t.Table:
    """Return word numbers [N, length]; the class says of which third of the dictionary most of them are."""
    rng = np.random.default_rng(31)
    y = rng.integers(0, 3, n)
    own = rng.random((n, length)) < 0.5
    typical = y[:, None] * (words // 3) + rng.integers(0, words // 3, (n, length))
    drawn = np.where(own, typical, rng.integers(0, words, (n, length)))
    return torch.tensor(drawn), torch.tensor(y)


def spots(n: int = 200, side: int = 12) -> t.Table:
    """Return noisy images [N, 1, S, S] and for each pixel whether it is in the bright square [N, S, S]."""
    rng = np.random.default_rng(37)
    inside = np.zeros((n, side, side), np.int64)
    for image, (row, column) in zip(inside, rng.integers(0, side - 5, (n, 2)), strict=True):
        image[row : row + 5, column : column + 5] = 1
    x = inside + 0.8 * rng.normal(size=inside.shape)
    return torch.tensor(x[:, None], dtype=torch.float32), torch.tensor(inside)


def signals(n: int = 500, length: int = 32) -> t.Table:
    """Return two noisy channels [N, 2, T]; the class is the frequency."""
    rng = np.random.default_rng(41)
    y = rng.integers(0, 3, n)
    when = np.arange(length) * (0.3 + 0.35 * y[:, None]) + rng.uniform(0, 6.28, (n, 1))
    x = np.stack([np.sin(when), np.cos(when)], 1) + 0.4 * rng.normal(size=(n, 2, length))
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


class Recurrent(nn.Module):
    """A recurrent layer and a linear one on its last state."""

    def __init__(self, kind: type[nn.RNNBase], width: int):
        super().__init__()
        self.rnn, self.head = kind(8, width, batch_first=True), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(x)
        return self.head(out[:, -1])


class Attending(nn.Module):
    """One Transformer block over rows, their mean, and a linear layer."""

    def __init__(self, width: int = 32):
        super().__init__()
        self.into, self.place = nn.Linear(8, width), nn.Parameter(0.1 * torch.randn(8, width))
        self.block = nn.TransformerEncoderLayer(width, 4, 64, dropout=0.0, batch_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.into(x) + self.place).mean(1))


class OwnParameters(nn.Module):
    """Matrices of its own instead of layers."""

    def __init__(self, deviation: float):
        super().__init__()
        self.w1, self.b1 = nn.Parameter(deviation * torch.randn(64, 48)), nn.Parameter(torch.zeros(48))
        self.w2, self.b2 = nn.Parameter(deviation * torch.randn(48, 10)), nn.Parameter(torch.zeros(10))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x @ self.w1 + self.b1) @ self.w2 + self.b2


class Bag(nn.Module):
    """The mean of word vectors and a linear layer."""

    def __init__(self, words: int = 60, width: int = 16):
        super().__init__()
        self.words, self.head = nn.Embedding(words, width), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.words(x).mean(1))


class Temperature(nn.Module):
    """Divide or multiply all logits by one learnt number."""

    def __init__(self, log: float):
        super().__init__()
        self.log = nn.Parameter(torch.tensor(log))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.log.exp()


class Dicts(Dataset):
    """Examples as dicts."""

    def __init__(self, x: Tensor, y: Tensor):
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"pixels": self.x[i], "label": self.y[i]}


def of_dicts(x: Tensor, y: Tensor, batch: Any, shuffle: bool) -> DataLoader:
    return DataLoader(Dicts(x, y), batch, shuffle)


def dict_step(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch["pixels"]), batch["label"])


def pixel_net(act: Any = nn.ReLU) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), act(), nn.Conv2d(8, 8, 3, padding=1), act(), nn.Conv2d(8, 2, 1))


def signal_net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(2, 8, 5), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3)
    )


CASES: list[Case] = [
    case("modules/gru", rows_of_digits, lambda: Recurrent(nn.GRU, 32), CE, adam(0.01), 8),
    case("modules/gru_cold", rows_of_digits, lambda: Recurrent(nn.GRU, 32), CE, sgd(1e-3), 8,
         keys="lr optimizer epochs"),
    case("modules/lstm", rows_of_digits, lambda: Recurrent(nn.LSTM, 32), CE, adam(0.01), 10, held=True),
    case("modules/transformer", rows_of_digits, Attending, CE, adam(0.003), 8, held=True),
    case("modules/transformer_hot", rows_of_digits, Attending, CE, adam(0.5), 8, keys="lr"),
    case("modules/own_parameters", t.digits, lambda: OwnParameters(0.15), CE, sgd(0.1), 15),
    case("modules/own_parameters_zero", t.digits, lambda: OwnParameters(0.0), CE, sgd(0.1), 15, keys="init"),
    case("modules/own_parameters_huge", t.digits, lambda: OwnParameters(30.0), CE, sgd(0.1), 15, keys="init lr",
         held=True),
    case("modules/words", sentences, Bag, CE, adam(0.02), 8),
    case("modules/words_cold", sentences, Bag, CE, sgd(0.01), 8, keys="lr optimizer epochs"),
    case("modules/pixels", spots, pixel_net, CE, adam(0.01), 15, batch=16, best=0.8),
    case("modules/pixels_sigmoid_sgd", spots, lambda: pixel_net(nn.Sigmoid), CE, sgd(0.05), 6, batch=16, best=0.8,
         keys="activation lr optimizer epochs init normalization class_weights", held=True),
    case("modules/signals", signals, signal_net, CE, adam(0.005), 8),
    case("modules/signals_raw", lambda: (signals()[0] * 3e4, signals()[1]), signal_net, CE, sgd(0.01), 8,
         keys="scale lr normalization"),
    case("modules/dict_batches", t.digits, digit_mlp, None, sgd(0.1), 12, form=of_dicts, step=dict_step),
    case("modules/dict_batches_cold", t.digits, digit_mlp, None, sgd(1e-4), 12, form=of_dicts, step=dict_step,
         keys="lr optimizer epochs", held=True),
    case("modules/flat_regression", friedman, lambda: mlp(10, 32, 1, tail=[Squeeze()]), MSE, adam(0.01), 20,
         encode="flat", reads="value", best=0.85),
    case("modules/log_scale_parameter", t.digits, lambda: mlp(64, 64, 10, tail=[Temperature(math.log(1e-3))]), CE,
         sgd(0.1), 12,
         keys="lr optimizer init layers output_activation epochs", held=True),
]  # fmt: skip
