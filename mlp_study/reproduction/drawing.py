"""The sources' figures: learning curves of all variants, and each variant's predictions and first-layer weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlp_study.figures.curves import KEPT, STOPPED, carried_to
from mlp_study.figures.style import COLOURS
from mlp_study.reproduction.experiments import CURVES, OF_A_RUN, Experiment
from mlp_study.reproduction.runs import Done

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mlp_study.training.results import Metrics


def draw_figures(found: Experiment, done: Sequence[Done], top: Path) -> list[Path]:
    """The experiment's figures as PNG: curves are drawn now, into ``top/figures``; those of single runs lie with them.

    Args:
        found: the experiment.
        done: its finished runs.
        top: the reproduction's folder.
    """
    from mlp_study.figures import save_png

    paths = []
    for figure in found.figures:
        if figure in CURVES:
            for part, variants in enumerate(_parts(list(found.variants)), 1):
                suffix = f"_{part}" if len(found.variants) > len(COLOURS) else ""
                path = top / "figures" / f"{found.name}_{figure}{suffix}.png"
                paths.append(save_png(_curves(found, done, variants, CURVES[figure]), path))
        else:
            paths += [path for run in done if (path := run.folder / "figures" / f"{OF_A_RUN[figure]}.png").is_file()]
    return paths


def _parts(variants: list[str]) -> list[list[str]]:
    """Variants in parts of nearly equal size that have enough colours."""
    count = -(-len(variants) // len(COLOURS))
    size = -(-len(variants) // count)
    return [variants[i : i + size] for i in range(0, len(variants), size)]


def _curves(found: Experiment, done: Sequence[Done], variants: Sequence[str], panels: Sequence[str]) -> Figure:
    import pandas as pd

    from mlp_study.figures import learning_curves

    own = [run for run in done if run.variant in variants]
    last = max((int(run.rows[-1]["epoch"]) for run in own if run.rows), default=0)
    rows = [{**row, "variant": v} for v in variants for run in own if run.variant == v for row in _kept(run, last)]
    data = " and ".join(dict.fromkeys(run.config.data.name for run in done))
    stopped = any(run.outcome == STOPPED for run in own)
    title = f"{found.name} on {data}" + (f": {KEPT}" if stopped else "")
    return learning_curves(pd.DataFrame(rows), by="variant", metrics=panels, title=title, validation="test")


def _kept(run: Done, longest: int) -> Iterator[Metrics]:
    """A run's rows; the last of one that stopped early again and again, or the mean would be of the others only."""
    yield from run.rows
    if run.rows:
        ended = int(run.rows[-1]["epoch"])
        last = carried_to(run.outcome, ended, run.config.trainer.max_epochs, longest)
        yield from ({**run.rows[-1], "epoch": epoch} for epoch in range(ended + 1, last + 1))
