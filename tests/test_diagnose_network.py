"""``mlp_study.diagnose(model, x, y, ...)``: networks of the user's own."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

import mlp_study
from mlp_study.data.images import load
from mlp_study.diagnosis.layers import layers_of
from mlp_study.diagnosis.panel import as_dict
from mlp_study.errors import StudyError

IMAGES = load("digits")
X_NI, Y_N = IMAGES.train_images_NI.float(), IMAGES.train_labels_N


def network(*hidden):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 32), *hidden)


def test_numbers_may_be_numpys_or_pytorchs():
    model, own = network(nn.ReLU(), nn.Linear(32, 10)), {"optimizer": "momentum", "lr": 0.5}
    plain = mlp_study.diagnose(model, X_NI / 255, Y_N, **own, batch_size=50, epochs=3, steps=4, momentum=0.5)
    numbers = {"batch_size": np.int64(50), "epochs": np.int64(3), "steps": torch.tensor(4), "momentum": np.float64(0.5)}
    again = mlp_study.diagnose(model, X_NI / 255, Y_N, **own, **numbers)
    assert again.glimpse.rows == plain.glimpse.rows


def test_a_users_network_in_python():
    model = network(nn.ReLU(), nn.Linear(32, 16, bias=False), nn.Tanh(), nn.Linear(16, 10))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ill = mlp_study.diagnose(model, X_NI.view(-1, 28, 28), Y_N, lr=0.01, epochs=15)
    assert ill.verdict.outcome == "will collapse: saturation"
    assert any(cure.overrides[0].startswith("x = ") and cure.verdict.will_learn for cure in ill.cures)
    healthy = mlp_study.diagnose(model, X_NI / 255, Y_N, lr=0.1)
    assert healthy.verdict.will_learn
    assert healthy.seen == 512
    assert "will train" in repr(healthy)
    shown = str(ill)
    for words in ("will collapse: saturation", "784-32-16-10, relu, tanh", "Cures", ill.cures[0].overrides[0]):
        assert words in shown
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
    assert model.training


@pytest.mark.parametrize(
    "hidden",
    [
        [nn.ELU(0.5)],
        [nn.BatchNorm1d(32), nn.Dropout(0.0), nn.ReLU()],
        [nn.LayerNorm(32), nn.Tanh(), nn.Linear(32, 32, bias=False), nn.GELU()],
        [nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 32), nn.LayerNorm(32), nn.Linear(32, 32), nn.SiLU()],
    ],
    ids=lambda hidden: "-".join(type(module).__name__ for module in hidden),
)
def test_a_users_network_is_trained_as_torch_would(hidden):
    """The look-ahead's losses against a plain torch loop over the same minibatches: full batches need no order."""
    model = network(*copy.deepcopy(hidden), nn.Linear(32, 10))
    for module in model:
        if isinstance(module, nn.BatchNorm1d | nn.LayerNorm):  # as if trained before
            nn.init.normal_(module.weight, 1.0, 0.3)
            nn.init.normal_(module.bias, 0.1, 0.3)
    before = copy.deepcopy(model.state_dict())
    x, y = X_NI[:200] / 255, Y_N[:200]
    found = mlp_study.diagnose(model, x, y, lr=0.05, optimizer="momentum", momentum=0.8, batch_size="full", steps=10)
    assert found.seen == 200
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
    descent = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.8)
    for step in range(10):
        loss = nn.functional.cross_entropy(model(x), y)
        assert found.glimpse.losses[step] == pytest.approx(loss.item(), rel=1e-4)
        descent.zero_grad()
        loss.backward()
        descent.step()


@pytest.mark.parametrize(
    ("ending", "loss", "words"),
    [
        (nn.Softmax(1), "cross_entropy", "torch.nn.CrossEntropyLoss would apply softmax twice"),
        (nn.Softmax(-1), "mse", "mse takes logits here, and applies a softmax of its own"),
        (nn.LogSoftmax(1), "cross_entropy", ""),
        (nn.Identity(), "cross_entropy", ""),
    ],
)
def test_a_final_softmax_is_left_out_and_that_is_said(ending, loss, words):
    """Judged on logits either way; only a Softmax makes the user's own training another one."""
    model, asked = network(nn.ReLU(), nn.Linear(32, 10)), {"lr": 0.01, "loss": loss, "steps": 4}
    found = mlp_study.diagnose(nn.Sequential(*model, ending), X_NI[:60] / 255, Y_N[:60], **asked)
    assert found.glimpse.losses == mlp_study.diagnose(model, X_NI[:60] / 255, Y_N[:60], **asked).glimpse.losses
    assert len(found.notes) == bool(words)
    assert as_dict(found)["notes"] == list(found.notes)
    shown = " ".join(str(found).replace("│", " ").split())
    assert ("the final Softmax is left out" in shown) == bool(words)
    assert words in shown


