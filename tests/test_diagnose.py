"""The diagnosis: verdicts on the puzzle, cures that hold, the command, trained runs, and a user's own network."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from torch import nn

import mlp_study
from mlp_study import diagnose as command
from mlp_study.compose import compose
from mlp_study.config import RunConfig
from mlp_study.data.images import load
from mlp_study.diagnosis.cures import Cure, changed
from mlp_study.diagnosis.diagnosis import Diagnosis, diagnose_config
from mlp_study.diagnosis.history import history_of
from mlp_study.diagnosis.layers import layers_of
from mlp_study.diagnosis.panel import as_dict, print_panel
from mlp_study.errors import StudyError
from mlp_study.probes.verdict import Glimpse, Verdict
from mlp_study.records.recorder import Recorder
from mlp_study.records.run_folder import Run
from mlp_study.training.population import train_population

IMAGES = load("digits")
X_NI, Y_N = IMAGES.train_images_NI.float(), IMAGES.train_labels_N


def config(*overrides):
    return RunConfig.from_dict(compose(list(overrides)))


@pytest.mark.parametrize(
    ("overrides", "verdict"),
    [
        (["activation=relu", "data.scale=none"], "will collapse: dead units"),
        (["activation=relu", "data.scale=unit"], "will train"),
        (["activation=sigmoid", "data.scale=unit", "trainer.max_epochs=1"], "will train slowly"),
        (
            ["data.scale=none", "optimizer=adam", "loss=clipped_cross_entropy", "model.widths=[128,128]"],
            "will collapse: clipped-loss plateau",
        ),
        (["activation=relu", "data.scale=none", "loss=mse", "optimizer=adam"], "will collapse: saturation"),
        (
            ["activation=leaky_relu", "data.scale=none", "optimizer.lr=1", "model.widths=[100,100]"],
            "will collapse: divergence",
        ),
        (["activation=tanh", "data.scale=none", "optimizer.lr=1"], "will collapse: saturation"),
        (["optimizer=adam", "optimizer.lr=0.003", "data.limit=1000", "trainer.max_epochs=3"], "will train"),
        (["optimizer.lr=0.1", "data.limit=1000", "trainer.max_epochs=4", "schedule=cosine"], "will train"),
    ],
)
def test_verdicts_on_known_cases(overrides, verdict):
    assert diagnose_config(config(*overrides), IMAGES, cures=False).verdict.outcome == verdict


def test_a_close_call_is_headed_as_one_and_has_cures_tried():
    found = diagnose_config(config("optimizer.lr=0.01", "trainer.max_epochs=1"), IMAGES)
    assert found.verdict.outcome == "will train"
    assert found.verdict.close_call
    assert found.cures[0].verdict.probability > found.verdict.probability
    assert found.cures[0].effect > 0
    for words in ("Verdict: will train (a close call)", "Cures, tried for", found.cures[0].overrides[0]):
        assert words in str(found)
    assert "will train (a close call)" in repr(found)


def test_a_panel_breaks_no_number_and_lists_no_change_that_harms():
    layer = {"preactivation_mean": -3.62e-09, "preactivation_deviation": 0.0478, "preactivation_low": -1.23e6}
    layer |= {"preactivation_high": 0.181, "sparsity": 0.54, "dead": 0.06, "always_on": 0.06, "missed": 0.12}
    glimpse = Glimpse(
        {f"{name}_0": value for name, value in layer.items()}, [{"step": 0.0, "loss": 2.46, "accuracy": 0.16}]
    )
    ill = Verdict("will train slowly", 0.0)

    def tried(name, effect, verdict=ill):
        return Cure((name,), "", verdict, 0.16 + effect, 2.4, 128, effect)

    cures = [tried("optimizer=adam", 0.8), tried("optimizer.lr=3e-05", 0.0), tried("activation=elu", -0.004)]
    shown = [panel_of(Diagnosis({}, glimpse, ill, some)) for some in (cures, cures[1:])]
    assert re.search(r" 0 +0\.000 +0\.048 +-1\.2e\+06 +0\.181 +54% +6% +6% +12% ", shown[0])
    assert re.search(r"lowest z +highest", shown[0])
    assert "optimizer=adam" in shown[0]
    assert not re.search("lr=3e-05|activation=elu", shown[0])
    assert "No cure: none of 2 changes raises the accuracy in 128 steps" in shown[1]


def panel_of(diagnosis: Diagnosis) -> str:
    """As a terminal of 80 columns shows it."""
    console = Console(file=io.StringIO(), width=80)
    print_panel(diagnosis, console)
    return console.file.getvalue()


@pytest.mark.slow
def test_the_best_cure_cures():
    """The cure's overrides, typed after the failing ones, train to what the diagnosis foretells."""
    broken = ["activation=relu", "data.scale=none", "trainer.max_epochs=6"]
    found = diagnose_config(config(*broken), IMAGES)
    assert found.cures[0].effect > 0.5
    tried = {cure.overrides: cure for cure in found.cures}
    assert ("data.scale=unit",) in tried
    [ill, cured] = (config(*broken, *extra) for extra in ([], found.cures[0].overrides))
    accuracies = [train_population([c], images=IMAGES)[0].metrics["test/accuracy"] for c in (ill, cured)]
    assert accuracies[0] < 0.2
    assert accuracies[1] > 0.9


