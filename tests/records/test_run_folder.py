"""A run's folder keeps its contract, and gives back what was put in."""

from __future__ import annotations

import json
import math
import subprocess

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from mlp_study.data.images import load
from mlp_study.errors import DataError
from mlp_study.model.population import PopulationMLP
from mlp_study.records import run_folder
from mlp_study.records.provenance import commit_of
from mlp_study.records.run_folder import (
    CURVE_COLUMNS,
    json_text,
    load_curves,
    load_run,
    read_columns,
    read_json,
    read_rows,
    write_curves,
    write_run,
)
from mlp_study.runtime.files import WriteError
from tests.records.runs import config_of, result_of, row_of_epoch

CONTRACT = {
    *("run_id", "overrides", "config", "outcome", "test/accuracy", "test/loss", "val/accuracy", "epochs", "seconds"),
    *("diagnostics", "population", "versions", "git_commit", "device", "wandb_id", "validation_is_test", "format"),
}


def refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def test_result_json_has_what_the_contract_names(tmp_path):
    config = config_of("seed=3", "data.validation=test")
    result = result_of(config, outcome="diverged", cause="the loss is NaN in epoch 3")
    write_run(tmp_path, result, overrides=["seed=3"], wandb_id="abc")
    found = json.loads((tmp_path / "result.json").read_text(), parse_constant=refuse_constant)
    assert set(found) >= CONTRACT
    assert found["run_id"] == config.run_id
    assert found["overrides"] == ["seed=3"]
    assert (found["outcome"], found["cause"]) == ("diverged", "the loss is NaN in epoch 3")
    assert found["validation_is_test"] is True
    assert found["wandb_id"] == "abc"
    assert found["diagnostics"] == {"initial": {"dead": 0.0}, "final": {"dead": 0.25}}
    assert found["versions"]["torch"] == torch.__version__.split("+")[0]
    header = (tmp_path / "curves.csv").read_text().splitlines()[0]
    assert header.startswith("epoch,step,seconds,train/loss,train/accuracy,val/loss,val/accuracy")


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("model.norm=batch", "model.widths=[12,7]", "model.dropout=0.5"),
        ("activation=prelu", "model.norm=layer", "model.widths=[5]"),
    ],
)
def test_a_run_comes_back_as_it_was(tmp_path, overrides):
    config = config_of(*overrides)
    population = PopulationMLP([config], 784, 10)
    for tensor in population.tensors().values():
        tensor.data.uniform_(0.1, 0.9, generator=torch.Generator().manual_seed(1))
    rows = [row_of_epoch(1), {**row_of_epoch(2, math.inf), "dead": 0.5}, row_of_epoch(3, math.nan)]
    result = result_of(config, curves=rows, weights=population.state_of(0))
    result.metrics["test/loss"] = math.nan
    write_run(tmp_path, result)
    run = load_run(tmp_path)
    assert run.config == config
    assert math.isnan(run.result["test/loss"])
    pd.testing.assert_frame_equal(run.curves, pd.DataFrame(rows), check_dtype=False)
    assert run.curves["epoch"].dtype.kind == "i"
    images = load("digits").test_images_NI[:5] / 255
    assert type(run.model) is torch.nn.Sequential
    assert not run.model.training
    torch.testing.assert_close(run.model(images), population.export(0)(images), rtol=0, atol=0)


def test_a_model_file_is_safetensors_and_rebuilds_the_network_alone(tmp_path):
    write_run(tmp_path, result_of(config_of("model.widths=[4]"), classes=7, inputs=36))
    with safe_open(tmp_path / "model.safetensors", framework="np") as file:
        assert file.metadata()["inputs"] == "36"
        assert file.metadata()["classes"] == "7"
    model = run_folder.load_model(tmp_path / "model.safetensors")
    assert model(torch.zeros(2, 36)).shape == (2, 7)


def test_without_a_model_the_run_is_whole(tmp_path):
    write_run(tmp_path, result_of(config_of()), save_model=False)
    assert load_run(tmp_path).model is None


def test_a_run_that_failed_before_its_first_epoch_can_be_read(tmp_path):
    result = result_of(config_of(), outcome="failed", cause="boom", curves=[], metrics={}, diagnostics={}, weights={})
    write_run(tmp_path, result)
    run = load_run(tmp_path)
    assert (len(run.curves), run.model, run.result["outcome"]) == (0, None, "failed")


