"""Trainings that people asked about in public, written down as facts in code of our own; all are kept aside.

Each names the site and the number of its thread. Where the data are not public, a stand-in has the same shape, shares
and units; where a thread does not say a number, the usual one stands.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.doctor import tables as t
from tests.doctor.cases_data import REAL, spoilt
from tests.doctor.cases_network import BCE, CE, LOGITS, MSE, breast, friedman, mnist, wine
from tests.doctor.measuring import Case, case
from tests.doctor.networks import Functional, adam, filled, mlp, rmsprop, sgd


def issue_16045() -> t.Table:
    """Return two normal columns and y = 10 + 9 x0 - 2 x1 + noise, as the thread has them."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(100, 2, generator=g)
    return x, 10 + 9 * x[:, 0] - 2 * x[:, 1] + torch.randn(100, generator=g)


def five_stages(n: int = 1500) -> t.Table:
    """Return five classes with the thread's shares (7917, 2748, 17009, 5407, 7271), which overlap."""
    rng = np.random.default_rng(29)
    y = rng.choice(5, n, p=np.array([7917, 2748, 17009, 5407, 7271]) / 40352)
    return torch.tensor(rng.normal(size=(n, 12)) + 1.7 * np.eye(12)[y], dtype=torch.float32), torch.tensor(y)


def overlap_462() -> t.Table:
    """Return 462 examples, 86.2 % of class 0, which overlap."""
    x, y = t.rare(462, 0.138, 1.6)
    return x, y


def random_pairs() -> t.Table:
    """Return 64 random inputs and random targets: the network can only learn them by heart."""
    g = torch.Generator().manual_seed(0)
    return torch.randn(64, 1000, generator=g), torch.randn(64, 10, generator=g)


def ten_planes() -> t.Table:
    """Return ten linear functions of ten columns with noise."""
    rng = np.random.default_rng(1923)
    x = rng.normal(0, 0.5, (1000, 10))
    y = rng.normal(x @ rng.normal(0, 0.5, (10, 10)) + rng.normal(0, 0.5, 10), 0.5)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)


def few_pictures() -> t.Table:
    """Return 64 images of two kinds of stripes."""
    x, y = t.stripes()
    keep = y < 2
    return x[keep][:64], y[keep][:64]


def unshuffled_zeros() -> t.Table:
    """Return examples in an order in which the first nine tenths are of class 0."""
    return t.in_order(t.one_digit_among_all(3))


def lower_bound_summed(output: Tensor, target: Tensor) -> Tensor:
    """Sum the mean squared error of each example over the minibatch, as a loop over its examples does."""
    return ((output - target) ** 2).mean(1).sum()


class TenthEachStep(torch.optim.SGD):
    """A learning rate that is divided by ten after every step instead of every few epochs."""

    def step(self, closure=None):
        loss = super().step(closure)
        for group in self.param_groups:
            group["lr"] *= 0.1
        return loss


