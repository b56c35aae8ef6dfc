"""The runs behind the claims: grouped into populations, trained once, read back ever after."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import config

from mlp_study.records.run_folder import RESULT, read_json
from mlp_study.reproduction import runs
from mlp_study.reproduction.experiments import Experiment
from mlp_study.reproduction.recording import Trainer
from mlp_study.reproduction.runs import Cell, cells_of, populations, read_done, train_missing

SMALL = ("model.widths=[4]", "trainer.max_epochs=2", "data.limit=64", "data.validation=test", "wandb.mode=disabled")


def cells(top: Path, seeds: int = 2, *, timed: bool = False, overrides: tuple[str, ...] = ()) -> list[Cell]:
    found = Experiment("raw_relu", "t", "s", "q", {"relu": [], "tanh": []}, [], timed=timed)
    made = {
        name: [config(*SMALL, f"activation={name}", f"seed={seed}", *overrides) for seed in range(seeds)]
        for name in ("relu", "tanh")
    }
    return cells_of(found, made, top)


def test_variants_share_a_population_unless_their_time_is_their_own(tmp_path: Path) -> None:
    assert [len(p) for p in populations(cells(tmp_path))] == [4]
    apart = populations(cells(tmp_path, timed=True))
    assert [{cell.variant for cell in p} for p in apart] == [{"relu"}, {"tanh"}]


def test_a_population_fits_in_memory_and_keeps_seeds_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = cells(tmp_path, 3)
    monkeypatch.setattr(runs, "POPULATION_BYTES", 2 * runs.member_bytes(every[0].config))
    chunks = populations(every)
    assert [[cell.config.seed for cell in chunk] for chunk in chunks] == [[0, 0], [1, 1], [2, 2]]


def test_runs_are_trained_once(tmp_path: Path) -> None:
    every = cells(tmp_path)
    assert train_missing(every, Trainer()) == 4
    before = [(cell.folder / RESULT).read_bytes() for cell in every]

    def never(members: list[Cell], checkpoint: Path) -> None:
        raise AssertionError("a finished run is trained again")

    assert train_missing(every, never) == 0
    (every[1].folder / RESULT).write_text("{")  # damaged: as if it had never been
    trained: list[str] = []
    more = cells(tmp_path, 3)
    train_missing(more, lambda members, _: trained.extend(f"{c.variant} {c.config.seed}" for c in members))
    assert sorted(trained) == ["relu 1", "relu 2", "tanh 2"]
    assert [(cell.folder / RESULT).read_bytes() for cell in every[2:]] == before[2:]


def test_other_settings_never_meet_these_records(tmp_path: Path) -> None:
    one, other = cells(tmp_path), cells(tmp_path, overrides=("optimizer.lr=0.5",))
    assert not {cell.folder for cell in one} & {cell.folder for cell in other}


def test_a_run_is_measured_and_its_first_seed_drawn(tmp_path: Path) -> None:
    every = cells(tmp_path)
    checked = [Cell(c.experiment, c.variant, c.config, c.folder, c.alone, check_gradient=True) for c in every]
    trainer = Trainer()
    train_missing(checked, trainer)
    trainer.wait()
    done = list(read_done(checked))
    assert [(run.cell.variant, run.cell.config.seed) for run in done] == [(c.variant, c.config.seed) for c in every]
    for run in done:
        assert run.outcome == "completed"
        assert 0 <= run.measures["errors_96"] <= 96
        assert 0 <= run.measures["initial/gradient_error"] < 1e-6
        assert [row["epoch"] for row in run.rows] == [1, 2]
        drawn = {path.name for path in (run.cell.folder / "figures").glob("*.png")}
        assert drawn == ({"curves.png", "weights.png", "predictions.png"} if run.cell.config.seed == 0 else set())
    assert read_json(every[0].folder / RESULT)["overrides"] == ["+experiment=raw_relu", "experiment.variant=relu"]
    assert not list(tmp_path.rglob("*.checkpoint*"))


def test_an_interrupted_population_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlp_study.training import callbacks

    every = cells(tmp_path, 1)
    monkeypatch.setattr(callbacks, "CHECKPOINT_SHARE", 0)

    class Stopped(Exception):
        pass

    def stop_after_the_first_epoch(members: list[Cell], checkpoint: Path) -> None:
        seen = callbacks.Checkpoints.on_train_epoch_end

        def stop(self: callbacks.Checkpoints, trainer: object, module: object) -> None:
            seen(self, trainer, module)  # type: ignore[arg-type]
            raise Stopped

        with monkeypatch.context() as patch:
            patch.setattr(callbacks.Checkpoints, "on_train_epoch_end", stop)
            with pytest.raises(Stopped):
                Trainer()(members, checkpoint)
        assert checkpoint.is_file()

    train_missing(every, stop_after_the_first_epoch)
    assert not any(cell.finished for cell in every)
    train_missing(every, Trainer())
    whole = cells(tmp_path / "whole", 1)
    train_missing(whole, Trainer())
    for cell, other in zip(every, whole, strict=True):
        ours, theirs = read_json(cell.folder / RESULT), read_json(other.folder / RESULT)
        assert ours["test/loss"] == theirs["test/loss"]