def test_result_json_comes_last(tmp_path, monkeypatch):
    written = []
    write = run_folder.write_file
    monkeypatch.setattr(run_folder, "write_file", lambda path, data: (written.append(path.name), write(path, data)))
    write_run(tmp_path, result_of(config_of()))
    assert written == ["model.safetensors", "curves.csv", "result.json"]

    def fail(path, data):
        raise WriteError("the disk is full")

    monkeypatch.setattr(run_folder, "write_file", fail)
    with pytest.raises(WriteError):
        write_run(tmp_path / "other", result_of(config_of()))
    with pytest.raises(DataError, match="holds no finished run"):
        load_run(tmp_path / "other")


numbers = st.floats() | st.integers(-(2**53), 2**53) | st.booleans() | st.none()
values = st.recursive(numbers, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text().filter(lambda key: key not in ("config", "overrides", "format")), values))
def test_every_number_survives_strict_json(tmp_path_factory, found):
    path = tmp_path_factory.getbasetemp() / "result.json"
    path.write_text(json_text({"format": 1, "config": {}, **found}))
    json.loads(path.read_text(), parse_constant=refuse_constant)
    back = read_json(path)
    assert repr(back) == repr({"format": 1, "config": {}, **found})  # NaN equals itself in text only


def test_numbers_of_numpy_and_torch_are_numbers(tmp_path):
    found = {"a": np.float32(0.5), "b": torch.tensor(math.inf), "c": np.int64(3), "d": (1.0, -math.inf)}
    assert json.loads(json_text(found)) == {"a": 0.5, "b": "Infinity", "c": 3, "d": [1.0, "-Infinity"]}


def test_a_tag_that_looks_like_a_number_stays_a_tag(tmp_path):
    config = config_of("wandb.tags=['NaN','<b>']")
    write_run(tmp_path, result_of(config))
    assert load_run(tmp_path).config.wandb.tags == ["NaN", "<b>"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("result.json", b'{"format": 1, "conf', "cannot be read"),
        ("result.json", b"[]", "is no result of a run"),
        ("result.json", b'{"format": 99, "config": {}}', "newer mlp_study .format 99, this one reads 1"),
        ("curves.csv", b"", "cannot be read"),
        ("model.safetensors", b"\x80\x04K\x01.", "cannot be read"),
    ],
)
def test_damage_is_one_line_that_names_the_file(tmp_path, name, content, words):
    write_run(tmp_path, result_of(config_of()))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        load_run(tmp_path)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_that_lacks_a_layer_is_refused(tmp_path):
    result = result_of(config_of())
    del result.weights["linear_1.bias"]
    write_run(tmp_path, result)
    with pytest.raises(DataError, match=r"lacks linear_1\.bias"):
        load_run(tmp_path)


def test_rows_come_back_without_what_was_not_measured(tmp_path):
    rows = [row_of_epoch(1), {**row_of_epoch(2, math.inf), "dead": 0.1 + 0.2}]
    write_curves(tmp_path, rows)
    assert read_rows(tmp_path) == rows
    assert read_rows(tmp_path / "nowhere") == []
    write_curves(tmp_path, [])
    assert read_rows(tmp_path) == []
    assert list(load_curves(tmp_path)) == list(read_columns(tmp_path)) == list(CURVE_COLUMNS)


def test_columns_tell_what_was_not_measured_from_what_is_no_number(tmp_path):
    write_curves(tmp_path, [row_of_epoch(1), {**row_of_epoch(2), "dead": 0.5, "val/loss": math.nan}])
    columns = read_columns(tmp_path)
    assert columns["epoch"] == [1, 2]
    assert type(columns["step"][0]) is int
    assert columns["dead"] == [None, 0.5]
    assert columns["val/loss"] == [row_of_epoch(1)["val/loss"], pytest.approx(math.nan, nan_ok=True)]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("epoch,step\n1,10\n2", [{"epoch": 1, "step": 10}, {"epoch": 2}]),
        ("", []),  # a power cut
        ("epoch,step\n1,10,5\n", "a line has more values"),
        ("epoch,step\n1,x\n", "invalid literal"),
        ("step\n1\n", "it has no column epoch"),
    ],
)
def test_a_cut_off_file_is_read_and_a_wrong_one_is_not(tmp_path, content, found):
    (tmp_path / "curves.csv").write_text(content)
    if isinstance(found, list):
        assert read_rows(tmp_path) == found
    else:
        with pytest.raises(DataError, match=found):
            read_rows(tmp_path)


def test_the_commit_is_the_clones_own(tmp_path):
    assert commit_of(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    (tmp_path / "file").write_text("1")
    for command in (["init", "-q"], ["add", "file"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert commit_of(tmp_path) == head
    (tmp_path / "untracked").write_text("2")
    assert commit_of(tmp_path) == head
    (tmp_path / "file").write_text("2")
    assert commit_of(tmp_path) == f"{head}-dirty"
    (tmp_path / "inside").mkdir()
    assert commit_of(tmp_path / "inside") is None
