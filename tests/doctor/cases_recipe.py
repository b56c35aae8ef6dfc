"""Cases of the recipe: output and loss, weight decay, learning rates, epochs, Lightning and compiled models."""

from __future__ import annotations

from typing import Any

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.doctor import tables as t
from tests.doctor.cases_data import REAL
from tests.doctor.cases_network import BATCH, BCE, CE, LOGITS, MSE, breast, digit_mlp, friedman, iris, mnist, wine
from tests.doctor.measuring import Case, case
from tests.doctor.networks import Functional, adam, adamw, biased, cnn, loader, mlp, rmsprop, sgd

LOG, NLL = nn.LogSoftmax(dim=1), nn.NLLLoss()
YES = {"encode": "column"}
"""One output for yes or no."""


def focal(output: Tensor, target: Tensor) -> Tensor:
    """The focal loss of logits, as people write it."""
    each = F.binary_cross_entropy_with_logits(output, target, reduction="none")
    return ((1 - torch.exp(-each)) ** 2 * each).mean()


def clipped(output: Tensor, target: Tensor) -> Tensor:
    """Keras' cross-entropy of probabilities: no gradient where it clips."""
    return F.nll_loss(output.clamp(1e-7, 1 - 1e-7).log(), target)


def hinge(output: Tensor, target: Tensor) -> Tensor:
    """The hinge loss of labels 0 and 1."""
    return (1 - (2 * target - 1) * output).clamp(min=0).mean()


def accuracy_loss(output: Tensor, target: Tensor) -> Tensor:
    """One minus the accuracy: constant nearly everywhere."""
    return 1 - (output.argmax(1) == target).float().mean() + 0 * output.sum()


SOFTMAX: list[Case] = [
    case("softmax_ce/digits_sgd", t.digits, lambda: mlp(64, 64, 10, tail=[nn.Softmax(1)]), CE, sgd(0.1), 15,
         keys="output_activation loss lr optimizer"),
    case("softmax_ce/digits_adam", t.digits, lambda: mlp(64, 128, 10, tail=[nn.Softmax(1)]), CE, adam(0.003), 15),
    case("softmax_ce/iris_long", iris, lambda: mlp(4, 32, 3, tail=[nn.Softmax(1)]), CE, adam(0.02), 60, held=True),
    case("softmax_ce/digits_none", t.digits, lambda: mlp(64, 64, 10), CE, sgd(0.1), 15),
    case("softmax_ce/log_softmax", t.digits, lambda: mlp(64, 64, 10, tail=[LOG]), CE, sgd(0.1), 15),
    case("softmax_ce/wrong_axis", t.digits, lambda: mlp(64, 64, 10, tail=[nn.Softmax(0)]), CE, sgd(0.1), 15,
         keys="output_activation loss lr optimizer", held=True),
    case("softmax_ce/sigmoid_instead", t.digits, lambda: mlp(64, 64, 10, tail=[nn.Sigmoid()]), CE, sgd(0.05), 15,
         keys="output_activation loss lr optimizer"),
    case("softmax_ce/mnist_sgd", mnist, lambda: mlp(784, 64, 10, tail=[nn.Softmax(1)]), CE, sgd(0.01), 4,
         keys="output_activation loss lr optimizer"),
    case("softmax_ce/wine_sgd_momentum", wine, lambda: mlp(13, 32, 3, tail=[nn.Softmax(1)]), CE, sgd(0.1,
         momentum=0.9), 20, held=True),
    case("softmax_ce/six_clouds_small_lr", lambda: t.standard(t.clouds(600, 6, 1.0)), lambda: mlp(5, 32, 6,
         tail=[nn.Softmax(1)]), CE, sgd(0.02), 20,
         keys="output_activation loss lr optimizer epochs", held=True),
]  # fmt: skip

