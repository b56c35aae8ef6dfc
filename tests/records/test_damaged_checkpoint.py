"""A checkpoint that is damaged costs its training and nothing else, unless it was asked for by name."""

from __future__ import annotations

import logging

import pytest

from mlp_study.errors import DataError
from mlp_study.records.recorder import Recorder
from mlp_study.training.population import train_or_resume, train_population
from tests.records.runs import read_wandb
from tests.small_runs import config, numbers, tiny_images, trained

NOTHING = "wandb.mode=disabled"


def test_a_damaged_checkpoint_is_reported_and_the_training_starts_again(tmp_path, wandb_thread, caplog):
    configs = [config("wandb.mode=offline", f"seed={seed}") for seed in (0, 1)]
    checkpoint = tmp_path / "new" / "checkpoint"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"no checkpoint")
    with Recorder([tmp_path / "0", tmp_path / "1"]) as recorder:
        found = train_or_resume(configs, recorder, checkpoint, images=tiny_images())
    assert [numbers(result) for result in found] == [numbers(result) for result in trained(*configs)]
    [warning] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning.startswith(f"the checkpoint {checkpoint} cannot be read")
    assert not checkpoint.exists()
    for place in (tmp_path / "0", tmp_path / "1"):
        [record] = read_wandb(place)  # one run, which was begun once and has ended well
        assert (len([row for row in record.rows if "epoch" in row]), record.exit_code) == (3, 0)


def test_a_damaged_checkpoint_that_is_to_be_resumed_is_an_error_and_stays(tmp_path):
    checkpoint = tmp_path / "checkpoint"
    checkpoint.write_bytes(b"no checkpoint")
    with Recorder([tmp_path]) as recorder, pytest.raises(DataError, match="delete it to start again"):
        train_population([config(NOTHING)], recorder, resume_from=checkpoint, images=tiny_images())
    assert checkpoint.exists()


def test_without_checkpoints_no_folder_is_made_for_them(tmp_path):
    off = config(NOTHING, "trainer.checkpoint=false")
    with Recorder([tmp_path / "0"]) as recorder:
        train_or_resume([off], recorder, tmp_path / "new" / "checkpoint", images=tiny_images())
    assert not (tmp_path / "new").exists()
