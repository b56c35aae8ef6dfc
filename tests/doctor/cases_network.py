"""Cases of the network: its weights, depth, activations, normalization, dropout, and how it is written."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.doctor import tables as t
from tests.doctor.measuring import Case, case
from tests.doctor.networks import (
    AlwaysDropping,
    Detached,
    Functional,
    NoGradBody,
    Residual,
    Squeeze,
    adam,
    biased,
    cnn,
    filled,
    frozen,
    loader,
    mlp,
    rmsprop,
    sgd,
    started,
    trained,
)

CE, BCE, LOGITS, MSE = nn.CrossEntropyLoss(), nn.BCELoss(), nn.BCEWithLogitsLoss(), nn.MSELoss()
NORM, BATCH = nn.LayerNorm, nn.BatchNorm1d


def breast() -> t.Table:
    return t.standard(t.bundled("breast_cancer"))


def wine() -> t.Table:
    return t.standard(t.bundled("wine"))


def iris() -> t.Table:
    return t.standard(t.bundled("iris"))


def friedman() -> t.Table:
    return t.scaled_target(t.standard(t.friedman()), 1.0)


def raw_mnist() -> t.Table:
    return t.images("MNIST")


def mnist() -> t.Table:
    return t.images("MNIST")[0] / 255, t.images("MNIST")[1]


def fashion() -> t.Table:
    return t.images("FashionMNIST")[0] / 255, t.images("FashionMNIST")[1]


def digit_mlp() -> nn.Sequential:
    return mlp(64, 64, 10)


def paired(model: nn.Sequential) -> nn.Sequential:
    """Every second unit of the first layer is a copy of its neighbour, with outgoing weights of its own."""
    with torch.no_grad():
        model[0].weight[1::2] = model[0].weight[::2]
        model[0].bias[1::2] = model[0].bias[::2]
    return model


def spoilt(model: nn.Module) -> nn.Module:
    """One weight is not a number, as an earlier training left it."""
    with torch.no_grad():
        next(model.parameters())[0, 0] = float("nan")
    return model


def slow_statistics(norm: nn.Module) -> nn.Module:
    norm.momentum = 1e-4
    return norm


def normal(deviation: float):
    return lambda w: nn.init.normal_(w, 0, deviation)


EQUAL: list[Case] = [
    case("equal_weights/digits_constant", t.digits, lambda: filled(digit_mlp(), 0.1), CE, sgd(0.1), 15, keys="init"),
    case("equal_weights/digits_zero", t.digits, lambda: filled(digit_mlp(), 0.0), CE, sgd(0.1), 15, keys="init"),
    case("equal_weights/digits_own", t.digits, digit_mlp, CE, sgd(0.1), 15),
    case("equal_weights/digits_zero_last", t.digits, lambda: filled(digit_mlp(), 0.0, [1]), CE, sgd(0.1), 15),
    case("equal_weights/iris_tanh_zero", iris, lambda: filled(mlp(4, 16, 3, act=nn.Tanh), 0.0), CE, adam(0.01), 30,
         keys="init"),
    case("equal_weights/breast_half", breast, lambda: filled(mlp(30, 16, 1, act=nn.Sigmoid, tail=[nn.Sigmoid()]),
         0.5), BCE,
         sgd(0.5), 30, encode="column", reads="half", keys="init"),
    case("equal_weights/clouds_deep_constant", lambda: t.standard(t.clouds(600, 6, 1.0)), lambda: filled(mlp(5, 32,
         32, 6), 0.05), CE,
         adam(0.005), 25, keys="init", held=True),
    case("equal_weights/friedman_zero", friedman, lambda: filled(mlp(10, 32, 1), 0.0), MSE, adam(0.01), 40,
         encode="column",
         reads="value", keys="init", best=0.85),
    case("equal_weights/digits_pairs", t.digits, lambda: paired(digit_mlp()), CE, sgd(0.1), 15, held=True),
    case("equal_weights/cnn_constant", t.digit_images, lambda: filled(cnn(8, 10), 0.05), CE, adam(0.003), 8,
         keys="init", held=True),
    case("equal_weights/mnist_ones", mnist, lambda: filled(mlp(784, 64, 10), 1.0), CE, adam(0.001), 6, keys="init"),
]  # fmt: skip

DEEP: list[Case] = [
    case("deep/sigmoid_8_sgd", t.digits, lambda: mlp(64, *[32] * 8, 10, act=nn.Sigmoid), CE, sgd(0.1), 20,
         keys="activation init normalization layers optimizer"),
    case("deep/sigmoid_6_adam", t.digits, lambda: mlp(64, *[32] * 6, 10, act=nn.Sigmoid), CE, adam(), 20,
         keys="activation init normalization layers optimizer lr epochs"),
    case("deep/sigmoid_1_adam", t.digits, lambda: mlp(64, 64, 10, act=nn.Sigmoid), CE, adam(0.01), 20),
    case("deep/sigmoid_6_batchnorm", t.digits, lambda: mlp(64, *[48] * 6, 10, act=nn.Sigmoid, before=BATCH), CE,
         adam(0.01), 20, held=True),
    case("deep/tanh_8_xavier", t.digits, lambda: started(mlp(64, *[48] * 8, 10, act=nn.Tanh),
         nn.init.xavier_uniform_), CE, sgd(0.05), 25),
    case("deep/relu_12_he", t.digits, lambda: started(mlp(64, *[64] * 12, 10), lambda w: nn.init.kaiming_normal_(w,
         nonlinearity="relu")), CE, adam(), 15),
    case("deep/relu_20_torch", t.digits, lambda: mlp(64, *[32] * 20, 10), CE, sgd(0.05), 15,
         keys="init normalization layers activation optimizer"),
    case("deep/relu_20_residual", t.digits, lambda: Residual(64, 32, 20, 10), CE, sgd(0.02), 12, held=True),
    case("deep/moons_sigmoid_5", lambda: t.standard(t.moons()), lambda: mlp(2, *[16] * 5, 1, act=nn.Sigmoid), LOGITS,
         sgd(0.1), 40,
         encode="column", reads="zero", keys="activation init normalization layers optimizer lr", held=True),
    case("deep/moons_tanh_3", lambda: t.standard(t.moons()), lambda: mlp(2, *[16] * 3, 1, act=nn.Tanh), LOGITS,
         adam(0.01), 40,
         encode="column", reads="zero"),
    case("deep/relu_6_narrow", t.digits, lambda: mlp(64, *[3] * 6, 10), CE, sgd(0.05), 20,
         keys="layers init activation normalization optimizer"),
    case("deep/linear_only_rings", t.rings, lambda: mlp(2, 32, 32, 1, act=None), LOGITS, adam(0.01), 30,
         encode="column", reads="zero",
         keys="activation layers"),
    case("deep/linear_only_clouds", lambda: t.standard(t.clouds()), lambda: mlp(5, 16, 4, act=None), CE, adam(0.01),
         20, held=True),
]  # fmt: skip

DEAD: list[Case] = [
    case("dead/bias_minus_50", t.digits, lambda: biased(digit_mlp(), -50.0), CE, sgd(0.1), 15, keys="init activation"),
    case("dead/bias_minus_50_adam_two", t.digits, lambda: biased(mlp(64, 48, 48, 10), -30.0, only=1), CE, adam(), 15,
         keys="init activation"),
    case("dead/half_of_units", t.digits, lambda: biased(digit_mlp(), -50.0, 0.5), CE, sgd(0.1), 15),
    case("dead/leaky", t.digits, lambda: biased(mlp(64, 64, 10, act=lambda: nn.LeakyReLU(0.2)), -5.0), CE, sgd(0.1),
         15, keys="init activation lr optimizer epochs", held=True),
    case("dead/after_a_hot_training", t.digits, lambda: trained(digit_mlp(), t.digits(), 80.0, 20), CE, sgd(0.1), 15,
         keys="init activation lr"),
    case("dead/already_trained", t.digits, lambda: trained(digit_mlp(), t.digits(), 0.5, 300), CE, sgd(0.05), 10),
    case("dead/half_trained", t.digits, lambda: trained(digit_mlp(), t.digits(), 0.3, 60), CE, sgd(0.05), 10,
         held=True),
    case("dead/not_a_number", t.digits, lambda: spoilt(digit_mlp()), CE, sgd(0.1), 10, keys="init"),
    case("dead/saturated_tanh", t.digits, lambda: started(mlp(64, 64, 64, 10, act=nn.Tanh), normal(20.0)), CE,
         sgd(0.01), 15, keys="init activation normalization lr", held=True),
    case("dead/regression_minus_20", friedman, lambda: biased(mlp(10, 32, 1), -20.0), MSE, adam(0.01), 30,
         encode="column", reads="value",
         keys="init activation", best=0.85, held=True),
    case("dead/raw_pixels_sgd", raw_mnist, lambda: mlp(784, 100, 10), CE, sgd(0.05), 8, keys="scale lr normalization"),
    case("dead/relu_output_logits", t.digits, lambda: biased(mlp(64, 64, 10, tail=[nn.ReLU()]), -3.0, only=1), CE,
         sgd(0.1), 15, keys="output_activation init"),
]  # fmt: skip

NORMALIZATION: list[Case] = [
    case("normalization/input_batchnorm_wine", lambda: t.bundled("wine"), lambda: mlp(13, 32, 3, head=[BATCH(13)]),
         CE, adam(0.01), 25, batch=16),
    case("normalization/input_layernorm_wine", lambda: t.bundled("wine"), lambda: mlp(13, 32, 3, head=[NORM(13)]), CE,
         adam(0.001), 25, batch=16, keys="scale normalization"),
    case("normalization/batch_before", t.digits, lambda: mlp(64, 64, 10, before=BATCH), CE, sgd(0.05), 10),
    case("normalization/batch_after", t.digits, lambda: mlp(64, 64, 10, after=BATCH), CE, sgd(0.05), 10),
    case("normalization/layer_before", t.digits, lambda: mlp(64, 64, 10, before=NORM), CE, sgd(0.05), 10, held=True),
    case("normalization/layer_after_sigmoid", t.digits, lambda: mlp(64, 64, 64, 10, act=nn.Sigmoid, after=NORM), CE,
         sgd(0.05), 10),
    case("normalization/group_cnn", t.digit_images, lambda: cnn(8, 10, norm=lambda o: nn.GroupNorm(2, o)), CE,
         adam(0.003), 8),
    case("normalization/instance_cnn", t.digit_images, lambda: cnn(8, 10, norm=nn.InstanceNorm2d), CE, adam(0.003), 8,
         held=True),
    case("normalization/batch_of_one", t.digits, lambda: mlp(64, 64, 10, before=BATCH), CE, sgd(0.01), 2, batch=1,
         keys="normalization batch_size", refused=True),
    case("normalization/last_batch_of_one", lambda: t.first(t.digits(), 897), lambda: mlp(64, 64, 10, before=BATCH),
         CE, sgd(0.05), 10, batch=128,
         keys="normalization batch_size", refused=True),
    case("normalization/last_batch_dropped", lambda: t.first(t.digits(), 897), lambda: mlp(64, 64, 10, before=BATCH),
         CE, adam(0.005), 12, batch=128,
         form=lambda x, y, b, s: loader(x, y, b, s, drop_last=True), held=True),
    case("normalization/on_logits", t.digits, lambda: mlp(64, 64, 10, tail=[BATCH(10)]), CE, sgd(0.05), 12),
    case("normalization/on_regression_output", friedman, lambda: mlp(10, 32, 1, tail=[BATCH(1)]), MSE, adam(0.01), 40,
         encode="column", reads="value", best=0.85, held=True),
    case("normalization/layer_on_one_output", friedman, lambda: mlp(10, 32, 1, tail=[NORM(1)]), MSE, adam(0.01), 30,
         encode="column", reads="value", best=0.85,
         keys="normalization"),
    case("normalization/layer_on_one_input", t.wave, lambda: mlp(1, 32, 1, head=[NORM(1)]), MSE, adam(0.01), 60,
         encode="column", reads="value", best=0.85,
         keys="normalization", held=True),
    case("normalization/slow_statistics", lambda: t.bundled("wine"), lambda: mlp(13, 32, 3,
         head=[slow_statistics(BATCH(13))]), CE, adam(0.01), 25, batch=16,
         keys="normalization scale", held=True),
    case("normalization/batch_of_two", iris, lambda: mlp(4, 16, 3, before=BATCH), CE, sgd(0.1), 20, batch=2,
         keys="batch_size normalization lr"),
]  # fmt: skip

DROPOUT: list[Case] = [
    case("dropout/p95_twice", t.digits, lambda: mlp(64, 64, 64, 10, drop=0.95), CE, adam(), 15, keys="dropout"),
    case("dropout/p50", t.digits, lambda: mlp(64, 128, 10, drop=0.5), CE, adam(0.003), 20),
    case("dropout/p20_deep", t.digits, lambda: mlp(64, 96, 96, 10, drop=0.2), CE, adam(0.003), 15, held=True),
    case("dropout/p90_small", iris, lambda: mlp(4, 8, 8, 3, drop=0.9), CE, adam(0.01), 40, keys="dropout"),
    case("dropout/p90_regression", friedman, lambda: mlp(10, 32, 32, 1, drop=0.9), MSE, adam(0.003), 40,
         encode="column", reads="value", best=0.85, keys="dropout"),
    case("dropout/on_inputs", t.digits, lambda: mlp(64, 128, 10, head=[nn.Dropout(0.95)]), CE, adam(0.003), 12,
         keys="dropout", held=True),
    case("dropout/after_output", t.digits, lambda: mlp(64, 64, 10, tail=[nn.Dropout(0.9)]), CE, sgd(0.02), 12,
         keys="dropout"),
    case("dropout/never_off", breast, lambda: AlwaysDropping(30, 16, 16, 2, rate=0.9), CE, adam(0.003), 20,
         keys="dropout", held=True),
    case("dropout/p1", wine, lambda: mlp(13, 32, 3, drop=1.0), CE, adam(0.01), 20, keys="dropout"),
]  # fmt: skip

FROZEN: list[Case] = [
    case("frozen/all", t.digits, lambda: frozen(digit_mlp(), [0, 1]), CE, sgd(0.1), 10, keys="frozen", refused=True),
    case("frozen/head", t.digits, lambda: frozen(mlp(64, 48, 48, 10), [1, 2]), CE, sgd(0.01), 10, keys="frozen"),
    case("frozen/body_wide", t.digits, lambda: frozen(mlp(64, 256, 10), [0]), CE, adam(0.01), 15),
    case("frozen/body_narrow", t.digits, lambda: frozen(mlp(64, 4, 4, 10), [0, 1]), CE, sgd(0.1), 15,
         keys="frozen layers"),
    case("frozen/optimizer_has_first_only", t.digits, lambda: mlp(64, 32, 32, 10), CE,
         lambda m: torch.optim.SGD(m[0].parameters(), lr=0.01), 10, keys="frozen optimizer"),
    case("frozen/optimizer_has_last_only", t.rings, lambda: mlp(2, 4, 4, 2), CE,
         lambda m: torch.optim.Adam(m[-1].parameters(), lr=0.01), 25, keys="frozen optimizer"),
    case("frozen/optimizer_of_another", t.digits, digit_mlp, CE, lambda m: torch.optim.SGD(mlp(64, 64,
         10).parameters(), lr=0.1), 10, keys="frozen optimizer", refused=True),
    case("frozen/head_replaced_later", t.digits, lambda: mlp(64, 48, 48, 10), CE,
         lambda m: (torch.optim.Adam(m.parameters(), lr=0.003), m.__setitem__(-1, nn.Linear(48, 10)))[0],
         10, held=True),
    case("frozen/detached", t.rings, lambda: Detached(2, 3, 3, 2), CE, adam(0.01), 25, keys="frozen layers",
         repairable=False, held=True),
    case("frozen/no_grad_body", t.rings, lambda: NoGradBody(2, 3, 3, 2), CE, adam(0.01), 25, keys="frozen layers",
         repairable=False),
]  # fmt: skip

CNN: list[Case] = [
    case("cnn/digits", t.digit_images, lambda: cnn(8, 10), CE, adam(0.003), 8),
    case("cnn/digits_hot", t.digit_images, lambda: cnn(8, 10), CE, sgd(20.0), 8, keys="lr"),
    case("cnn/digits_cold", t.digit_images, lambda: cnn(8, 10), CE, sgd(1e-4), 8, keys="lr optimizer epochs"),
    case("cnn/stripes", t.stripes, lambda: cnn(12, 3), CE, adam(0.003), 6, held=True),
    case("cnn/stripes_raw", lambda: (t.stripes()[0] * 500 + 3000, t.stripes()[1]), lambda: cnn(12, 3), CE, sgd(0.01),
         6, keys="scale lr normalization"),
    case("cnn/stripes_sigmoid", t.stripes, lambda: cnn(12, 3, act=nn.Sigmoid), CE, sgd(0.01), 8,
         keys="activation optimizer lr epochs normalization"),
    case("cnn/mnist", lambda: (mnist()[0].reshape(-1, 1, 28, 28)[:600], mnist()[1][:600]), lambda: cnn(28, 10, 4), CE,
         adam(0.003), 5, slow=True),
    case("cnn/fashion_raw", lambda: (t.images("FashionMNIST")[0].reshape(-1, 1, 28, 28)[:600], fashion()[1][:600]),
         lambda: cnn(28, 10, 4), CE, sgd(0.05), 5,
         keys="scale lr normalization", held=True, slow=True, best=0.89),
    case("cnn/digits_softmax", t.digit_images, lambda: cnn(8, 10, tail=[nn.Softmax(1)]), CE, sgd(0.05), 10,
         keys="output_activation loss lr optimizer"),
    case("cnn/batchnorm_sgd", t.digit_images, lambda: cnn(8, 10, norm=nn.BatchNorm2d), CE, sgd(0.05), 8),
]  # fmt: skip

FORWARD: list[Case] = [
    case("own_forward/relu", t.digits, lambda: Functional(64, 64, 10), CE, sgd(0.1), 15),
    case("own_forward/relu_cold", t.digits, lambda: Functional(64, 64, 10), CE, sgd(1e-4), 15,
         keys="lr optimizer epochs"),
    case("own_forward/deep_sigmoid", t.digits, lambda: Functional(64, *[32] * 7, 10, act=torch.sigmoid), CE, sgd(0.1),
         15, keys="activation init normalization layers optimizer"),
    case("own_forward/tanh_method", wine, lambda: Functional(13, 24, 3, act=lambda x: x.tanh()), CE, adam(0.01), 25,
         held=True),
    case("own_forward/softmax_then_ce", t.digits, lambda: Functional(64, 64, 10, out=lambda x: F.softmax(x, 1)), CE,
         sgd(0.05), 15, keys="output_activation loss lr optimizer"),
    case("own_forward/dead", t.digits, lambda: biased(Functional(64, 64, 10), -40.0), CE, sgd(0.1), 15,
         keys="init activation", held=True),
    case("own_forward/sigmoid_bce", breast, lambda: Functional(30, 16, 1, out=torch.sigmoid), BCE, adam(0.01), 15,
         encode="column", reads="half"),
    case("own_forward/squeezed_bce", breast, lambda: mlp(30, 16, 1, tail=[Squeeze()]), LOGITS, adam(0.01), 15,
         encode="flat", reads="zero"),
    case("own_forward/image_flattened", t.digit_images, lambda: Functional(64, 64, 10), CE, rmsprop(0.001), 15,
         held=True),
    case("own_forward/relu_on_logits", t.digits, lambda: Functional(64, 32, 10, out=F.relu), CE, sgd(0.01), 15,
         keys="output_activation lr optimizer epochs"),
]  # fmt: skip

CASES = EQUAL + DEEP + DEAD + NORMALIZATION + DROPOUT + FROZEN + CNN + FORWARD