MSE_RAW: list[Case] = [
    case("mse_raw/digits_one_hot", t.digits, digit_mlp, MSE, adam(0.003), 15, encode="onehot"),
    case("mse_raw/digits_one_hot_sgd", t.digits, digit_mlp, MSE, sgd(0.01), 15, encode="onehot",
         keys="loss lr optimizer epochs"),
    case("mse_raw/breast", breast, lambda: mlp(30, 16, 1), MSE, adam(0.01), 15, reads="half", **YES),
    case("mse_raw/class_numbers", t.digits, lambda: mlp(64, 32, 1), MSE, adam(0.003), 20, reads="value",
         keys="loss labels output_activation layers", held=True, **YES),
    case("mse_raw/broadcast", lambda: t.scaled_target(t.plane(), 1.0), lambda: mlp(6, 32, 1), MSE, adam(0.01), 25,
         encode="flat", reads="value", keys="loss labels layers target_scale",
         refused=True),
    case("mse_raw/softmax_sgd", t.digits, lambda: mlp(64, 64, 10, tail=[nn.Softmax(1)]), MSE, sgd(0.1), 15,
         encode="onehot", keys="loss output_activation lr optimizer"),
    case("mse_raw/sigmoid_deep_sgd", t.digits, lambda: mlp(64, 32, 32, 10, act=nn.Sigmoid, tail=[nn.Sigmoid()]), MSE,
         sgd(0.1), 15, encode="onehot",
         keys="loss output_activation lr optimizer activation init", held=True),
    case("mse_raw/moons_raw_output", lambda: t.standard(t.moons()), lambda: mlp(2, 32, 1), MSE, sgd(0.1), 40,
         reads="half", held=True, **YES),
]  # fmt: skip

PAIRS: list[Case] = [
    case("pairs/bce_sigmoid", breast, lambda: mlp(30, 16, 1, tail=[nn.Sigmoid()]), BCE, adam(0.01), 12, reads="half",
         **YES),
    case("pairs/bce_logits", breast, lambda: mlp(30, 16, 1), LOGITS, sgd(0.1), 12, reads="zero", **YES),
    case("pairs/bce_of_raw", breast, lambda: mlp(30, 16, 1), BCE, adam(0.01), 12, reads="half",
         keys="output_activation loss", refused=True, **YES),
    case("pairs/bce_of_relu", breast, lambda: mlp(30, 16, 1, tail=[nn.ReLU()]), BCE, adam(0.01), 12, reads="half",
         keys="output_activation loss", refused=True, held=True, **YES),
    case("pairs/bce_logits_twice_sigmoid", lambda: t.standard(t.moons()), lambda: mlp(2, 32, 1, tail=[nn.Sigmoid()]),
         LOGITS, sgd(0.1), 20, reads="half",
         keys="output_activation loss lr optimizer", **YES),
    case("pairs/bce_logits_flat_target", breast, lambda: mlp(30, 16, 1), LOGITS, adam(0.01), 12, encode="flat",
         reads="zero", keys="loss labels layers", refused=True),
    case("pairs/ce_two_outputs", breast, lambda: mlp(30, 16, 2), CE, adam(0.01), 12),
    case("pairs/ce_one_output", breast, lambda: mlp(30, 16, 1), CE, adam(0.01), 12, encode="column", reads="zero",
         keys="loss output_activation layers labels", held=True),
    case("pairs/softmax_one_output_bce", breast, lambda: mlp(30, 16, 1, tail=[nn.Softmax(1)]), BCE, adam(0.01), 12,
         reads="half", keys="output_activation loss", **YES),
    case("pairs/ce_smoothing", t.digits, digit_mlp, nn.CrossEntropyLoss(label_smoothing=0.1), sgd(0.1), 15, held=True),
    case("pairs/ce_int32_labels", iris, lambda: mlp(4, 16, 3), CE, adam(0.01), 20, encode="flat", keys="labels loss",
         refused=True),
    case("pairs/ce_weighted", iris, lambda: mlp(4, 16, 3), nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 1.0])),
         adam(0.02), 20),
    case("pairs/nll_log_softmax", t.digits, lambda: mlp(64, 64, 10, tail=[LOG]), NLL, adam(0.003), 12),
    case("pairs/nll_raw", t.digits, digit_mlp, NLL, adam(0.003), 12, keys="output_activation loss"),
    case("pairs/nll_softmax", iris, lambda: mlp(4, 16, 3, tail=[nn.Softmax(1)]), NLL, adam(0.01), 25,
         keys="output_activation loss", held=True),
    case("pairs/functional_ce", wine, lambda: mlp(13, 32, 3), F.cross_entropy, adam(0.005), 20),
    case("pairs/mse_regression", friedman, lambda: mlp(10, 32, 1), MSE, adam(0.01), 25, best=0.9, **REAL),
    case("pairs/l1_regression", friedman, lambda: mlp(10, 32, 1), nn.L1Loss(), adam(0.01), 25, best=0.9, **REAL),
    case("pairs/huber_regression", friedman, lambda: mlp(10, 32, 1), nn.HuberLoss(), adam(0.01), 25, best=0.9,
         held=True, **REAL),
    case("pairs/sum_reduction", friedman, lambda: mlp(10, 32, 1), nn.MSELoss(reduction="sum"), sgd(0.05), 20,
         best=0.9, keys="lr loss", **REAL),
    case("pairs/tags_logits", t.tags, lambda: mlp(10, 32, 4), LOGITS, adam(0.01), 15, encode="given", reads="zero"),
    case("pairs/tags_sigmoid_bce", t.tags, lambda: mlp(10, 32, 4, tail=[nn.Sigmoid()]), BCE, sgd(0.3), 20,
         encode="given", reads="half", held=True),
    case("pairs/tags_softmax_bce", t.tags, lambda: mlp(10, 32, 4, tail=[nn.Softmax(1)]), BCE, adam(0.01), 15,
         encode="given", reads="half", keys="output_activation loss"),
    case("pairs/tags_cross_entropy", t.tags, lambda: mlp(10, 32, 4, tail=[nn.Sigmoid()]), CE, adam(0.01), 15,
         encode="given", reads="half", keys="loss output_activation", held=True),
    case("pairs/tags_cold", t.tags, lambda: mlp(10, 32, 4), LOGITS, sgd(1e-3), 8, encode="given", reads="zero",
         keys="lr optimizer epochs"),
    case("pairs/focal", breast, lambda: mlp(30, 16, 1), focal, adam(0.01), 12, reads="zero", **YES),
    case("pairs/hinge", breast, lambda: mlp(30, 16, 1), hinge, sgd(0.05), 12, reads="zero", held=True, **YES),
    case("pairs/keras_clipped_raw", lambda: t.images("MNIST"), lambda: mlp(784, 128, 10, tail=[nn.Softmax(1)]),
         clipped, sgd(0.05), 6, keys="scale lr loss output_activation normalization"),
    case("pairs/multi_margin", t.digits, digit_mlp, nn.MultiMarginLoss(), sgd(0.3), 15),
    case("pairs/one_minus_accuracy", iris, lambda: mlp(4, 16, 3), accuracy_loss, adam(0.01), 20, keys="loss",
         held=True),
    case("pairs/tanh_output_bce_logits", breast, lambda: mlp(30, 16, 1, tail=[nn.Tanh()]), LOGITS, adam(0.01), 15,
         reads="zero", **YES),
    case("pairs/poisson", lambda: (t.plane()[0], torch.poisson((t.plane()[1] / 3).exp() * 3,
         generator=torch.Generator().manual_seed(0))), lambda: mlp(6, 32, 1, tail=[nn.Softplus()]),
         nn.PoissonNLLLoss(log_input=False), adam(0.01), 25, best=0.75, held=True, **REAL),
]  # fmt: skip

