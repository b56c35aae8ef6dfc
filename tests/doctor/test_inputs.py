"""What people pass: every usual form gets the same answer, and what cannot be diagnosed gets one clear line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import lightning
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import mlp_study
from mlp_study.errors import StudyError
from tests.doctor import tables as t
from tests.doctor.networks import mlp

X, Y = t.standard(t.bundled("wine"))
NAMES = np.array(["barolo", "grignolino", "barbera"])
QUICK = {"epochs": 12, "batch_size": 16, "budget": 10}
CE = nn.CrossEntropyLoss()


class Records(Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return X[i].numpy(), int(Y[i])


def frame(**more: Any) -> pd.DataFrame:
    table = pd.DataFrame(X.double().numpy(), columns=[f"c{i}" for i in range(13)], **more)
    table["c3"] = (table["c3"] > 0).astype(bool)
    return table


def wine(lr: float = 0.01) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = mlp(13, 32, 3)
    return model, torch.optim.Adam(model.parameters(), lr=lr)


def slowly(value: Any) -> Any:
    """Ask this only in the slow tests: its fixes are searched for."""
    return pytest.param(value, marks=pytest.mark.slow)


def three_labels(y: torch.Tensor) -> torch.Tensor:
    return torch.stack([y > 0, y > 1, y != 1], 1).float()


def answer(ask: Callable[[], Any]) -> Any:
    """Return what is found, or the error's line."""
    try:
        return ask()
    except (StudyError, ValueError, TypeError) as error:
        return str(error)


FORMS = {
    "tensors": lambda: (X, Y),
    "list": lambda: [X, Y],
    "float64": lambda: (X.double(), Y),
    "arrays": lambda: (X.double().numpy(), Y.numpy().astype(np.int16)),
    "fortran": lambda: (np.asfortranarray(X.numpy()), Y.numpy()),
    "read_only": lambda: tuple(map(locked, (X.numpy().copy(), Y.numpy().copy()))),
    "frame_series": lambda: (frame(), pd.Series(Y.numpy())),
    "other_index": lambda: (frame(index=range(500, 678)), pd.Series(Y.numpy(), index=range(178)[::-1])),
    "one_hot": lambda: (X, F.one_hot(Y).float()),
    "one_hot_int": lambda: (X.numpy(), F.one_hot(Y).numpy()),
    "tensor_dataset": lambda: TensorDataset(X, Y),
    "records": Records,
    "loader": lambda: DataLoader(TensorDataset(X, Y), 16, shuffle=True),
    "list_of_pairs": lambda: [(X[i], int(Y[i])) for i in range(len(X))],
}


def locked(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_data_gets_the_same_verdict(form):
    model, optimizer = wine()
    data = FORMS[form]()
    sizes = {"epochs": 12, "budget": 10} if isinstance(data, DataLoader) else QUICK
    found = mlp_study.diagnose(model, CE, optimizer, data, **sizes)
    assert found.will_train
    assert found.verdict in ("will train", "will train slowly")


@pytest.mark.parametrize("form", ["one_hot", *map(slowly, ["tensors", "arrays", "frame_series", "records", "loader"])])
def test_a_fix_answers_in_the_targets_own_terms(form):
    model, optimizer = wine(1e-6)
    data = FORMS[form]()
    sizes = {"epochs": 12, "budget": 10} if isinstance(data, DataLoader) else QUICK
    found = mlp_study.diagnose(model, CE, optimizer, data, **sizes)
    assert not found.will_train
    better = found.fixes[0].apply()
    better.fit()
    said = np.asarray(better.predict(data[0] if isinstance(data, tuple) else X)).reshape(-1)
    assert (said == Y.numpy()).mean() > 0.9


@pytest.mark.parametrize(
    ("target", "model", "loss", "allowed"),
    [
        (lambda y: (y == 1).float()[:, None], lambda: mlp(13, 16, 1), nn.BCEWithLogitsLoss(), {0.0, 1.0}),
        (lambda y: (y == 1).float()[:, None], lambda: mlp(13, 16, 1, tail=[nn.Sigmoid()]), nn.BCELoss(), {0.0, 1.0}),
        (lambda y: F.one_hot(y).float(), lambda: mlp(13, 16, 3), nn.BCEWithLogitsLoss(), {0.0, 1.0, 2.0}),
        (three_labels, lambda: mlp(13, 16, 3), nn.BCEWithLogitsLoss(), {0.0, 1.0}),
    ],
    ids=["logits", "sigmoid", "one_hot_bce", "labels"],
)  # fmt: skip
@pytest.mark.slow
def test_yes_and_no_are_answered_as_0_and_1(target, model, loss, allowed):
    torch.manual_seed(0)
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-5)
    better = mlp_study.diagnose(net, loss, optimizer, (X, target(Y)), **QUICK).fixes[0].apply()
    better.fit()
    assert set(np.unique(np.asarray(better.predict(X))).astype(float)) <= allowed


