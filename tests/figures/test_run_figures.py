"""A run's figures: drawn in this process, without pyplot."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from mlp_study.data.images import ImageSet
from mlp_study.figures import RunFigures
from mlp_study.runtime.files import WriteError

IMAGES = ImageSet(
    "noise",
    torch.zeros(4, 36, dtype=torch.uint8),
    torch.zeros(4, dtype=torch.int64),
    torch.arange(100 * 36, dtype=torch.int64).remainder(256).to(torch.uint8).view(100, 36),
    torch.arange(100).remainder(3),
    ("a", "b", "c"),
    6,
    6,
)
ROWS = [
    {"epoch": e, "train/loss": 1 / e, "val/loss": 1 / e, "train/accuracy": 0.5, "val/accuracy": 0.5} for e in (1, 2)
]


def test_all_figures_of_a_run_and_of_one_without_weights(tmp_path):
    draw = RunFigures(IMAGES, "test")
    whole = draw(tmp_path / "a", "title", ROWS, torch.ones(5, 36), torch.zeros(100, dtype=torch.int64))
    bare = draw(tmp_path / "b", "title", ROWS, None, None)
    assert {name: path.relative_to(tmp_path).as_posix() for name, path in whole.items()} == {
        name: f"a/figures/{name}.png" for name in ("curves", "weights", "predictions")
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in whole.values())
    assert list(bare) == ["curves"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot write"):
        RunFigures(IMAGES)(tmp_path / "file", "title", ROWS, None, None)


def test_no_figure_goes_through_pyplot_or_pandas(tmp_path):
    """Neither its state nor its window system, nor half a second of imports."""
    code = """
import sys
from pathlib import Path
from mlp_study.figures import run
rows = [{"epoch": 1, "train/loss": 1.0, "val/loss": 2.0}, {"epoch": 2, "train/loss": 0.5}]
figure = run._curves_figure(rows, "test", "relu")
run.save_png(figure, Path("curves.png"))
assert not {"pandas", "matplotlib.pyplot"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert (tmp_path / "curves.png").stat().st_size > 5000
