"""The Lightning callback: any LightningModule, any logger, any Trainer."""

from __future__ import annotations

import logging
import warnings

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import mlp_study


class Classifier(LightningModule):
    def __init__(self, lr=0.1, optimizers=1):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
        self.lr, self.several = lr, optimizers > 1
        self.automatic_optimization = not self.several

    def training_step(self, batch, _):
        x, y = batch
        loss = nn.functional.cross_entropy(self.net(x), y)
        if self.several:
            for optimizer in self.optimizers():
                optimizer.zero_grad()
            self.manual_backward(loss)
            for optimizer in self.optimizers():
                optimizer.step()
        return loss

    def configure_optimizers(self):
        if self.several:
            return [torch.optim.SGD(self.net[i].parameters(), lr=self.lr) for i in (0, 2)]
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def loader(scale=1 / 16):
    x, y = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(x * scale, dtype=torch.float32), torch.tensor(y))
    return DataLoader(data, batch_size=64, shuffle=True, generator=torch.Generator().manual_seed(0))


def fit(module, doctor, folder=None, scale=1 / 16, **options):
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    options = {"max_epochs": 5, "logger": False, "enable_checkpointing": False, **options}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", category=UserWarning, message=".*(num_workers|GPU|logging interval).*")
        trainer = Trainer(
            accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
            callbacks=[doctor], default_root_dir=folder, **options,
        )  # fmt: skip
        trainer.fit(module, loader(scale))
    return trainer


def test_the_findings_are_printed_and_the_layers_logged(tmp_path, capsys):
    doctor = mlp_study.Doctor(every=10)
    fit(Classifier(lr=50.0), doctor, scale=1.0, logger=CSVLogger(tmp_path, flush_logs_every_n_steps=1))
    said = capsys.readouterr().out
    assert "steps watched" in said
    assert doctor.health.causes
    [logged] = tmp_path.rglob("metrics.csv")
    assert "doctor/net.0/update" in logged.read_text()


def test_a_healthy_fit_is_bitwise_the_unwatched_one(capsys):
    watched, plain = Classifier(), Classifier()
    fit(watched, mlp_study.Doctor(every=3))
    fit(plain, mlp_study.Doctor(every=10**6))
    assert all(torch.equal(a, b) for a, b in zip(watched.parameters(), plain.parameters(), strict=True))
    assert "no findings" in capsys.readouterr().out
    assert not watched._forward_hooks


def test_stop_ends_a_training_that_nothing_can_save():
    module = Classifier(lr=1e30)
    trainer = fit(module, mlp_study.Doctor(stop=True), max_epochs=50)
    assert trainer.global_step < 100


def test_a_diagnosis_at_the_start(capsys):
    doctor = mlp_study.Doctor(diagnose=True, budget=5)
    fit(Classifier(lr=1e-6), doctor, max_epochs=1)
    assert doctor.diagnosis.will_train is False
    assert "will not train" in capsys.readouterr().out.lower()


@pytest.mark.parametrize(
    "options", [{"fast_dev_run": True}, {"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}]
)
def test_it_works_with(options):
    doctor = mlp_study.Doctor()
    fit(Classifier(), doctor, **options)
    assert doctor.health.steps > 0


def test_several_optimizers_are_watched_only(capsys):
    doctor = mlp_study.Doctor(diagnose=True)
    fit(Classifier(optimizers=2), doctor, max_epochs=1)
    assert doctor.diagnosis is None
    assert doctor.health.steps > 0