def test_a_batch_size_may_be_numpys_or_full():
    model, optimizer = wine(0.05)
    whole = mlp_study.diagnose(model, CE, optimizer, (X, Y), epochs=60, batch_size="full", budget=10)
    numbers = mlp_study.diagnose(model, CE, optimizer, (X, Y), epochs=np.int64(60), batch_size=np.int32(178), budget=10)
    assert whole.will_train
    assert numbers.will_train


KERAS = [
    {"loss": "sparse_categorical_crossentropy", "optimizer": "Adam", "learning_rate": 0.01},
    {"loss": "sparse_categorical_crossentropy", "optimizer": "adam", "lr": 0.01},
    {"loss": "SparseCategoricalCrossentropy", "optimizer": "Adam", "lr": 0.01},
    {"loss": "categorical_crossentropy", "optimizer": "RMSprop", "lr": 0.005},
    {"loss": "cross_entropy", "optimizer": "SGD", "lr": 0.1},
    {"loss": CE, "optimizer": "adamw", "lr": 0.01},
    {"loss": F.cross_entropy, "optimizer": torch.optim.Adam, "lr": 0.01},
]


@pytest.mark.parametrize("names", KERAS, ids=lambda names: "-".join(str(v)[:30] for v in names.values()))
def test_names_from_keras_are_understood_or_answered_with_ours(names):
    model, _ = wine()
    found = answer(lambda: mlp_study.diagnose(model, data=(X, Y), **names, **QUICK))
    if isinstance(found, str):
        assert re.search(r"\blr\b|cross_entropy|CrossEntropyLoss|adam|SGD|optimizer", found)
    else:
        assert found.will_train


class Stream(IterableDataset):
    """Can be read once."""

    def __init__(self):
        self.rows = iter(zip(X, Y, strict=True))

    def __iter__(self):
        return self.rows


class Few(Records):
    def __len__(self):
        return 5


def asked(**changes: Any) -> Any:
    """Diagnose wine with some arguments replaced."""
    model, optimizer = wine()
    given = {"model": model, "loss": CE, "optimizer": optimizer, "data": (X, Y), **QUICK} | changes
    return mlp_study.diagnose(given.pop("model"), given.pop("loss"), given.pop("optimizer"), given.pop("data"), **given)


