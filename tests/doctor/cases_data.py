"""Cases of the data: units, targets, rare classes, labels, order, what cannot be learnt, and how data are passed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, WeightedRandomSampler

from tests.doctor import tables as t
from tests.doctor.cases_network import BATCH, BCE, CE, LOGITS, MSE, breast, digit_mlp, friedman, iris, mnist, wine
from tests.doctor.measuring import Case, case
from tests.doctor.networks import adam, loader, mlp, rmsprop, sgd

REAL = {"encode": "column", "reads": "value"}


def with_offset() -> t.Table:
    """Iris, with a column of seconds since 1970 in front of it."""
    x, y = t.bundled("iris")
    when = 1.7e9 + torch.arange(len(x)) * 3600.0
    return torch.cat([when[:, None], x], 1), y


def spoilt(table: t.Table, value: float, rows: int = 7) -> t.Table:
    """Some rows have one cell that is no number."""
    x = table[0].clone()
    x[3 :: len(x) // rows, 1] = value
    return x, table[1]


def relabelled(table: t.Table, share: float) -> t.Table:
    """A share of the labels is drawn anew."""
    x, y = table
    g = torch.Generator().manual_seed(3)
    wrong = torch.rand(len(y), generator=g) < share
    return x, torch.where(wrong, torch.randint(0, int(y.max()) + 1, y.shape, generator=g), y)


def weighted(ones: float) -> nn.Module:
    return nn.BCEWithLogitsLoss(pos_weight=torch.tensor([ones]))


def even_sampler(x, y, batch, shuffle):
    weight = 1.0 / torch.bincount(y)[y]
    sampler = WeightedRandomSampler(weight, len(y), generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, y), batch_size=batch, sampler=sampler)


class Records(Dataset):
    """Examples as (array, int), as many write them."""

    def __init__(self, x, y):
        self.x, self.y = x.numpy(), y.numpy()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], int(self.y[i])


COLUMNS: list[Case] = [
    case("columns/wine_raw_adam", lambda: t.bundled("wine"), lambda: mlp(13, 32, 3), CE, adam(), 25, batch=16,
         keys="scale normalization"),
    case("columns/wine_standard", wine, lambda: mlp(13, 32, 3), CE, adam(0.005), 25, batch=16),
    case("columns/breast_raw_sgd", lambda: t.bundled("breast_cancer"), lambda: mlp(30, 16, 1), LOGITS, sgd(0.01), 20,
         encode="column", reads="zero", keys="scale normalization"),
    case("columns/people_raw_adam", t.people, lambda: mlp(4, 32, 1, tail=[nn.Sigmoid()]), BCE, adam(), 15,
         encode="column", reads="half", keys="scale normalization"),
    case("columns/people_standard", lambda: t.standard(t.people()), lambda: mlp(4, 32, 1, tail=[nn.Sigmoid()]), BCE,
         adam(0.01), 15, encode="column", reads="half"),
    case("columns/people_batchnorm", t.people, lambda: mlp(4, 32, 1, head=[BATCH(4)]), LOGITS, adam(0.01), 15,
         encode="column", reads="zero", held=True),
    case("columns/machines_raw", t.machines, lambda: mlp(4, 32, 32, 3), CE, adam(0.003), 15,
         keys="scale normalization"),
    case("columns/machines_one_scale", lambda: (t.machines()[0] / t.machines()[0].max(), t.machines()[1]),
         lambda: mlp(4, 32, 32, 3), CE, adam(0.003), 15,
         keys="scale normalization", held=True),
    case("columns/iris_raw", lambda: t.bundled("iris"), lambda: mlp(4, 24, 3), CE, adam(0.01), 30, batch=16),
    case("columns/iris_with_time", with_offset, lambda: mlp(5, 24, 3), CE, adam(0.01), 30, batch=16,
         keys="scale normalization", held=True),
    case("columns/rents_raw", lambda: t.scaled_target(t.rents(), 1.0), lambda: mlp(4, 32, 1), MSE, sgd(0.01), 25,
         keys="scale normalization lr", **REAL),
    case("columns/rents_standard", lambda: t.scaled_target(t.standard(t.rents()), 1.0), lambda: mlp(4, 32, 1), MSE,
         sgd(0.01), 25, **REAL),
    case("columns/diabetes_raw", lambda: t.scaled_target(t.diabetes(), 1.0), lambda: mlp(10, 32, 1, act=nn.Tanh), MSE,
         adam(), 30, best=0.5, keys="scale normalization", held=True, **REAL),
    case("columns/tiny_units", lambda: (wine()[0] * 1e-5, wine()[1]), lambda: mlp(13, 32, 3), CE, adam(), 25,
         batch=16, keys="scale normalization"),
]  # fmt: skip

TARGETS: list[Case] = [
    case("target_scale/rents_adam", lambda: (t.standard(t.rents())[0], t.rents()[1]), lambda: mlp(4, 32, 1), MSE,
         adam(), 25, keys="target_scale lr", **REAL),
    case("target_scale/rents_sgd", lambda: (t.standard(t.rents())[0], t.rents()[1]), lambda: mlp(4, 32, 1), MSE,
         sgd(0.01), 25, keys="target_scale lr", **REAL),
    case("target_scale/everything_raw", t.rents, lambda: mlp(4, 32, 1), MSE, adam(), 25, keys="target_scale scale lr",
         **REAL),
    case("target_scale/diabetes_raw_target", lambda: t.standard(t.diabetes()), lambda: mlp(10, 64, 1), MSE, adam(),
         30, best=0.5, keys="target_scale lr epochs", **REAL),
    case("target_scale/plane_unit", t.plane, lambda: mlp(6, 32, 1), MSE, adam(0.01), 25, **REAL),
    case("target_scale/plane_tiny", lambda: t.scaled_target(t.plane(), 1e-4), lambda: mlp(6, 32, 1), MSE, sgd(0.01),
         25, keys="target_scale lr", held=True, **REAL),
    case("target_scale/plane_far", lambda: t.scaled_target(t.plane(), 1.0, 5000.0), lambda: mlp(6, 32, 1), MSE,
         adam(0.003), 25, keys="target_scale lr", held=True, **REAL),
    case("target_scale/friedman_raw", lambda: t.standard(t.friedman()), lambda: mlp(10, 64, 1), MSE, adam(0.01), 40,
         best=0.9, held=True, **REAL),
    case("target_scale/sigmoid_output", lambda: t.standard(t.friedman()), lambda: mlp(10, 32, 1, tail=[nn.Sigmoid()]),
         MSE, adam(0.01), 30, best=0.85,
         keys="output_activation target_scale", **REAL),
    case("target_scale/tanh_output", lambda: t.scaled_target(t.plane(), 3.0), lambda: mlp(6, 32, 1, tail=[nn.Tanh()]),
         MSE, adam(0.01), 30, keys="output_activation target_scale", **REAL),
    case("target_scale/relu_output_negative", lambda: t.scaled_target(t.plane(), 1.0, -4.0), lambda: mlp(6, 32, 1,
         tail=[nn.ReLU()]), MSE, adam(0.01), 30,
         keys="output_activation target_scale", **REAL),
    case("target_scale/sigmoid_output_in_range", lambda: t.scaled_target(t.plane(), 0.12, 0.5), lambda: mlp(6, 32, 1,
         tail=[nn.Sigmoid()]), MSE, adam(0.01), 30, held=True, **REAL),
    case("target_scale/l1_large", lambda: t.scaled_target(t.plane(), 1e4), lambda: mlp(6, 32, 1), nn.L1Loss(),
         sgd(0.01), 30, keys="target_scale lr optimizer", **REAL),
]  # fmt: skip

RARE: list[Case] = [
    case("rare/95_few_steps", lambda: t.rare(1200, 0.05, 2.5), lambda: mlp(8, 16, 2), CE, sgd(0.01), 8, balanced=True,
         best=0.75, keys="class_weights lr epochs optimizer"),
    case("rare/95_well", lambda: t.rare(1200, 0.05, 4.5), lambda: mlp(8, 32, 2), CE, adam(0.01), 15, balanced=True,
         best=0.95),
    case("rare/99_overlap", lambda: t.rare(3000, 0.01, 2.0), lambda: mlp(8, 16, 1), LOGITS, adam(), 8,
         encode="column", reads="zero", balanced=True, best=0.6, keys="class_weights"),
    case("rare/99_weighted", lambda: t.rare(3000, 0.01, 3.0), lambda: mlp(8, 16, 1), weighted(99.0), adam(0.003), 8,
         encode="column", reads="zero", balanced=True, best=0.8),
    case("rare/99_sigmoid_bce", lambda: t.rare(2000, 0.01, 2.5), lambda: mlp(8, 16, 1, tail=[nn.Sigmoid()]), BCE,
         adam(), 8, encode="column", reads="half", balanced=True,
         best=0.7, keys="class_weights lr epochs", held=True),
    case("rare/three_classes", lambda: t.rare(2000, 0.03, 2.0, 8, 3), lambda: mlp(8, 16, 3), CE, adam(), 8,
         balanced=True, best=0.6, keys="class_weights lr epochs"),
    case("rare/three_classes_sampler", lambda: t.rare(2000, 0.03, 3.0, 8, 3), lambda: mlp(8, 16, 3), CE, adam(0.005),
         10, form=even_sampler, balanced=True, best=0.75, held=True),
    case("rare/is_it_an_eight", lambda: t.one_digit_among_all(8), lambda: mlp(64, 32, 1), LOGITS, sgd(0.01), 6,
         encode="column", reads="zero", balanced=True,
         keys="class_weights lr epochs optimizer"),
    case("rare/is_it_an_eight_adam", lambda: t.one_digit_among_all(8), lambda: mlp(64, 64, 1), LOGITS, adam(0.005),
         15, encode="column", reads="zero", balanced=True, held=True),
    case("rare/95_no_signal", lambda: t.mixed(t.rare(1200, 0.05, 4.5)), lambda: mlp(8, 16, 2), CE, adam(), 8,
         balanced=True, best="rare/95_well", keys="labels class_weights", repairable=False),
    case("rare/95_mse", lambda: t.rare(1200, 0.05, 2.5), lambda: mlp(8, 16, 1, tail=[nn.Sigmoid()]), MSE, sgd(0.05),
         10, encode="column", reads="half", balanced=True, best=0.75,
         keys="class_weights loss lr optimizer epochs"),
    case("rare/97_deep_adam", lambda: t.rare(2000, 0.03, 1.5), lambda: mlp(8, 32, 32, 2), CE, adam(), 6, batch=64,
         balanced=True, best=0.45, keys="class_weights lr epochs", held=True),
]  # fmt: skip

LABELS: list[Case] = [
    case("labels/digits_permuted", lambda: t.mixed(t.digits()), lambda: mlp(64, 16, 10), CE, sgd(0.05), 10,
         best="equal_weights/digits_own", keys="labels", repairable=False),
    case("labels/breast_permuted", lambda: t.mixed(breast()), lambda: mlp(30, 8, 1), LOGITS, sgd(0.05), 10,
         encode="column", reads="zero", keys="labels", repairable=False),
    case("labels/friedman_permuted", lambda: t.mixed(friedman()), lambda: mlp(10, 8, 1), MSE, adam(0.003), 20,
         best=0.85, keys="labels", repairable=False, held=True, **REAL),
    case("labels/mnist_permuted", lambda: t.mixed(mnist()), lambda: mlp(784, 32, 10), CE, sgd(0.05), 4, keys="labels",
         repairable=False),
    case("labels/iris_permuted", lambda: t.mixed(iris()), lambda: mlp(4, 8, 3), CE, adam(0.003), 20, keys="labels",
         repairable=False, held=True),
    case("labels/digits_noise_20", lambda: relabelled(t.digits(), 0.2), digit_mlp, CE, sgd(0.1), 15, best=0.78),
    case("labels/clouds_noise_40", lambda: relabelled(t.standard(t.clouds()), 0.4), lambda: mlp(5, 16, 4), CE,
         adam(0.01), 15, best=0.55, held=True),
    case("labels/random_columns", lambda: (torch.randn(600, 12, generator=torch.Generator().manual_seed(0)),
         t.moons()[1]), lambda: mlp(12, 8, 2), CE, sgd(0.05), 15, keys="labels",
         repairable=False),
]  # fmt: skip

SORTED: list[Case] = [
    case("sorted/digits_in_order", lambda: t.in_order(t.digits()), digit_mlp, CE, sgd(0.2), 10, shuffle=False,
         keys="shuffle"),
    case("sorted/digits_shuffled", lambda: t.in_order(t.digits()), digit_mlp, CE, sgd(0.2), 10),
    case("sorted/digits_as_they_come", t.digits, digit_mlp, CE, sgd(0.2), 10, shuffle=False),
    case("sorted/iris_loader", lambda: t.in_order(iris()), lambda: mlp(4, 16, 3), CE, sgd(0.2), 20, batch=10,
         shuffle=False, form=loader, keys="shuffle"),
    case("sorted/moons_full_batch", lambda: t.in_order(t.standard(t.moons())), lambda: mlp(2, 32, 2), CE, adam(0.02),
         150, batch="full", shuffle=False),
    case("sorted/breast_small_steps", lambda: t.in_order(breast()), lambda: mlp(30, 16, 1), LOGITS, sgd(0.01), 30,
         shuffle=False, encode="column", reads="zero", keys="shuffle", held=True),
    case("sorted/batchnorm", lambda: t.in_order(t.digits()), lambda: mlp(64, 64, 10, before=BATCH), CE, adam(0.01),
         10, shuffle=False, keys="shuffle normalization"),
    case("sorted/rents_by_target", lambda: t.in_order(t.scaled_target(t.standard(t.rents()), 1.0)), lambda: mlp(4, 32,
         1), MSE, sgd(0.1), 20, shuffle=False, keys="shuffle lr",
         held=True, **REAL),
    case("sorted/wave_by_input", t.wave, lambda: mlp(1, 64, 1, act=nn.Tanh), MSE, adam(0.005), 40, batch=40,
         shuffle=False, keys="shuffle lr batch_size", **REAL),
    case("sorted/mnist_in_order", lambda: t.in_order(mnist()), lambda: mlp(784, 32, 10), CE, adam(0.003), 5,
         shuffle=False, keys="shuffle", held=True),
]  # fmt: skip

IMPOSSIBLE: list[Case] = [
    case("bad_data/nan_inputs", lambda: spoilt(wine(), float("nan")), lambda: mlp(13, 32, 3), CE, adam(0.005), 15,
         batch=16, keys="scale labels", refused=True),
    case("bad_data/inf_inputs", lambda: spoilt(wine(), float("inf"), 3), lambda: mlp(13, 32, 3), CE, adam(0.005), 15,
         batch=16, keys="scale labels", refused=True, held=True),
    case("bad_data/nan_targets", lambda: (friedman()[0], torch.where(torch.arange(600) % 90 == 5, float("nan"),
         friedman()[1])), lambda: mlp(10, 32, 1), MSE, adam(0.01), 10,
         best=0.85, keys="labels target_scale", refused=True, **REAL),
    case("bad_data/one_class", lambda: (iris()[0], torch.ones(150, dtype=torch.int64)), lambda: mlp(4, 16, 3), CE,
         adam(0.01), 10, keys="labels", repairable=False, refused=True),
    case("bad_data/constant_target", lambda: (friedman()[0], torch.full((600,), 3.0)), lambda: mlp(10, 16, 1), MSE,
         adam(0.01), 10, keys="labels target_scale", repairable=False,
         refused=True, held=True, **REAL),
    case("bad_data/labels_from_one", lambda: (t.digits()[0], t.digits()[1] + 1), digit_mlp, CE, sgd(0.1), 10,
         keys="labels", refused=True),
    case("bad_data/negative_label", lambda: (iris()[0], iris()[1] - 1), lambda: mlp(4, 16, 3), CE, adam(0.01), 20,
         keys="labels", refused=True, held=True),
    case("bad_data/equal_inputs", lambda: (torch.full((300, 5), 0.7), t.moons(300)[1]), lambda: mlp(5, 16, 2), CE,
         adam(0.01), 10, keys="scale labels", repairable=False, refused=True),
    case("bad_data/zero_inputs", lambda: (torch.zeros(300, 5), t.moons(300)[1]), lambda: mlp(5, 16, 2), CE,
         adam(0.01), 10, keys="scale labels", repairable=False, refused=True, held=True),
    case("bad_data/plus_minus_one_bce", lambda: (breast()[0], breast()[1] * 2 - 1), lambda: mlp(30, 16, 1,
         tail=[nn.Sigmoid()]), BCE,
         sgd(0.1), 15, encode="column", reads="sign",
         keys="labels loss", refused=True),
]  # fmt: skip

FORMS: list[Case] = [
    case("forms/loader", wine, lambda: mlp(13, 32, 3), CE, adam(0.005), 25, batch=16, form=loader),
    case("forms/dataset", wine, lambda: mlp(13, 32, 3), CE, adam(0.005), 25, batch=16, form=lambda x, y, b,
         s: Records(x, y)),
    case("forms/loader_of_records", wine, lambda: mlp(13, 32, 3), CE, sgd(1e-4), 10, batch=16, form=lambda x, y, b,
         s: DataLoader(Records(x, y), b, s), keys="lr optimizer epochs"),
    case("forms/arrays", wine, lambda: mlp(13, 32, 3), CE, adam(0.005), 25, batch=16, form=lambda x, y, b,
         s: (x.double().numpy(), y.int().numpy())),
    case("forms/frames", lambda: t.bundled("wine"), lambda: mlp(13, 32, 3), CE, adam(), 25, batch=16,
         form=lambda x, y, b, s: (pd.DataFrame(x.double().numpy(), columns=[f"c{i}" for i in range(13)]),
         pd.Series(y.numpy())), keys="scale normalization"),
    case("forms/frame_real", lambda: t.scaled_target(t.standard(t.rents()), 1.0), lambda: mlp(4, 32, 1), MSE,
         adam(0.01), 25,
         form=lambda x, y, b, s: (pd.DataFrame(x.numpy()), pd.DataFrame({"rent": y[:, 0].numpy()})), held=True, **REAL),
    case("forms/one_hot", t.digits, digit_mlp, CE, sgd(0.1), 15, encode="onehot"),
    case("forms/one_hot_mse", t.digits, lambda: mlp(64, 64, 10, tail=[nn.Softmax(1)]), MSE, adam(0.005), 15,
         encode="onehot", held=True),
    case("forms/one_hot_arrays", iris, lambda: mlp(4, 16, 3), CE, sgd(1e-4), 15, encode="onehot", form=lambda x, y, b,
         s: (np.asarray(x), np.asarray(y)), keys="lr optimizer epochs"),
    case("forms/batch_full", iris, lambda: mlp(4, 16, 3), CE, adam(0.03), 80, batch="full"),
    case("forms/batch_beyond_data", iris, lambda: mlp(4, 16, 3), CE, sgd(0.01), 20, batch=512,
         keys="lr optimizer epochs batch_size", held=True),
    case("forms/step_autoencoder", lambda: (t.digits()[0], t.digits()[0]), lambda: mlp(64, 32, 64), None, adam(0.003),
         15, encode="given", reads="value", best=0.6,
         step=lambda m, b: F.mse_loss(m(b[0]), b[0])),
    case("forms/step_autoencoder_cold", lambda: (t.digits()[0], t.digits()[0]), lambda: mlp(64, 32, 64), None,
         sgd(1e-3), 15, encode="given", reads="value", best=0.6,
         step=lambda m, b: F.mse_loss(m(b[0]), b[0]), keys="lr optimizer"),
    case("forms/step_classes", t.digits, digit_mlp, None, sgd(0.1), 15, step=lambda m, b: F.cross_entropy(m(b[0]),
         b[1])),
    case("forms/step_classes_permuted", lambda: t.mixed(t.digits()), lambda: mlp(64, 16, 10), None, sgd(0.05), 10,
         step=lambda m, b: F.cross_entropy(m(b[0]), b[1]),
         keys="labels", repairable=False, held=True),
    case("forms/step_two_losses", t.digits, digit_mlp, None, rmsprop(0.001), 15, step=lambda m,
         b: F.cross_entropy(m(b[0]), b[1]) + 1e-4 * m[0].weight.abs().sum(), held=True),
]  # fmt: skip

CASES = COLUMNS + TARGETS + RARE + LABELS + SORTED + IMPOSSIBLE + FORMS