DECAY: list[Case] = [
    case("weight_decay/adam_1", t.digits, digit_mlp, CE, adam(weight_decay=1.0), 15, keys="weight_decay"),
    case("weight_decay/adam_small", t.digits, digit_mlp, CE, adam(0.003, weight_decay=1e-4), 15),
    case("weight_decay/adam_tenth", t.digits, digit_mlp, CE, adam(0.003, weight_decay=0.1), 15, keys="weight_decay"),
    case("weight_decay/adamw_1", t.digits, digit_mlp, CE, adamw(0.003, weight_decay=1.0), 15),
    case("weight_decay/adamw_100", t.digits, digit_mlp, CE, adamw(0.003, weight_decay=100.0), 15, keys="weight_decay"),
    case("weight_decay/sgd_half", t.digits, digit_mlp, CE, sgd(0.1, weight_decay=0.5), 15, keys="weight_decay"),
    case("weight_decay/sgd_small", t.digits, digit_mlp, CE, sgd(0.1, weight_decay=1e-4), 15, held=True),
    case("weight_decay/regression_adam", friedman, lambda: mlp(10, 32, 1), MSE, adam(0.01, weight_decay=2.0), 25,
         best=0.9, keys="weight_decay", held=True, **REAL),
    case("weight_decay/regression_adamw", friedman, lambda: mlp(10, 32, 1), MSE, adamw(0.01, weight_decay=0.1), 25,
         best=0.9, held=True, **REAL),
    case("weight_decay/breast_sgd_20", breast, lambda: mlp(30, 16, 1), LOGITS, sgd(0.05, weight_decay=20.0), 15,
         reads="zero", keys="weight_decay lr", **YES),
]  # fmt: skip

