"""Sweeps through the command, in this process."""

from __future__ import annotations

import json
import math

import pytest

from mlp_study.factors.activations import ACTIVATIONS, Activation
from mlp_study.records.runs_table import load_results
from mlp_study.training import population
from tests.sweep.sweeps import results, stamps, sweep


def test_a_second_command_trains_only_what_is_missing(monkeypatch, tmp_path, capsys):
    folder = tmp_path / "s"
    sweep(monkeypatch, folder, "activation=relu,tanh", "seed=1,2")
    before = stamps(folder)
    assert len(before) == 4
    monkeypatch.setattr(population, "train_population", lambda *a, **k: pytest.fail("trained again"))
    sweep(monkeypatch, folder, "activation=relu,tanh", "seed=1,2")
    assert stamps(folder) == before
    monkeypatch.undo()
    sweep(monkeypatch, folder, "activation=relu,tanh,sigmoid", "seed=range(1,4)")
    after = stamps(folder)
    assert len(after) == 9
    assert {run: after[run] for run in before} == before
    assert "4 are finished already, 5 to do" in capsys.readouterr().out


def test_each_run_has_the_record_of_a_single_run(monkeypatch, tmp_path):
    folder = tmp_path / "s"
    sweep(monkeypatch, folder, "activation=relu,tanh", "seed=1,2", "data.scale=none")
    found = results(folder)
    for run_id, result in found.items():
        assert result["run_id"] == run_id
        assert result["population"]["size"] == 4
        files = {str(p.relative_to(folder / run_id)) for p in (folder / run_id).rglob("*") if p.is_file()}
        hydra = {f".hydra/{name}.yaml" for name in ("config", "hydra", "overrides")}
        assert files == {"result.json", "curves.csv", "model.safetensors", "train.log"} | hydra
    assert sorted(r["population"]["index"] for r in found.values()) == [0, 1, 2, 3]
    table = load_results(folder)
    assert len(table) == 4
    assert set(table.activation) == {"relu", "tanh"}
    assert {p.name for p in folder.glob("*.*")} >= {"runs.csv", "runs.parquet", "sweep.json", "multirun.yaml"}


def test_the_written_tables_are_what_load_results_gives(monkeypatch, tmp_path):
    import pandas as pd

    sweep(monkeypatch, tmp_path / "s", "optimizer=sgd,adam", "model.widths=[8],[4,4]")
    table = load_results(tmp_path / "s")
    parquet = pd.read_parquet(tmp_path / "s" / "runs.parquet")
    pd.testing.assert_frame_equal(parquet, table[list(parquet.columns)], check_dtype=False)
    assert set(parquet.columns) == set(table.columns)
    assert list(pd.read_csv(tmp_path / "s" / "runs.csv").run_id) == list(table.run_id)


@pytest.mark.slow
def test_hydras_files_of_a_member_are_those_of_a_single_run(monkeypatch, tmp_path):
    from omegaconf import OmegaConf

    sweep(monkeypatch, tmp_path / "s", "seed=5", "wandb.tags=[a]")
    sweep(monkeypatch, tmp_path / "one", "seed=5", "wandb.tags=[a]", "hydra/launcher=basic")
    [member], single = [p.parent for p in (tmp_path / "s").glob("*/result.json")], tmp_path / "one" / "0"
    texts = [json.dumps(OmegaConf.to_container(OmegaConf.load(p / ".hydra" / "hydra.yaml"))) for p in (member, single)]
    texts = [
        t.replace(str(p), "PLACE").replace(str(p.parent), "SWEEP") for t, p in zip(texts, (member, single), strict=True)
    ]
    ours, theirs = map(json.loads, texts)
    for node in (ours, theirs):
        node["hydra"]["launcher"] = node["hydra"]["overrides"]["hydra"] = None
        node["hydra"]["runtime"]["choices"]["hydra/launcher"] = None
        node["hydra"]["job"]["id"] = str(node["hydra"]["job"]["id"])
    assert ours["hydra"] == theirs["hydra"]
    ours, theirs = (OmegaConf.load(p / ".hydra" / "config.yaml") for p in (member, single))
    assert {**ours, "save": "", "sweep_dir": ""} == {**theirs, "save": "", "sweep_dir": ""}


@pytest.mark.slow
def test_a_diverging_member_leaves_its_neighbours_unchanged(monkeypatch, tmp_path):
    sweep(monkeypatch, tmp_path / "with", "optimizer.lr=0.1,1e30", "seed=1,2,3", "data.scale=unit", "loss=mse")
    sweep(monkeypatch, tmp_path / "without", "optimizer.lr=0.1", "seed=1,2,3", "data.scale=unit", "loss=mse")
    mixed, alone = results(tmp_path / "with"), results(tmp_path / "without")
    assert {r["outcome"] for r in alone.values()} == {"completed"}
    for run_id, result in alone.items():
        assert mixed[run_id]["train/loss"] == pytest.approx(result["train/loss"], rel=1e-5)
        assert mixed[run_id]["test/accuracy"] == result["test/accuracy"]
    ended = {r["outcome"] for run_id, r in mixed.items() if run_id not in alone}
    assert ended <= {"diverged", "completed"}


@pytest.fixture
def broken(monkeypatch):
    """An activation that cannot be trained."""

    def fail(z, **options):
        raise ZeroDivisionError("this activation is broken")

    like = ACTIVATIONS["relu"]
    entry = Activation(**{**{f: getattr(like, f) for f in like.__dataclass_fields__}, "function": fail})
    monkeypatch.setitem(ACTIVATIONS._entries, "broken", entry)
    from mlp_study.config import composing as compose

    compose.register_groups.cache_clear()
    yield
    compose.register_groups.cache_clear()