class PictureNet(nn.Sequential):
    """Two strided convolutions; the second is normalized with Keras' momentum."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 5, 4, 2, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(5, 10, 4, 2, padding=1), nn.BatchNorm2d(10,
         momentum=0.01),
            nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(90, 1), nn.Sigmoid(),
        )  # fmt: skip


def other_network(model: nn.Module) -> torch.optim.Optimizer:
    """Hold the parameters of an earlier instance of the same class."""
    return torch.optim.SGD(mlp(64, 128, 10).parameters(), lr=0.1)


ASKED: list[Case] = [
    case("forum/softmax_before_ce", mnist, lambda: mlp(784, 64, 10, drop=0.5, tail=[nn.Softmax(1)]), CE, sgd(0.01,
         momentum=0.5), 5, batch=10,
         keys="output_activation loss lr optimizer epochs dropout", best=0.9,
         source="github shaoxiongji/federated-learning 9"),
    case("forum/sigmoid_before_bce_logits", lambda: t.standard(t.rings()), lambda: mlp(2, 32, 1, tail=[nn.Sigmoid()]),
         LOGITS, sgd(0.05), 15, encode="column", reads="half",
         keys="output_activation loss lr optimizer epochs", source="github avBuffer/UNet3plus_pth 23"),
    case("forum/nll_of_softmax", t.digits, lambda: mlp(64, 64, 10, tail=[nn.Softmax(1)]), nn.NLLLoss(), sgd(0.05), 12,
         keys="output_activation loss lr optimizer",
         source="github AnubhavGupta3377/Text-Classification-Models-Pytorch 9"),
    case("forum/nll_of_logits", t.digits, lambda: mlp(64, 64, 10), F.nll_loss, adam(0.001), 12,
         keys="output_activation loss", source="github yanx27/Pointnet_Pointnet2_pytorch 30"),
    case("forum/flat_target_broadcast", issue_16045, lambda: nn.Linear(2, 1), MSE, sgd(0.1), 30, batch="full",
         encode="given", reads="value", keys="loss labels layers target_scale",
         refused=True, source="github pytorch/pytorch 16045"),
    case("forum/column_target", lambda: (issue_16045()[0], issue_16045()[1][:, None]), lambda: nn.Linear(2, 1), MSE,
         sgd(0.1), 30, batch="full", encode="given", reads="value",
         source="github pytorch/pytorch 16045"),
    case("forum/head_not_in_optimizer", t.digits, lambda: mlp(64, 32, 32, 10), CE,
         lambda m: torch.optim.AdamW(m[:2].parameters(), lr=3e-4), 10, keys="frozen optimizer",
         source="github zjunlp/HVPNeT 5"),
    case("forum/instantiated_twice", t.digits, lambda: mlp(64, 128, 10), CE, other_network, 10,
         keys="frozen optimizer", refused=True, source="github spro/practical-pytorch 9"),
    case("forum/linear_from_zero", t.digits, lambda: filled(nn.Sequential(nn.Linear(64, 10, bias=False)), 0.0,
         bias=None), CE, sgd(0.3), 20, best=0.9,
         source="github jthickstun/pytorch_musicnet 4"),
    case("forum/all_from_zero", mnist, lambda: filled(mlp(784, 32, 32, 10), 0.0), CE, sgd(0.1), 4, keys="init",
         source="github wagonhelm/NaNmnist 2"),
    case("forum/zeros_first", unshuffled_zeros, lambda: mlp(64, 32, 2), CE, sgd(0.1), 8, shuffle=False, balanced=True,
         keys="shuffle class_weights lr", source="github bermanmaxim/AOWS 1"),
    case("forum/all_predicted_0", overlap_462, lambda: mlp(8, 16, 2), CE, adam(), 10, balanced=True, best=0.55,
         keys="class_weights lr epochs", source="github abhuse/polyloss-pytorch 5"),
    case("forum/sleep_stages_all_2", five_stages, lambda: mlp(12, 32, 5, act=nn.Sigmoid), CE, sgd(0.001), 20,
         batch=128, balanced=True, best=0.5,
         keys="lr optimizer epochs class_weights batch_size", source="github emadeldeen24/AttnSleep 18"),
    case("forum/dropout_behind_softmax", lambda: t.bundled("wine"), lambda: mlp(13, 14, 8, 3, drop=0.5,
         tail=[nn.Softmax(1), nn.Dropout(0.5)]), MSE, adam(), 30, encode="onehot",
         keys="scale dropout loss normalization", source="github keras-team/keras 5992"),
    case("forum/needs_a_standard_scaler", lambda: t.bundled("breast_cancer"), lambda: mlp(30, 30, 30, 2), CE,
         sgd(0.01), 15, keys="scale normalization lr", source="github keras-team/keras 2975"),
    case("forum/one_nan_in_the_table", lambda: spoilt(wine(), float("nan"), 1), lambda: mlp(13, 32, 3), CE,
         adam(0.005), 20, batch=16, keys="scale labels", refused=True,
         source="github keras-team/keras 6447"),
    case("forum/few_relus_before_output", lambda: t.standard(t.friedman()), lambda: mlp(10, 16, 2, 1), MSE, sgd(0.05),
         25, best=0.85, keys="lr target_scale activation layers init",
         source="github keras-team/keras 13891", **REAL),
    case("forum/relu_on_regression", lambda: t.scaled_target(t.plane(), 1.0), lambda: mlp(6, 16, 1, tail=[nn.ReLU()]),
         MSE, sgd(0.05), 25, best="target_scale/plane_unit", keys="output_activation target_scale",
         source="github ProteomicsML/ProteomicsML 203", **REAL),
    case("forum/lr_tenth_each_step", t.digits, lambda: mlp(64, 64, 10), CE, lambda m: TenthEachStep(m.parameters(),
         lr=0.1), 10, keys="lr optimizer epochs",
         source="github matteo-dunnhofer/imagenet 10"),
    case("forum/mean_for_every_input", mnist, lambda: Functional(784, 200, 10, act=torch.sigmoid, out=torch.sigmoid),
         lower_bound_summed, sgd(0.001), 3, encode="onehot", best=0.9,
         keys="lr optimizer loss output_activation epochs activation",
         source="stack overflow: outputs the mean value for every input"),
    case("forum/fits_but_evaluates_at_half", few_pictures, PictureNet, BCE, adam(), 5, batch=8, encode="column",
         reads="half", keys="normalization epochs lr batch_size",
         source="github keras-team/keras 6014"),
    case("forum/regression_63_columns", lambda: (t.standard(t.friedman())[0], t.friedman()[1] * 40), lambda: mlp(10,
         100, 100, 100, 1, act=None, drop=0.3), MSE,
         sgd(0.01, momentum=0.9, nesterov=True), 25, best=0.7, keys="target_scale lr activation dropout",
         source="github dnouri/nolearn 72", **REAL),
    case("forum/rmsprop_planes", ten_planes, lambda: nn.Sequential(nn.Linear(10, 10)), MSE, rmsprop(0.01), 15,
         batch=16, encode="given", reads="value", best=0.7,
         source="github pytorch/pytorch 3354"),
    case("forum/learnt_by_heart", random_pairs, lambda: mlp(1000, 100, 10), nn.MSELoss(reduction="sum"), sgd(1e-4),
         500, batch="full", encode="given", reads="value",
         source="github jcjohnson/pytorch-examples 30"),
    case("forum/relu_output_needs_negatives", friedman, lambda: mlp(10, 32, 1, tail=[nn.ReLU()]), MSE, adam(0.01), 20,
         best="pairs/mse_regression", keys="output_activation target_scale",
         source="github jcjohnson/pytorch-examples 30", **REAL),
    case("forum/breast_bce_stuck_069", breast, lambda: mlp(30, 64, 32, 1, act=nn.Sigmoid, tail=[nn.Sigmoid()]), BCE,
         sgd(0.001), 20, encode="column", reads="half",
         keys="lr optimizer epochs activation", source="github xinge008/Cylinder3D 124"),
]  # fmt: skip

CASES = [Case(**{**c.__dict__, "held": True}) for c in ASKED]