RATE: list[Case] = [
    case("lr/sgd_1e-5", t.digits, digit_mlp, CE, sgd(1e-5), 15, keys="lr optimizer epochs"),
    case("lr/sgd_50", t.digits, digit_mlp, CE, sgd(50.0), 15, keys="lr"),
    case("lr/sgd_half", t.digits, digit_mlp, CE, sgd(0.5), 12),
    case("lr/momentum_3", t.digits, digit_mlp, CE, sgd(3.0, momentum=0.95), 15, keys="lr"),
    case("lr/momentum_well", t.digits, digit_mlp, CE, sgd(0.02, momentum=0.9), 12, held=True),
    case("lr/nesterov_cold", breast, lambda: mlp(30, 16, 2), CE, sgd(1e-6, momentum=0.9, nesterov=True), 15,
         keys="lr optimizer epochs", held=True),
    case("lr/adam_1e-6", t.digits, digit_mlp, CE, adam(1e-6), 15, keys="lr epochs"),
    case("lr/adam_1", t.digits, lambda: mlp(64, 64, 64, 10), CE, adam(1.0), 15, keys="lr"),
    case("lr/adam_default", t.digits, lambda: mlp(64, 128, 10), CE, adam(), 20),
    case("lr/rmsprop_1", t.digits, lambda: mlp(64, 64, 64, 10), CE, rmsprop(1.0), 12, keys="lr", held=True),
    case("lr/rmsprop_well", wine, lambda: mlp(13, 32, 3), CE, rmsprop(0.003), 15),
    case("lr/rmsprop_1e-6", wine, lambda: mlp(13, 32, 3), CE, rmsprop(1e-6), 15, keys="lr epochs"),
    case("lr/adagrad_well", t.digits, digit_mlp, CE, lambda m: torch.optim.Adagrad(m.parameters(), lr=0.05), 12,
         held=True),
    case("lr/adagrad_cold", t.digits, digit_mlp, CE, lambda m: torch.optim.Adagrad(m.parameters(), lr=1e-4), 12,
         keys="lr optimizer epochs"),
    case("lr/adadelta_default", t.digits, digit_mlp, CE, lambda m: torch.optim.Adadelta(m.parameters()), 12, held=True),
    case("lr/gradient_ascent", t.digits, digit_mlp, CE, sgd(0.05, maximize=True), 10, keys="optimizer lr"),
    case("lr/regression_sgd_hot", friedman, lambda: mlp(10, 64, 1), MSE, sgd(3.0), 20, best=0.9, keys="lr", **REAL),
    case("lr/regression_adam_hot", friedman, lambda: mlp(10, 32, 32, 1), MSE, adam(3.0), 25, best=0.9, keys="lr",
         held=True, **REAL),
    case("lr/two_groups_cold", t.digits, digit_mlp, CE, lambda m: torch.optim.SGD([{"params": m[0].parameters()},
         {"params": m[2].parameters(), "lr": 1e-4}], lr=1e-5), 12,
         keys="lr optimizer epochs"),
    case("lr/tanh_sgd_hot", t.digits, lambda: mlp(64, 64, 64, 10, act=nn.Tanh), CE, sgd(20.0), 12, keys="lr",
         held=True),
]  # fmt: skip