def test_a_run_that_breaks_fails_alone_with_its_cause(monkeypatch, tmp_path, broken, capsys):
    folder = tmp_path / "s"
    with pytest.raises(SystemExit) as end:
        sweep(monkeypatch, folder, "activation=relu,broken,tanh", "seed=range(0,3)")
    assert end.value.code == 1
    found = results(folder)
    ended = {(r["config"]["activation"]["name"], r["config"]["seed"]): r["outcome"] for r in found.values()}
    assert {key: o for key, o in ended.items() if o == "failed"} == {("broken", s): "failed" for s in range(3)}
    assert len(ended) == 9
    assert {r["cause"] for r in found.values() if r["outcome"] == "failed"} == {
        "ZeroDivisionError: this activation is broken"
    }
    errors = capsys.readouterr().err.strip().splitlines()
    assert [e for e in errors if e.startswith("error:")] == [errors[-1]]
    assert "3 of 9 runs failed" in errors[-1]


@pytest.mark.slow
def test_failed_runs_are_trained_again_only_if_that_is_asked_for(monkeypatch, tmp_path, broken):
    folder = tmp_path / "s"
    with pytest.raises(SystemExit):
        sweep(monkeypatch, folder, "activation=relu,broken")
    before = stamps(folder)
    with pytest.raises(SystemExit):
        sweep(monkeypatch, folder, "activation=relu,broken")
    assert stamps(folder) == before
    monkeypatch.setitem(ACTIVATIONS._entries, "broken", ACTIVATIONS["tanh"])  # it is mended
    sweep(monkeypatch, folder, "activation=relu,broken", "retry_failed=true")
    assert {r["outcome"] for r in results(folder).values()} == {"completed"}
    assert set(stamps(folder).values()) & set(before.values())


@pytest.mark.parametrize(("save", "models"), [("models", 4), ("none", 0), ("best", 1), ("auto", 4)])
def test_save_says_what_is_kept(monkeypatch, tmp_path, save, models):
    folder = tmp_path / "s"
    sweep(monkeypatch, folder, f"save={save}", "seed=range(0,4)", "max_members=2")
    kept = [p.parent.name for p in folder.glob("*/model.safetensors")]
    assert len(kept) == models
    if save == "best":
        accuracies = {run_id: r["val/accuracy"] for run_id, r in results(folder).items()}
        assert accuracies[kept[0]] == max(accuracies.values())


def test_dry_run_prints_the_plan_and_writes_nothing(monkeypatch, tmp_path, capsys):
    folder = tmp_path / "s"
    sweep(monkeypatch, folder, "seed=range(0,10)", "model.widths=[8],[4]", "max_members=5", "dry_run=true")
    out = capsys.readouterr().out
    assert "20 runs in 4 populations" in out
    assert str(folder) in out
    assert not folder.exists()


def test_callbacks_of_single_jobs_are_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MLP_STUDY_TRUST_CONFIGS", "1")  # callbacks may run any code
    callback = "+hydra.callbacks.{0}={{_target_:hydra.experimental.callbacks.{0}Callback}}"
    with pytest.raises(SystemExit) as end:
        sweep(monkeypatch, tmp_path / "s", "seed=1", callback.format("LogJobReturn"))
    assert end.value.code == 1
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "hydra.callbacks: LogJobReturnCallback is called for each job (on_job_end)" in line
    assert "it takes hydra/launcher=basic" in line
    assert not (tmp_path / "s").exists()


def test_a_damaged_checkpoint_is_left_behind(monkeypatch, tmp_path):
    folder = tmp_path / "s"
    real, names = population.train_population, []

    def damaged(configs, listener, *, checkpoint, resume_from, **more):
        names.append(resume_from)
        if len(names) == 1:
            checkpoint.write_bytes(b"no checkpoint")
            raise KeyboardInterrupt
        return real(configs, listener, checkpoint=checkpoint, resume_from=resume_from, **more)

    monkeypatch.setattr(population, "train_population", damaged)
    with pytest.raises(SystemExit):
        sweep(monkeypatch, folder, "seed=1,2")
    sweep(monkeypatch, folder, "seed=1,2")
    assert [name is None for name in names] == [True, False, True]
    assert len(results(folder)) == 2
    assert not list(folder.rglob("*.safetensors")) or not list((folder / ".sweep").rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["seed=range(3,3)"], "seed=range(3,3)"),
        (["seeed=1,2"], "seeed"),
        (["activation=relu,rellu"], "rellu"),
        (["schedule=true,constant"], "schedule=true,constant"),
        (["schedule=true"], "schedule=true"),
        (["optimizer.lr=interval(0,1)"], "optuna"),
        (["optimizer.lr=0.1,-1"], "optimizer.lr"),
        (["hydra.launcher.executor=cluster"], "hydra.launcher.executor"),
        (["hydra.launcher.workers=0"], "hydra.launcher.workers"),
        (["data=idx", "data.root=/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_in_one_line(monkeypatch, tmp_path, capsys, overrides, says):
    with pytest.raises(SystemExit) as end:
        sweep(monkeypatch, tmp_path / "s", *overrides)
    assert end.value.code == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert says in lines[0]
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
@pytest.mark.parametrize("sweeper", ["hydra/sweeper=basic", "hydra/launcher=basic"])
def test_hydras_own_sweeper_and_launcher_still_work(monkeypatch, tmp_path, sweeper):
    sweep(monkeypatch, tmp_path / "s", sweeper, "seed=1,2")
    found = results(tmp_path / "s").values()
    assert sorted(r["config"]["seed"] for r in found) == [1, 2]
    assert all(math.isfinite(r["val/accuracy"]) for r in found)