def test_a_cure_typed_is_the_cure_tried():
    base = config("data.scale=none", "optimizer=momentum", "optimizer.momentum=0.5")
    assert changed(base, {"optimizer": "adam"}) == config("data.scale=none", "optimizer=adam")
    assert changed(base, {"optimizer.lr": 0.002}) == config(
        "data.scale=none", "optimizer=momentum", "optimizer.momentum=0.5", "optimizer.lr=0.002"
    )


def test_the_command_prints_a_panel_and_a_figure(capsys, tmp_path):
    figure = tmp_path / "a folder" / "z.png"
    command.main(["activation=relu", "data.scale=none", "model.widths=[16,16]", "--no-cures", f"--figure={figure}"])
    said = capsys.readouterr().out
    for words in ("will collapse", "stability index", "Look-ahead", "dead"):
        assert words in said
    assert figure.read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize(("name", "start"), [("z.svg", b"<?xml"), ("z.PDF", b"%PDF"), ("z.PNG", b"\x89PNG")])
def test_a_figure_is_what_its_name_says(name, start, tmp_path):
    command.main(["model.widths=[16]", "--no-cures", f"--figure={tmp_path / name}"])
    assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("terminal", "flags", "shown"), [(True, [], True), (True, ["--json"], False), (False, [], False)]
)
def test_progress_is_shown_on_a_terminal_only(terminal, flags, shown, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    command.main(["model.widths=[16]", "--no-cures", "--figure=none", *flags])
    said = capsys.readouterr()
    assert ("looking at digits" in said.err) == shown
    assert "looking at digits" not in said.out


def test_json_is_for_programs(capsys):
    command.main(["data.scale=none", "model.widths=[16]", "--json", "--figure=none"])
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"].startswith("will collapse")
    assert found["cures"][0]["overrides"]
    assert len(found["layers"]) == 1
    assert found["look_ahead"][0]["step"] == 0


def test_help_names_the_flags_and_no_multirun():
    done = subprocess.run(
        [sys.executable, "-m", "mlp_study.diagnose", "--help"], capture_output=True, text=True, check=True
    )
    for flag in (*command.FLAGS, "run=FOLDER", "usage: python -m mlp_study.diagnose [key=value ...]"):
        assert flag in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["activation=rellu"], "did you mean 'relu'"),
        (["--jsn"], "--jsn is unknown"),
        (["--json=yes"], "--json=yes is unknown"),
        (["run=/nowhere", "--figure=z.png"], "mlp_study.report /nowhere draws"),
        (["--no-cures", "--figure=/dev/null/z.png"], "--figure=/dev/null/z.png can't be written"),
        (["--figure"], "--figure has no value; it takes a file's name, --figure=FILE, or --figure=none"),
        (["--figure="], "--figure= has no value"),
        (["--figure=x.xyz"], "--figure=x.xyz is not valid; it takes a name that ends in .png, .svg, .pdf, or none"),
        (["--figure=x"], "--figure=x is not valid"),
        (["activation=relu,tanh"], "activation=relu,tanh: .* sweep; diagnose takes one configuration$"),
        (["-m", "activation=relu,tanh"], "-m makes a sweep; diagnose takes one configuration$"),
        (["run=/nowhere"], "holds no finished run"),
        (["run=/nowhere", "activation=relu"], "takes no other overrides"),
        (["optimizer.lr=-1"], "optimizer.lr=-1"),
    ],
)
def test_bad_arguments_are_one_clear_line(arguments, words):
    with pytest.raises(StudyError, match=words):
        command.main(arguments)


def test_a_trained_run_is_diagnosed_from_its_record(tmp_path, capsys):
    c = config("data.scale=none", "model.widths=[16]", "trainer.max_epochs=5", "wandb.mode=disabled", "save=none")
    with Recorder([tmp_path]) as recorder:
        train_population([c], recorder, images=IMAGES)
    command.main([f"run={tmp_path}", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["final"]["dead"] > found["initial"]["dead"]
    assert 1 <= found["passed"]["dead"] <= 5
    command.main([f"run={tmp_path}"])
    assert "units are dead by the end of epoch" in capsys.readouterr().out


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


def test_data_of_one_class_are_refused():
    labels = IMAGES.train_labels_N * 0, IMAGES.test_labels_N * 0
    one = dataclasses.replace(IMAGES, train_labels_N=labels[0], test_labels_N=labels[1], classes=("0",))
    with pytest.raises(StudyError, match="has one class"):
        diagnose_config(config(), one)


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


def test_the_name_means_the_same_before_and_after_the_command_is_imported():
    code = "import mlp_study; a = mlp_study.diagnose; import mlp_study.diagnose; assert a is mlp_study.diagnose; a()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "missing 3 required positional arguments" in done.stderr


def test_a_run_that_stopped_early_is_told_in_words():
    ends = {"initial": {"dead": 0.0}, "final": {"dead": 1.0}}
    result = {"outcome": "early_stopped", "cause": "val/loss has not improved for 1 epoch", "diagnostics": ends}
    run = Run(Path("r"), config(), pd.DataFrame({"epoch": [1, 2], "dead": [0.5, 1.0]}), result, None)
    assert history_of(run)["sentences"] == [
        "the run stopped early: val/loss has not improved for 1 epoch",
        "0% of the units are dead before training, 100% at the end",
        "80% or more of the units are dead by the end of epoch 2",
    ]
