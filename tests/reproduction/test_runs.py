"""The runs behind the claims: grouped into populations, trained once, read back ever after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from small_runs import config

from mlp_study.errors import StudyError
from mlp_study.records.run_folder import RESULT, read_json
from mlp_study.reproduction import runs
from mlp_study.reproduction.experiments import Experiment
from mlp_study.reproduction.recording import Trainer, train_all
from mlp_study.reproduction.runs import Batch, Cell, batches, cells_of, read_done, train_missing

SMALL = ("model.widths=[4]", "trainer.max_epochs=2", "data.limit=64", "data.validation=test", "wandb.mode=disabled")


def cells(top: Path, seeds: int = 2, *, timed: bool = False, overrides: tuple[str, ...] = ()) -> list[Cell]:
    found = Experiment("raw_relu", "t", "s", "q", {"relu": [], "tanh": []}, [], timed=timed)
    made = {
        name: [config(*SMALL, f"activation={name}", f"seed={seed}", *overrides) for seed in range(seeds)]
        for name in ("relu", "tanh")
    }
    return cells_of(found, made, top)


def here(batches: Sequence[Batch], workers: int) -> int:
    return train_all(batches, workers, lambda _: None)


def test_variants_share_a_population_unless_their_time_is_their_own(tmp_path: Path) -> None:
    assert [len(batch.cells) for batch in batches(cells(tmp_path))[0]] == [4]
    apart, workers = batches(cells(tmp_path, timed=True))
    assert workers == 1, "a second of work is not worth a process"
    assert [{cell.variant for cell in batch.cells} for batch in apart] == [{"relu"}, {"tanh"}]


def test_a_population_is_no_larger_than_a_sweeps_and_keeps_seeds_together(tmp_path: Path) -> None:
    chunks, _ = batches(cells(tmp_path, 3, overrides=("max_members=2",)))
    assert [[cell.config.seed for cell in chunk.cells] for chunk in chunks] == [[0, 0], [1, 1], [2, 2]]


@pytest.mark.slow
def test_several_processes_train_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = cells(tmp_path / "one"), cells(tmp_path / "two")
    train_missing(one, here)
    monkeypatch.setattr(runs, "workers_for", lambda config, work: 2)
    told: list[str] = []
    train_missing(two, lambda batches, workers: train_all(batches, workers, told.append))
    assert [line.split(" runs")[0] for line in told] == ["population 1/2 is trained: 2", "population 2/2 is trained: 2"]
    for cell, other in zip(one, two, strict=True):
        ours, theirs = read_json(cell.folder / RESULT), read_json(other.folder / RESULT)
        assert ours["run_id"] == theirs["run_id"]
        assert ours["test/loss"] == pytest.approx(theirs["test/loss"], rel=1e-4)
    assert not list(tmp_path.rglob("*.checkpoint*"))


@pytest.mark.slow
def test_what_stops_a_process_stops_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = cells(tmp_path)
    monkeypatch.setattr(runs, "workers_for", lambda config, work: 2)
    (tmp_path / "runs").write_text("a file in the place of the folder")
    with pytest.raises(StudyError):
        train_missing(every, here)


def test_runs_are_trained_once(tmp_path: Path) -> None:
    every = cells(tmp_path)
    assert train_missing(every, here) == 4
    before = [(cell.folder / RESULT).read_bytes() for cell in every]

    def never(batches: Sequence[Batch], workers: int) -> int:
        assert not batches, "a finished run is trained again"
        return 0

    assert train_missing(every, never) == 0
    (every[1].folder / RESULT).write_text("{")  # damaged: as if it had never been
    trained: list[str] = []
    more = cells(tmp_path, 3)
    train_missing(more, lambda some, _: trained.extend(f"{c.variant} {c.config.seed}" for b in some for c in b.cells))
    assert sorted(trained) == ["relu 1", "relu 2", "tanh 2"]
    assert [(cell.folder / RESULT).read_bytes() for cell in every[2:]] == before[2:]


def test_other_settings_never_meet_these_records(tmp_path: Path) -> None:
    one, other = cells(tmp_path), cells(tmp_path, overrides=("optimizer.lr=0.5",))
    assert not {cell.folder for cell in one} & {cell.folder for cell in other}


def test_a_run_is_measured_and_its_first_seed_drawn(tmp_path: Path) -> None:
    every = cells(tmp_path)
    checked = [Cell(c.experiment, c.variant, c.config, c.folder, c.alone, check_gradient=True) for c in every]
    train_missing(checked, here)
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

    def stop_after_the_first_epoch(batches: Sequence[Batch], workers: int) -> None:
        [batch] = batches
        seen = callbacks.Checkpoints.on_train_epoch_end

        def stop(self: callbacks.Checkpoints, trainer: object, module: object) -> None:
            seen(self, trainer, module)  # type: ignore[arg-type]
            raise Stopped

        with monkeypatch.context() as patch:
            patch.setattr(callbacks.Checkpoints, "on_train_epoch_end", stop)
            with pytest.raises(Stopped):
                Trainer()(batch)
        assert batch.checkpoint.is_file()

    train_missing(every, stop_after_the_first_epoch)
    assert not any(cell.finished for cell in every)
    train_missing(every, here)
    whole = cells(tmp_path / "whole", 1)
    train_missing(whole, here)
    for cell, other in zip(every, whole, strict=True):
        ours, theirs = read_json(cell.folder / RESULT), read_json(other.folder / RESULT)
        assert ours["test/loss"] == theirs["test/loss"]