class TwoOptimizers(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.g, self.d = nn.Linear(13, 13), nn.Linear(13, 1)

    def training_step(self, batch, batch_idx):
        return self.d(self.g(batch[0])).mean()

    def configure_optimizers(self):
        return [torch.optim.Adam(self.g.parameters()), torch.optim.Adam(self.d.parameters())]


def two_optimizers() -> Any:
    return mlp_study.diagnose(TwoOptimizers(), data=DataLoader(TensorDataset(X, Y), 16), epochs=2)


REFUSED = {
    "two_optimizers": (two_optimizers, "optimizer"),
    "list_of_optimizers": (lambda: asked(optimizer=[wine()[1], wine()[1]]), "optimizer"),
    "generator": (lambda: asked(data=(pair for pair in zip(X, Y, strict=True))), "once|again|stream|generator"),
    "stream": (lambda: asked(data=DataLoader(Stream(), 16), batch_size=None), "once|again|stream"),
    "no_parameters": (lambda: asked(model=nn.Sequential(nn.Flatten(), nn.Softmax(1))), "parameter"),
    "not_a_model": (lambda: asked(model="mlp"), "model"),
    "a_class": (lambda: asked(model=nn.Linear), "model|instance"),
    "wrong_width": (lambda: asked(data=(X[:, :7], Y)), "7|13|shape"),
    "lengths_differ": (lambda: asked(data=(X, Y[:-5])), "178|173"),
    "unknown_loss": (lambda: asked(loss="crossentropi"), "loss"),
    "unknown_optimizer": (lambda: asked(optimizer="adamm", lr=0.01), "optimizer"),
    "name_without_lr": (lambda: asked(optimizer="sgd"), "lr"),
    "empty": (lambda: asked(data=(X[:0], Y[:0])), "no example|empty|at least one"),
    "empty_loader": (lambda: asked(data=DataLoader(Few(), 16, drop_last=True), batch_size=None), "no |empty"),
    "no_target": (lambda: asked(data=X), "target|data"),
    "words_in_a_column": (lambda: asked(data=(frame().assign(c5="red"), Y.numpy())), "c5"),
    "zero_epochs": (lambda: asked(epochs=0), "epochs"),
    "half_an_epoch": (lambda: asked(epochs=0.5), "epochs"),
    "negative_batch": (lambda: asked(batch_size=-3), "batch_size"),
    "batch_of_words": (lambda: asked(batch_size="all"), "batch_size"),
    "loss_of_vectors": (lambda: asked(loss=nn.CrossEntropyLoss(reduction="none")), "loss|reduction|scalar"),
    "loss_of_floats": (lambda: asked(loss=lambda o, y: F.cross_entropy(o, y).item()), "loss|tensor"),
    "no_budget": (lambda: asked(budget=-1), "budget"),
    "negative_lr": (lambda: asked(optimizer="sgd", lr=-0.1), "lr|learning rate"),
    "step_without_loss": (lambda: asked(loss=None, step=lambda model, batch: None), "step|loss"),
    "unknown_option": (lambda: asked(epoch=3), "epoch"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_diagnosed_gets_one_clear_line(what):
    ask, names = REFUSED[what]
    with pytest.raises((StudyError, ValueError, TypeError)) as caught:
        ask()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert re.search(names, str(caught.value)), str(caught.value)
    if what != "unknown_option":  # Python itself answers this one
        assert isinstance(caught.value, StudyError | ValueError)


def test_an_optimizer_of_another_model_is_named():
    """As a cause of the failure, or as an error."""
    found = answer(lambda: asked(optimizer=wine()[1]))
    if isinstance(found, str):
        assert "optimizer" in found
    else:
        assert not found.will_train
        assert {"optimizer", "frozen"} & {cause.key for cause in found.causes}


@pytest.mark.parametrize("target", [Y.int(), Y[:, None], Y.float()], ids=["int32", "column", "float"])
def test_targets_that_the_loss_refuses_are_taken_or_named(target):
    """PyTorch stops at each of these: the labels are the cause and are mended, or they are taken for what is meant."""
    found = answer(lambda: asked(data=(X, target)))
    if isinstance(found, str) or found.will_train:
        assert not isinstance(found, str) or re.search("target|label|y ", found)
    else:
        assert "labels" in {cause.key for cause in found.causes}
        better = found.fixes[0].apply()
        better.fit()
        assert (np.asarray(better.predict(X)).reshape(-1) == Y.numpy()).mean() > 0.9


def test_words_as_classes_are_taken_or_refused_in_one_line():
    found = answer(lambda: asked(data=(frame(), pd.Series(NAMES[Y.numpy()]))))
    if isinstance(found, str):
        assert re.search("barolo|str|object|word|number|class", found)
    else:
        assert found.will_train


@pytest.mark.filterwarnings("default")
def test_the_old_call_still_works_and_warns():
    torch.manual_seed(0)
    with pytest.warns((DeprecationWarning, FutureWarning, UserWarning)):
        found = mlp_study.diagnose(mlp(13, 32, 3), X, Y, lr=0.1, optimizer="sgd", batch_size=16, epochs=12)
    assert found.will_train


def test_help_is_a_page():
    assert type(mlp_study.diagnose).__name__ == "function"
    page = mlp_study.diagnose.__doc__
    for word in ("model", "loss", "optimizer", "data", "epochs", "batch_size", "shuffle", "step", "budget", "fixes"):
        assert word in page
