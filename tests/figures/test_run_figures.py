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
def painter(monkeypatch) -> Iterator[module.Painter]:
    found = module.Painter()
    monkeypatch.setattr(module, "_painter", found)
    yield found
    found.close()


def test_all_figures_of_a_run_and_of_one_without_weights(tmp_path, painter):
    draw = RunFigures(IMAGES, "test")
    whole = draw(tmp_path / "a", "title", ROWS, torch.ones(5, 36), torch.zeros(100, dtype=torch.int64))
    bare = draw(tmp_path / "b", "title", ROWS, None, None)
    paths = whole.result(timeout=60)
    assert {name: path.relative_to(tmp_path).as_posix() for name, path in paths.items()} == {
        name: f"a/figures/{name}.png" for name in ("curves", "weights", "predictions")
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths.values())
    assert list(bare.result(timeout=60)) == ["curves"]


def test_a_figure_that_cannot_be_drawn_says_why(tmp_path, painter):
    draw = RunFigures(IMAGES)
    wrong = draw(tmp_path, "title", ROWS, torch.ones(5, 35), None)
    with pytest.raises(RuntimeError, match=r"weights: .*reshape"):
        wrong.result(timeout=60)
    (tmp_path / "file").write_text("")
    blocked = draw(tmp_path / "file", "title", ROWS, None, None)
    with pytest.raises(RuntimeError, match="cannot write"):
        blocked.result(timeout=60)


def test_a_killed_drawing_process_is_an_answer_and_is_replaced(tmp_path, painter):
    painter.prepare()
    first = painter.pid
    draw = RunFigures(IMAGES)
    lost = draw(tmp_path, "title", ROWS, None, None)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="ended early"):
        lost.result(timeout=60)
    assert draw(tmp_path, "title", ROWS, None, None).result(timeout=60)["curves"].exists()
    assert painter.pid != first


def test_the_death_of_one_drawing_is_an_answer_and_costs_no_other(tmp_path, monkeypatch):
    def deadly() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    replies: list[dict[str, object]] = []
    monkeypatch.setitem(module.FIGURES, "deadly", deadly)
    canvas = module.Canvas()
    canvas.handle(
        {"do": "draw", "key": 1, "what": "deadly", "path": str(tmp_path / "x.png"), "arguments": {}}, replies.append
    )
    canvas.finish(replies.append)
    [reply] = replies
    assert (reply["event"], reply["key"]) == ("failed", 1)
    assert "died with status -9" in str(reply["why"])