def test_what_is_taken_otherwise_is_said():
    model = network(nn.PReLU(), nn.Dropout(0.5), nn.Linear(32, 10))
    notes = mlp_study.diagnose(model, X_NI[:60] / 255, Y_N[:60], lr=0.01, steps=4).notes
    assert notes == ("Dropout is taken as absent", "PReLU's slope is taken as fixed")


def test_normalization_is_tried_as_a_cure_and_seen_where_it_is():
    bare = network(nn.ReLU(), nn.Linear(32, 10))
    cures = {cure.overrides[0]: cure for cure in mlp_study.diagnose(bare, X_NI, Y_N, lr=0.01).cures}
    assert cures["nn.BatchNorm1d between Linear and activation"].effect > 0.5
    cured = mlp_study.diagnose(network(nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10)), X_NI, Y_N, lr=0.01)
    assert cured.verdict.will_learn
    assert cured.about["network"] == "784-32-10, batch norm and relu"


def test_arrays_and_lists_are_taken_as_tensors():
    asked = [(FINE, x, y) for x, y in ((X_NI[:60], Y_N[:60]), (X_NI[:60].numpy(), Y_N[:60].tolist()))]
    of_tensors, of_arrays = (mlp_study.diagnose(*three, lr=0.01, steps=4) for three in asked)
    assert of_arrays.glimpse.losses == of_tensors.glimpse.losses


def test_other_precisions_and_small_types_are_the_same_network():
    asked = {"lr": 0.01, "steps": 4}
    single = mlp_study.diagnose(FINE, X_NI[:60] / 255, Y_N[:60], **asked).glimpse.losses
    double = mlp_study.diagnose(copy.deepcopy(FINE).double(), X_NI[:60] / 255, Y_N[:60].to(torch.uint16), **asked)
    assert double.glimpse.losses == single
    half = mlp_study.diagnose(copy.deepcopy(FINE).bfloat16(), X_NI[:60] / 255, Y_N[:60], **asked)
    assert half.glimpse.losses == pytest.approx(single, rel=0.01)


def test_layers_are_found_in_the_order_of_the_calls():
    class Crossed(nn.Module):
        def __init__(self):
            super().__init__()
            self.out, self.act, self.first = nn.Linear(32, 10), nn.LeakyReLU(0.3), nn.Linear(784, 32)

        def forward(self, x):
            return self.out(self.act(self.first(x)))

    model = Crossed()
    found = layers_of(model, X_NI[:2])
    assert found.linears == [model.first, model.out]
    assert found.activations[0].options == {"slope": pytest.approx(0.3)}
    assert found.norms == [None]


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(784, 8), nn.Linear(8, 10)

    def forward(self, x):
        return self.b(torch.relu(self.a(x)))


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.whole = network(nn.ReLU(), nn.Linear(32, 10))

    def forward(self, x):
        return self.whole(x), x


def with_weights(change):
    """A network of which one layer's weights were changed."""
    model = network(nn.ReLU(), nn.Linear(32, 10))
    change(model[1].weight)
    return model