EPOCHS: list[Case] = [
    case("epochs/digits_one", t.digits, digit_mlp, CE, sgd(0.05), 1, keys="epochs lr optimizer"),
    case("epochs/digits_thirty", t.digits, digit_mlp, CE, sgd(0.05), 30),
    case("epochs/iris_two", iris, lambda: mlp(4, 16, 3), CE, adam(0.001), 2, keys="epochs lr optimizer"),
    case("epochs/iris_hundred", iris, lambda: mlp(4, 16, 3), CE, adam(0.003), 100, held=True),
    case("epochs/wave_five", t.wave, lambda: mlp(1, 32, 32, 1, act=nn.Tanh), MSE, adam(0.001), 5, best=0.9,
         keys="epochs lr optimizer batch_size", **REAL),
    case("epochs/wave_long", t.wave, lambda: mlp(1, 32, 32, 1, act=nn.Tanh), MSE, adam(0.01), 80, best=0.9, **REAL),
    case("epochs/digits_full_batch_ten", t.digits, digit_mlp, CE, sgd(0.05), 10, batch="full",
         keys="epochs batch_size lr optimizer"),
    case("epochs/big_batch_five", mnist, lambda: mlp(784, 32, 10), CE, adam(1e-4), 3, batch=500,
         keys="epochs batch_size lr optimizer", held=True),
    case("epochs/mnist_small_batch", mnist, lambda: mlp(784, 64, 10), CE, sgd(0.1), 5, batch=16),
]  # fmt: skip


class Module(lightning.LightningModule):
    """A LightningModule as its documentation writes it."""

    def __init__(self, net: nn.Module, lr: float, loss: Any = F.cross_entropy, schedule: bool = False):
        super().__init__()
        self.net, self.lr, self.loss, self.schedule = net, lr, loss, schedule

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = self.loss(self(x), y)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        if not self.schedule:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.5)}


LIGHTNING: list[Case] = [
    case("lightning/digits", t.digits, lambda: Module(digit_mlp(), 0.003), None, None, 12, form=loader),
    case("lightning/digits_cold", t.digits, lambda: Module(digit_mlp(), 1e-6), None, None, 12, form=loader,
         keys="lr epochs"),
    case("lightning/digits_hot", t.digits, lambda: Module(mlp(64, 64, 64, 10), 1.0), None, None, 12, form=loader,
         keys="lr", held=True),
    case("lightning/scheduled", wine, lambda: Module(mlp(13, 32, 3), 0.01, schedule=True), None, None, 15, batch=16,
         form=loader),
    case("lightning/wine_raw", lambda: t.bundled("wine"), lambda: Module(mlp(13, 32, 3), 0.001), None, None, 25,
         batch=16, form=loader, keys="scale normalization"),
    case("lightning/softmax", lambda: t.digits(400), lambda: Module(mlp(64, 64, 10, tail=[nn.Softmax(1)]), 3e-4),
         None, None, 10, form=loader, keys="output_activation loss lr epochs"),
    case("lightning/regression", friedman, lambda: Module(mlp(10, 32, 1), 0.01, F.mse_loss), None, None, 25,
         form=loader, best=0.9, held=True, **REAL),
    case("lightning/rents_target", lambda: (t.standard(t.rents())[0], t.rents()[1]), lambda: Module(mlp(4, 32, 1),
         0.001, F.mse_loss), None, None, 20, form=loader,
         keys="target_scale lr", **REAL),
    case("lightning/cnn", t.digit_images, lambda: Module(cnn(8, 10), 0.003), None, None, 8, form=loader, held=True),
    case("lightning/permuted", lambda: t.mixed(t.digits()), lambda: Module(mlp(64, 16, 10), 0.001), None, None, 8,
         form=loader, keys="labels", repairable=False, held=True),
]  # fmt: skip

COMPILED: list[Case] = [
    case("compiled/eager", t.digits, lambda: torch.compile(digit_mlp(), backend="eager"), CE, sgd(0.1), 15, slow=True),
    case("compiled/eager_cold", t.digits, lambda: torch.compile(Functional(64, 64, 10), backend="eager"), CE,
         sgd(1e-4), 15, keys="lr optimizer epochs", slow=True),
    case("compiled/inductor", wine, lambda: torch.compile(mlp(13, 32, 3)), CE, adam(0.005), 20, slow=True),
    case("compiled/dead", t.digits, lambda: torch.compile(biased(digit_mlp(), -40.0), backend="eager"), CE, sgd(0.1),
         12, keys="init activation", slow=True, held=True),
    case("compiled/batchnorm", t.digits, lambda: torch.compile(mlp(64, 64, 10, before=BATCH), backend="eager"), CE,
         sgd(0.05), 10, slow=True, held=True),
]  # fmt: skip

CASES = SOFTMAX + MSE_RAW + PAIRS + DECAY + RATE + EPOCHS + LIGHTNING + COMPILED
