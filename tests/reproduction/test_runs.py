"""The runs behind the claims: grouped into populations, trained once, read back ever after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from small_runs import config

from mlp_study.errors import StudyError
from mlp_study.model.population import PopulationMLP
from mlp_study.records.run_folder import RESULT, read_json
from mlp_study.reproduction import runs
from mlp_study.reproduction.experiments import Experiment
from mlp_study.reproduction.runs import cells_of, plan_of, read_done, train_missing
from mlp_study.sweep import executor
from mlp_study.sweep.plan import Cell
from mlp_study.sweep.store import Store

SMALL = ("model.widths=[4]", "trainer.max_epochs=2", "data.limit=64", "data.validation=test", "wandb.mode=disabled")


def cells(seeds: int = 2, *, timed: bool = False, overrides: tuple[str, ...] = ()) -> list[Cell]:
    found = Experiment("raw_relu", "t", "s", "q", {"relu": [], "tanh": []}, [], timed=timed)
    made = {
        name: [config(*SMALL, f"activation={name}", f"seed={seed}", *overrides) for seed in range(seeds)]
        for name in ("relu", "tanh")
    }
    return cells_of(found, made)


def contents(top: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in top.rglob(RESULT)}


def test_variants_share_a_population_unless_their_time_is_their_own() -> None:
    assert [len(population.cells) for population in plan_of(cells()).populations] == [4]
    apart = plan_of(cells(timed=True))
    assert apart.crew.workers == 1, "a second of work is not worth a process"
    variants = [{runs.names_of(cell)[1] for cell in population.cells} for population in apart.populations]
    assert variants == [{"relu"}, {"tanh"}]


def test_a_population_is_no_larger_than_a_sweeps_and_keeps_seeds_together() -> None:
    chunks = plan_of(cells(3, overrides=("max_members=2",))).populations
    assert [[cell.config.seed for cell in chunk.cells] for chunk in chunks] == [[0, 0], [1, 1], [2, 2]]


@pytest.mark.slow
def test_several_processes_train_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every, one, two = cells(), tmp_path / "one", tmp_path / "two"
    train_missing(every, one)
    monkeypatch.setattr(runs, "workers_for", lambda config, work: 2)
    told: list[str] = []
    assert train_missing(every, two, say=told.append) == 4
    assert [line.split(" runs")[0] for line in told] == ["population 1/2 is trained: 2", "population 2/2 is trained: 2"]
    for cell in every:
        ours, theirs = (read_json(top / cell.run_id / RESULT) for top in (one, two))
        assert ours["run_id"] == theirs["run_id"] == cell.config.run_id
        assert ours["test/loss"] == pytest.approx(theirs["test/loss"], rel=1e-4)
    assert {path.name for path in two.rglob("figures/*.png")} == {path.name for path in one.rglob("figures/*.png")}
    assert not list((two / ".sweep").rglob("*.safetensors"))


@pytest.mark.slow
def test_what_stops_a_process_stops_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "workers_for", lambda config, work: 2)
    (tmp_path / "runs").write_text("a file in the place of the folder")
    with pytest.raises(StudyError):
        train_missing(cells(), tmp_path)


def test_a_run_that_cannot_be_trained_is_named_and_trained_again(tmp_path: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(PopulationMLP, "__init__", lambda *_, **__: 1 / 0)
        with pytest.raises(StudyError, match=r"4 of 4 runs failed, the first by: ZeroDivisionError.*trains them again"):
            train_missing(cells(), tmp_path)
    assert train_missing(cells(), tmp_path) == 4


def test_runs_are_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = cells()
    assert train_missing(every, tmp_path) == 4
    before = contents(tmp_path)
    assert train_missing(every, tmp_path) == 0
    damaged = tmp_path / every[1].run_id / RESULT
    damaged.write_text("{")  # as if it had never been
    trained: list[tuple[str, int]] = []
    real = executor.train_or_resume

    def watched(configs: Sequence, *rest: object, **more: object) -> object:
        trained.extend((c.activation.name, c.seed) for c in configs)
        return real(configs, *rest, **more)

    monkeypatch.setattr(executor, "train_or_resume", watched)
    assert train_missing(cells(3), tmp_path) == 3
    assert sorted(trained) == [("relu", 1), ("relu", 2), ("tanh", 2)]
    after = contents(tmp_path)
    assert {path: after[path] for path in before if path != damaged} == {
        p: b for p, b in before.items() if p != damaged
    }


def test_other_settings_never_meet_these_records() -> None:
    one, other = cells(), cells(overrides=("optimizer.lr=0.5",))
    assert not {cell.run_id for cell in one} & {cell.run_id for cell in other}


def test_a_run_is_measured_and_its_first_seed_drawn(tmp_path: Path) -> None:
    every = cells()
    train_missing(every, tmp_path, checked={"raw_relu"})
    done = read_done(every, tmp_path)
    assert [(run.variant, run.config.seed) for run in done] == [("relu", 0), ("relu", 1), ("tanh", 0), ("tanh", 1)]
    for run in done:
        assert run.outcome == "completed"
        assert 0 <= run.measures["errors_96"] <= 96
        assert 0 <= run.measures["initial/gradient_error"] < 1e-6
        assert [row["epoch"] for row in run.rows] == [1, 2]
        drawn = {path.name for path in (run.folder / "figures").glob("*.png")}
        assert drawn == ({"curves.png", "weights.png", "predictions.png"} if run.config.seed == 0 else set())
    found = read_json(done[0].folder / RESULT)["overrides"]
    assert found == ["+experiment=raw_relu", "experiment.variant=relu"]


def test_an_interrupted_population_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlp_study.training import callbacks

    every, top = cells(1), tmp_path / "stopped"
    monkeypatch.setattr(callbacks, "CHECKPOINT_SHARE", 0)
    seen = callbacks.Checkpoints.on_train_epoch_end

    def stop(self: callbacks.Checkpoints, trainer: object, module: object) -> None:
        seen(self, trainer, module)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Checkpoints, "on_train_epoch_end", stop)
        with pytest.raises(BaseException):  # noqa: B017, PT011 - the Trainer may make SystemExit of it
            train_missing(every, top)
    [population] = plan_of(every).populations
    assert Store(top).checkpoint(population).is_file()
    assert not contents(top)
    assert train_missing(every, top) == 2
    train_missing(every, tmp_path / "whole")
    for cell in every:
        ours, theirs = (read_json(folder / cell.run_id / RESULT) for folder in (top, tmp_path / "whole"))
        assert ours["test/loss"] == theirs["test/loss"]
