"""The table of all runs: a row a run, under the names that a user types, whatever else lies there."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest

from mlp_study.errors import DataError
from mlp_study.records.run_folder import write_curves, write_run
from mlp_study.records.runs_table import load_results
from tests.records.runs import config_of, result_of, row_of_epoch


@pytest.fixture
def sweep(tmp_path):
    """Three runs that differ in what they have, in nested folders."""
    first = config_of("activation=relu", "data.batch_size=full", "model.widths=[128,64]", "optimizer.lr=0.5")
    second = config_of("activation=leaky_relu", "activation.slope=0.2", "data.validation=test", "optimizer=adam")
    third = config_of("wandb.tags=[x]", "trainer.threads=1", "seed=7")
    write_run(tmp_path / "b" / "0", result_of(first, population={"size": 3, "index": 2}))
    write_run(tmp_path / "b" / "1", result_of(second, outcome="diverged", cause="NaN", metrics={"test/loss": math.inf}))
    write_run(tmp_path / "a", result_of(third))
    return tmp_path


def test_a_row_a_run_with_what_was_set_and_what_came_out(sweep):
    table = load_results(sweep)
    assert list(table["folder"]) == [str(sweep / name) for name in ("a", "b/0", "b/1")]
    assert list(table["activation"]) == ["relu", "relu", "leaky_relu"]
    assert table["activation.slope"].isna().tolist() == [True, True, False]
    assert list(table["data"]) == ["digits"] * 3
    assert list(table["model.widths"]) == ["[100]", "[128,64]", "[100]"]
    assert list(table["optimizer.lr"]) == [0.01, 0.5, 0.001]
    assert list(table["data.batch_size"]) == ["32", "full", "32"]
    assert list(table["data.validation"]) == ["0.1", "0.1", "test"]
    assert list(table["seed"]) == [7, 0, 0]
    assert list(table["outcome"]) == ["completed", "completed", "diverged"]
    assert table["test/accuracy"].tolist()[:2] == [0.9, 0.9]
    assert table["test/loss"][2] == math.inf
    assert table["final/dead"].tolist() == [0.25] * 3
    assert table["population.index"].tolist() == [0, 2, 0]
    assert (table.attrs["damaged"], table.attrs["unfinished"]) == ([], [])


def test_what_cannot_change_a_result_is_no_column(sweep):
    columns = set(load_results(sweep))
    assert not {name for name in columns if name.startswith(("wandb.", "versions"))}
    assert not columns & {"data.root", "trainer.threads", "trainer.accelerator", "save", "resume", "config", "format"}


def test_the_overrides_of_a_row_make_its_run_again(sweep):
    row = load_results(sweep).iloc[1]
    keys = ("activation", "data", "data.batch_size", "model.widths", "optimizer", "optimizer.lr", "seed")
    assert config_of(*(f"{key}={row[key]}" for key in keys)).run_id == row["run_id"]


def test_damaged_and_unfinished_runs_are_listed(sweep):
    (sweep / "a" / "result.json").write_text('{"format": 1,')
    result = json.loads((sweep / "b" / "0" / "result.json").read_text())
    (sweep / "b" / "0" / "result.json").write_text(json.dumps({**result, "format": 99}))
    (sweep / "b" / "2").mkdir()
    (sweep / "b" / "2" / "result.json").write_text('{"format": 1, "config": {}}')
    (sweep / "b" / "3").mkdir()
    (sweep / "b" / "3" / "result.json").write_text(json.dumps({**result, "test/accuracy": "much"}))
    write_curves(sweep / "c", [row_of_epoch(1)])
    table = load_results(sweep)
    assert list(table["folder"]) == [str(sweep / "b" / "1")]
    assert len(table.attrs["damaged"]) == 4
    for words in (
        "a/result.json cannot be read",
        "b/0/result.json was written by a newer",
        "b/2/result.json is no result",
        "b/3/result.json is no result",
    ):
        assert sum(words in line for line in table.attrs["damaged"]) == 1
    assert table.attrs["unfinished"] == [str(sweep / "c")]


def test_folders_inside_a_run_are_not_searched(sweep):
    inside = sweep / "a" / "wandb" / "files"
    write_run(inside, result_of(config_of()))
    write_run(sweep / ".trash", result_of(config_of()))
    assert len(load_results(sweep)) == 3


def test_a_single_run_and_no_run(sweep, tmp_path_factory):
    assert len(load_results(sweep / "a")) == 1
    assert len(load_results(str(sweep / "a"))) == 1
    empty = load_results(tmp_path_factory.mktemp("empty"))
    assert (len(empty), list(empty)) == (0, ["folder"])
    with pytest.raises(DataError, match="is not a folder"):
        load_results(sweep / "nowhere")


def test_the_table_survives_parquet(sweep):
    table = load_results(sweep)
    table.to_parquet(sweep / "runs.parquet")
    back = pd.read_parquet(sweep / "runs.parquet")
    pd.testing.assert_frame_equal(back, table, check_dtype=False)
