"""A run's figures come out of other processes, and a failure there is an answer, never a wait."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
import torch

from mlp_study.data.images import ImageSet
from mlp_study.figures import RunFigures
from mlp_study.figures import run as module

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


@pytest.fixture
def painters(monkeypatch) -> Iterator[module.Painters]:
    found = module.Painters()
    monkeypatch.setattr(module, "_painters", found)
    yield found
    found.close()


def test_all_figures_of_a_run_and_of_one_without_weights(tmp_path, painters):
    draw = RunFigures(IMAGES, "test")
    whole = draw(tmp_path / "a", "title", ROWS, torch.ones(5, 36), torch.zeros(100, dtype=torch.int64))
    bare = draw(tmp_path / "b", "title", ROWS, None, None)
    paths = whole.result(timeout=60)
    assert {name: path.relative_to(tmp_path).as_posix() for name, path in paths.items()} == {
        name: f"a/figures/{name}.png" for name in ("curves", "weights", "predictions")
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths.values())
    assert list(bare.result(timeout=60)) == ["curves"]


def test_a_figure_that_cannot_be_drawn_says_why(tmp_path, painters):
    draw = RunFigures(IMAGES)
    wrong = draw(tmp_path, "title", ROWS, torch.ones(5, 35), None)
    with pytest.raises(RuntimeError, match=r"weights: .*reshape"):
        wrong.result(timeout=60)
    (tmp_path / "file").write_text("")
    blocked = draw(tmp_path / "file", "title", ROWS, None, None)
    with pytest.raises(RuntimeError, match="cannot write"):
        blocked.result(timeout=60)


def test_killed_drawing_processes_are_an_answer_and_are_replaced(tmp_path, painters):
    painters.prepare()
    first = [companion.pid for companion in painters._companions]
    draw = RunFigures(IMAGES)
    lost = draw(tmp_path, "title", ROWS, None, None)
    os.kill(first[0], signal.SIGKILL)
    with pytest.raises(RuntimeError, match="ended early"):
        lost.result(timeout=60)
    assert draw(tmp_path, "title", ROWS, None, None).result(timeout=60)["curves"].exists()
    assert not {companion.pid for companion in painters._companions} & set(first)