SHARED = nn.Linear(32, 32)
FINE = network(nn.ReLU(), nn.Linear(32, 10))
NAN = torch.where(torch.arange(784) == 3, torch.nan, X_NI[:50])


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((FINE, X_NI, Y_N), {}, "lr is missing"),
        ((FINE, X_NI, Y_N), {"lr": -1.0}, "optimizer.lr=-1"),
        ((FINE, X_NI, Y_N), {"lr": 0.1, "optimizer": "sgdd"}, "did you mean 'sgd'"),
        ((FINE, X_NI, Y_N), {"lr": 0.1, "loss": "hinge"}, "loss='hinge' is unknown"),
        ((FINE, X_NI, Y_N[:5]), {"lr": 0.1}, r"y has shape \[5\]"),
        ((FINE, X_NI, Y_N.float()), {"lr": 0.1}, "whole numbers"),
        ((FINE, X_NI, Y_N + 1), {"lr": 0.1}, "the class 10"),
        ((FINE, X_NI, Y_N - 1), {"lr": 0.1}, "the class -1"),
        ((FINE, X_NI, Y_N > 3), {"lr": 0.1}, "y is torch.bool"),
        ((FINE, X_NI, Y_N.to(torch.complex64)), {"lr": 0.1}, "y is torch.complex64"),
        ((FINE, X_NI.to(torch.complex64), Y_N), {"lr": 0.1}, "x is torch.complex64"),
        ((FINE, X_NI, Y_N), {"lr": 0.1, "steps": 0}, "steps=0 is not valid"),
        ((Two(), X_NI, Y_N), {"lr": 0.1}, "does more than calling"),
        ((with_weights(lambda w: w.requires_grad_(False)), X_NI, Y_N), {"lr": 0.1}, "layer 1 .*requires_grad=False"),
        ((with_weights(lambda w: w.data.fill_(torch.inf)), X_NI, Y_N), {"lr": 0.1}, "layer 1 .*NaN or infinity"),
        ((network(SHARED, nn.ReLU(), SHARED, nn.Linear(32, 10)), X_NI, Y_N), {"lr": 0.1}, "has another's weights"),
        ((nn.Sequential(nn.Linear(784, 4), nn.ReLU(), nn.Linear(4, 1)), X_NI, Y_N * 0), {"lr": 0.1}, "has one output"),
        ((FINE, X_NI[:, :9], Y_N), {"lr": 0.1}, "the model fails on x"),
        (("net", X_NI, Y_N), {"lr": 0.1}, "model is a str"),
        ((FINE, "pixels", Y_N), {"lr": 0.1}, "x is a str"),
        ((FINE, X_NI, [[1], [2, 3]]), {"lr": 0.1}, "y is a list"),
        ((FINE, NAN, Y_N[:50]), {"lr": 0.1}, "NaN or infinity in 50 of its 50"),
        ((Functional(), X_NI, Y_N), {"lr": 0.1}, "F.relu as layers"),
        (
            (network(nn.ReLU(), nn.BatchNorm1d(32), nn.Linear(32, 10)), X_NI, Y_N),
            {"lr": 0.1},
            "3 .BatchNorm1d.* between",
        ),
        (
            (network(nn.BatchNorm1d(32, eps=0.01), nn.Linear(32, 10)), X_NI, Y_N),
            {"lr": 0.1},
            "2 .Batch.* eps=1e-05",
        ),
        (
            (network(nn.LayerNorm(32, bias=False), nn.Linear(32, 10)), X_NI, Y_N),
            {"lr": 0.1},
            "2 .LayerN.* and shift",
        ),
        ((network(nn.RMSNorm(32), nn.Linear(32, 10)), X_NI, Y_N), {"lr": 0.1}, "2 .RMSNorm. is not supported"),
        ((network(nn.Softplus(2.0), nn.Linear(32, 10)), X_NI, Y_N), {"lr": 0.1}, "2 .Softplus.beta=2.0.* is not sup"),
        ((network(nn.ReLU(), nn.Tanh(), nn.Linear(32, 10)), X_NI, Y_N), {"lr": 0.1}, "3 .Tanh.* one to each"),
        ((network(nn.Linear(32, 10), nn.LayerNorm(10)), X_NI, Y_N), {"lr": 0.1}, "ends with LayerNorm"),
        ((nn.Linear(784, 10), X_NI, Y_N), {"lr": 0.1}, "at least one hidden layer"),
        ((network(nn.ReLU(), nn.Linear(32, 10), nn.ReLU()), X_NI, Y_N), {"lr": 0.1}, "ends with relu"),
    ],
)
def test_bad_networks_and_data_are_one_clear_line(arguments, options, words):
    with pytest.raises(StudyError, match=words) as raised:
        mlp_study.diagnose(*arguments, **options)
    assert "\n" not in str(raised.value)
