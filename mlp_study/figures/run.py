"""A run's own figures, drawn in a companion process: matplotlib's import overlaps with the run's own imports."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import itertools
import math
import os
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.figures.curves import learning_curves
from mlp_study.figures.images import GRID, first_layer_weights, prediction_grid
from mlp_study.figures.style import save_png
from mlp_study.runtime.companion import Companion, Message, giving_way, serve_with
from mlp_study.runtime.startup import uncollected

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure
    from torch import Tensor

    from mlp_study.data.images import ImageSet

MAX_STARTS = 3  # processes that keep ending are not started again
AT_A_TIME = 3  # figures: two cores are then busy until the last of a run's is drawn


class Painter:
    """A companion process that draws: it imports matplotlib once, and each figure is drawn by a copy of it."""

    def __init__(self) -> None:
        self.reset()
        atexit.register(self.close)
        os.register_at_fork(after_in_child=self.reset)  # the companion is the parent's

    def reset(self) -> None:
        """Forget the companion and what it was asked for."""
        self._companion: Companion | None = None
        self._starts = 0
        self._pending: dict[int, Future[Path]] = {}
        self._keys = itertools.count()

    @property
    def pid(self) -> int | None:
        """The companion's process id; None for none."""
        return self._companion.pid if self._companion else None

    def prepare(self, single: bool = False) -> None:
        """Start it now, so that matplotlib's import overlaps with this process's own; ``single``: for one run."""
        if self._companion is None and self._starts < MAX_STARTS:
            self._starts += 1
            self._companion = Companion("mlp_study.figures.run", self._hear, self._lose, aside=single)
            self._companion.send({"do": "prepare", "single": single})

    def draw(self, path: Path, what: str, **arguments: Any) -> Future[Path]:
        """The PNG of one of ``FIGURES`` with these arguments, as a future."""
        self.prepare()
        key, future = next(self._keys), Future[Path]()
        if self._companion is None:
            future.set_exception(RuntimeError("the drawing process keeps ending early"))
            return future
        self._pending[key] = future
        self._companion.send({"do": "draw", "key": key, "path": str(path), "what": what, "arguments": arguments})
        return future

    def close(self) -> None:
        """End the process; what it was asked for is still drawn."""
        if self._companion is not None:
            self._companion.close(5.0 if self._pending else 0.5)

    def _hear(self, reply: Message) -> None:
        future = self._pending.pop(reply["key"], None)
        if future and reply["event"] == "drawn":
            future.set_result(Path(reply["path"]))
        elif future:
            future.set_exception(RuntimeError(reply["why"]))

    def _lose(self, why: str) -> None:
        companion, self._companion = self._companion, None
        if companion is not None:
            companion.kill()
        for key in list(self._pending):
            if future := self._pending.pop(key, None):
                future.set_exception(RuntimeError(why))


_painter = Painter()


class RunFigures:
    """Draws ``figures/curves.png``, ``weights.png`` and ``predictions.png`` of finished runs; a recorder's ``draw``.

    Args:
        images: the data set that the runs were trained on.
        validation: what the validation curves are called; ``test`` where the test set validates.
    """

    def __init__(self, images: ImageSet, validation: str = "validation") -> None:
        self._size = {"height": images.height, "width": images.width}
        self._shown = {
            "images_NI": images.test_images_NI[:GRID].numpy(),
            "labels_N": images.test_labels_N[:GRID].numpy(),
            "classes": images.classes,
        }
        self._validation = validation

    @staticmethod
    def prepare() -> None:
        """Start the drawing process now; called before the slow imports of a single run."""
        _painter.prepare(single=True)

    def __call__(
        self,
        folder: Path,
        title: str,
        curves: Sequence[dict[str, float]],
        weight_OI: Tensor | None,
        predictions_N: Tensor | None,
    ) -> Future[dict[str, Path]]:
        """A future of the PNGs by name; it holds the error if one could not be drawn."""
        asked: dict[str, dict[str, Any]] = {}
        if predictions_N is not None:  # the slowest one first
            asked["predictions"] = {"predictions_N": predictions_N[:GRID].numpy(), **self._shown, **self._size}
        if weight_OI is not None:
            asked["weights"] = {"weight_OI": weight_OI.float().numpy(), **self._size}
        asked["curves"] = {"curves": list(curves), "validation": self._validation}
        futures = {
            name: _painter.draw(folder / "figures" / f"{name}.png", name, title=title, **arguments)
            for name, arguments in asked.items()
        }
        return gathered(futures)


def gathered(futures: dict[str, Future[Path]]) -> Future[dict[str, Path]]:
    """One future for all, done when the last is; it fails with the first failure."""
    whole: Future[dict[str, Path]] = Future()

    def done(_: Future[Path]) -> None:
        if all(future.done() for future in futures.values()) and not whole.done():
            errors = [error for future in futures.values() if (error := future.exception())]
            if errors:
                whole.set_exception(errors[0])
            else:
                whole.set_result({name: future.result() for name, future in futures.items()})

    for future in futures.values():
        future.add_done_callback(done)
    return whole


def _draw_curves(curves: list[dict[str, float]], **arguments: Any) -> Figure:
    import numpy as np

    names = dict.fromkeys(name for row in curves for name in row)
    columns = {name: np.array([row.get(name, math.nan) for row in curves], dtype=float) for name in names}
    return learning_curves(columns, **arguments)


FIGURES: dict[str, Callable[..., Any]] = {
    "curves": _draw_curves,
    "weights": first_layer_weights,
    "predictions": prediction_grid,
}


class Canvas:
    """In the companion: every figure is drawn by a child of its own, ``AT_A_TIME`` at a time."""

    def __init__(self) -> None:
        self._children: dict[int, Message] = {}

    def handle(self, message: Message, reply: Callable[[Message], None]) -> None:
        """Begin one figure; its child says where it lies, or why it does not."""
        if message["do"] == "prepare":
            with giving_way() if message["single"] else contextlib.nullcontext(), uncollected():
                for slow in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
                    importlib.import_module(slow)
            return
        if not hasattr(os, "fork"):
            draw(message, reply)
            return
        while len(self._children) >= AT_A_TIME:
            self._wait(reply)
        pid = os.fork()
        if pid == 0:
            gc.disable()  # it ends before there is much to collect
            try:
                draw(message, reply)
                os._exit(0)
            finally:
                os._exit(1)
        self._children[pid] = message

    def finish(self, reply: Callable[[Message], None]) -> None:
        """Until the last figure is drawn."""
        while self._children:
            self._wait(reply)

    def _wait(self, reply: Callable[[Message], None]) -> None:
        pid, status = os.wait()
        message = self._children.pop(pid, None)
        if message and status:  # else it was no drawing
            why = f"{message['what']}: its process died with status {os.waitstatus_to_exitcode(status)}"
            reply({"event": "failed", "key": message["key"], "why": why})


def draw(message: Message, reply: Callable[[Message], None]) -> None:
    """One figure."""
    try:
        path = save_png(FIGURES[message["what"]](**message["arguments"]), Path(message["path"]))
        reply({"event": "drawn", "key": message["key"], "path": str(path)})
    except Exception as error:  # short: what a pipe takes at once, another child's answer does not cut in two
        reply({"event": "failed", "key": message["key"], "why": f"{message['what']}: {error}"[:1000]})


def serve() -> None:
    """Entry point of the companion."""
    canvas = Canvas()
    serve_with(canvas.handle, canvas.finish, nice=5)  # a finished run waits for it
