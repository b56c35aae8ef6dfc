"""Record a population while it trains: curves, each finished member's folder, its W&B run, its figures."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from mlp_study.errors import StudyError
from mlp_study.records import wandb_run
from mlp_study.records.run_folder import read_rows, write_curves, write_run
from mlp_study.training.results import Listener, MemberResult, Metrics

if TYPE_CHECKING:
    from torch import Tensor

    from mlp_study.config.schema import RunConfig

log = logging.getLogger(__name__)

CURVES_EVERY = 1.0  # seconds between two writings of unfinished curves: what a SIGKILL may take
CURVES_SHARE = 20  # and at least this many times what writing them took: 5 % of the time at most
LIVE_WANDB = 256  # in larger populations W&B hears of a member when it ends, so that few runs are open at once


class Draw(Protocol):
    """Draws a finished member's figures into its folder and returns the PNGs by name."""

    def __call__(
        self,
        folder: Path,
        title: str,
        curves: Sequence[Metrics],
        weight_OI: Tensor | None,
        predictions_N: Tensor | None,
    ) -> dict[str, Path]:
        """``weight_OI`` is the first layer's, ``predictions_N`` the predicted class of each test image."""


class Recorder(Listener):
    """Writes what happens to each member into its own folder; used as ``with Recorder(folders) as recorder:``.

    Leaving the block, also by an exception or Ctrl-C, writes the curves so far of members that have not finished, ends
    their W&B runs, and waits until W&B has them.

    Args:
        folders: one a member.
        overrides: what the user typed for each member.
        draw: makes the figures; None for none.
        patient: whether leaving the block waits for W&B; a sweep waits once, at its end.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        overrides: Sequence[Sequence[str]] | None = None,
        draw: Draw | None = None,
        patient: bool = True,
    ) -> None:
        self.folders = list(folders)
        self.overrides = overrides or [()] * len(self.folders)
        self.draw, self.patient = draw, patient
        self.wandb: list[wandb_run.WandbRun] = []
        self._rows: list[list[Metrics]] = []
        self._unfinished: set[int] = set()
        self._unwritten: set[int] = set()
        self._next_writing = 0.0
        self._warned = False

    def started(self, configs: Sequence[RunConfig]) -> None:
        """Open each member's W&B run; an interrupted member's former rows are kept where it goes on after them."""
        assert len(configs) == len(self.folders), "one folder a member"
        held = len(configs) > LIVE_WANDB
        if not self.wandb:  # else they start again, without a damaged checkpoint: the W&B runs are open
            self.wandb = [wandb_run.open_run(f, c, held=held) for f, c in zip(self.folders, configs, strict=True)]
        self._rows = [read_rows(folder) for folder in self.folders]
        self._unfinished = set(range(len(configs)))
        self._next_writing = time.monotonic() + CURVES_EVERY

    def steps_logged(self, k: int, rows: list[Metrics]) -> None:
        """Log losses within an epoch, to W&B only."""
        self.wandb[k].log(rows)

    def epoch_ended(self, k: int, row: Metrics) -> None:
        """Log a row to W&B, and to ``curves.csv`` within a second."""
        self.wandb[k].log([row])
        self._rows[k] = [*(old for old in self._rows[k] if old["epoch"] < row["epoch"]), row]
        self._unwritten.add(k)
        if time.monotonic() >= self._next_writing:
            self._write_curves()

    def finished(self, k: int, result: MemberResult) -> None:
        """Complete the member's folder: its records, then its figures; no figure is worth a result.

        Raises:
            WriteError: the disk is full or read-only.
        """
        run = self.wandb[k]
        known = {row["epoch"] for row in self._rows[k]}
        run.log([row for row in result.curves if row["epoch"] not in known])
        save = result.config.save not in ("none", "best")  # the best of a sweep is known when others have finished
        self._unwritten.discard(k)
        write_run(self.folders[k], result, overrides=self.overrides[k], wandb_id=run.id, save_model=save)
        run.summary(summary_of(result))
        self._unfinished.discard(k)
        if (draw := self.draw_of(k)) is not None and result.curves:
            weight_OI = next((tensor for tensor in result.weights.values() if tensor.ndim == 2), None)
            title = title_of(result.config)
            try:
                run.images(draw(self.folders[k], title, result.curves, weight_OI, result.predictions))
            except Exception as error:
                self._warn(f"figures: {error}")
        run.finish(1 if result.outcome == "failed" else 0)

    def draw_of(self, k: int) -> Draw | None:
        """Return what draws member k's figures; None for none."""
        return self.draw

    def close(self) -> None:
        """Write the curves of members that have not finished, and wait for W&B."""
        self._write_curves()
        for k in self._unfinished:
            self.wandb[k].finish(exit_code=255)
        self._unfinished.clear()
        if self.patient:
            wandb_run.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _write_curves(self) -> None:
        """Bring every ``curves.csv`` up to date; a full disk is only reported, the end of the run may find room."""
        began = time.monotonic()
        try:
            for k in list(self._unwritten):
                write_curves(self.folders[k], self._rows[k])
                self._unwritten.discard(k)
        except StudyError as error:
            self._warn(f"curves so far: {error}")
        now = time.monotonic()
        self._next_writing = now + max(CURVES_EVERY, CURVES_SHARE * (now - began))

    def _warn(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            log.warning("%s", what)


def title_of(config: RunConfig) -> str:
    """Name a run above its figures; its W&B run and the terminal name the seed, too."""
    return f"{config.data.name}, {config.activation.name}, scale {config.data.scale}, {config.optimizer.name}"


def summary_of(result: MemberResult) -> dict[str, Any]:
    """Return what W&B's table of runs shows: outcome, metrics, diagnostics."""
    found: dict[str, Any] = {"outcome": result.outcome, **result.metrics}
    for when, values in result.diagnostics.items():
        found.update((f"{when}/{name}", value) for name, value in values.items())
    return found if result.cause is None else {**found, "cause": result.cause}
