"""The doctor's own parts: fixes are what they print, trainings answer in the targets' terms, words fit on a page."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mlp_study.doctor.changes import code_of
from mlp_study.doctor.checks import causes_before
from mlp_study.doctor.diagnosis import Diagnosis
from mlp_study.doctor.facts import facts_of
from mlp_study.doctor.given import training_of
from mlp_study.doctor.recipe_changes import changes_for
from mlp_study.doctor.search import attempt
from mlp_study.doctor.task import Task
from mlp_study.doctor.verdict import Course


def given(last: list[nn.Module], loss: nn.Module, outputs: int, y: str, **more):
    torch.manual_seed(0)
    x = torch.randn(200, 5) * torch.tensor([1.0, 1, 1, 50, 1])
    score = x[:, 0] + x[:, 1]
    targets = {"classes": (score > 0).long(), "binary": (score > 0).float()[:, None], "values": 100 * score[:, None]}
    layers = [nn.Linear(5, 8), nn.Sigmoid(), nn.Dropout(0.5), nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, outputs)]
    model = nn.Sequential(*layers, *last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    options = {"epochs": 2, "batch_size": 16, "shuffle": False, "lr": None, "step": None, "seed": 0} | more
    training, _ = training_of(model, loss, optimizer, (x, targets[y]), **options)
    return training


KINDS = {
    "softmax": ([nn.Softmax(1)], nn.CrossEntropyLoss(), 2, "classes"),
    "logits": ([], nn.CrossEntropyLoss(), 2, "classes"),
    "relu output": ([nn.ReLU()], nn.BCELoss(), 1, "binary"),
    "values": ([nn.Sigmoid()], nn.MSELoss(), 1, "values"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_change_prints_is_what_is_run(kind):
    """The printed Python, run by itself on a user's objects, trains to the same weights."""
    training = given(*KINDS[kind])
    changes = changes_for(facts_of(training))
    assert len(changes) > 8
    for change in changes:
        tried = attempt((change,), training)
        assert tried.run is not None, change.code
        tried.run.advance(3)
        user = training.copy()
        names = {"torch": torch, "nn": nn, "F": F, "model": user.model, "loss": user.loss, "optimizer": user.optimizer}
        names |= {"x": user.data.parts[0], "y": user.data.parts[1], "batch_size": 16, "epochs": 2, "shuffle": False}
        exec(code_of((change,), training), names)
        if names["shuffle"] or tried.run.error:
            continue
        torch.manual_seed(0)
        names["model"].train()
        for at in range(0, 3 * names["batch_size"], names["batch_size"]):
            xs, ys = (names[key][at : at + names["batch_size"]] for key in ("x", "y"))
            names["optimizer"].zero_grad()
            names["loss"](names["model"](xs), ys).backward()
            names["optimizer"].step()
        if len(names["x"]) < 3 * names["batch_size"]:
            continue
        for mine, theirs in zip(tried.run.training.model.parameters(), names["model"].parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("kind", "key"), [("softmax", "output_activation"), ("relu output", "output_activation"),
                                           ("values", "output_activation"), ("logits", "scale")])  # fmt: skip
def test_a_wrong_training_has_its_cause_before_it_runs(kind, key):
    assert key in {cause.key for cause in causes_before(facts_of(given(*KINDS[kind])))}


def test_a_scaled_training_answers_in_the_targets_own_unit():
    training = given([], nn.MSELoss(), 1, "values")
    changes = [c for c in changes_for(facts_of(training)) if c.key in ("scale", "target_scale")]
    fixed = attempt(tuple(changes), training)
    assert {c.key for c in changes} == {"scale", "target_scale"}
    assert fixed.run is not None
    fixed.run.advance(400)
    x, y = training.data.parts
    error = (fixed.run.training.predict(x) - y).abs().mean()
    assert error < 0.5 * (y - y.mean()).abs().mean()


@pytest.mark.parametrize(
    ("output", "target", "skill"),
    [([0.0, 0, 0, 0], [0, 0, 1, 1], 0.0), ([0.0, 0, 1, 1], [0, 0, 1, 1], 1.0), ([1.0, 0, 1, 1], [0, 0, 1, 1], 0.5)],
)
def test_skill_is_0_for_a_constant_and_1_for_the_truth(output, target, skill):
    assert Task("binary").skill(torch.tensor(output), torch.tensor(target)) == skill


def test_a_rare_class_counts_as_much_as_the_other():
    target = torch.tensor([0] * 95 + [1] * 5)
    hot = F.one_hot(torch.tensor([0] * 95 + [1, 1, 1, 0, 0]), 2).float()
    assert Task("classes").skill(hot, target) == pytest.approx(0.6)
    assert Task("classes").skill(torch.eye(2)[torch.zeros(100, dtype=torch.long)], target) == 0


def test_chances_follow_what_was_measured():
    rows = [{"step": 0, "skill": 0.0}, {"step": 50, "skill": 0.5}, {"step": 100, "skill": 0.9}]
    assert Course(rows, 100, False).chance(1.0) > 0.9
    assert Course(rows[:2], 50, False).chance(1.0) < 0.1
    assert Course(rows, 100, True).chance(1.0) < 0.1
    assert 0.5 < Course(rows[:2], 51, False).foretold() <= 1


def test_words_fit_on_a_page_and_html_is_escaped():
    d = Diagnosis("will not train", "x < y & " + "long words " * 30, 0.01, rows=[], total_steps=10)
    assert max(map(len, str(d).splitlines())) <= 80
    assert str(d).startswith("Will not train")
    assert "X &lt; y &amp;" in d._repr_html_()
    assert json.loads(json.dumps(d.to_dict()))["will_train"] is False
