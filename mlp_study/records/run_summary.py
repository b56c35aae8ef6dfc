"""Say how a run ended, in a few lines for the terminal and ``train.log``."""

from __future__ import annotations

import logging
import math
from pathlib import Path

from mlp_study.errors import spelt_out
from mlp_study.records.wandb_run import WandbRun
from mlp_study.training.results import MemberResult

log = logging.getLogger(__name__)


def summary_lines(result: MemberResult, folder: Path, wandb_run: WandbRun | None = None) -> list[tuple[str, str]]:
    """Return (what, value) lines of a finished run: how it ended, accuracies and losses, and where its record lies."""
    config, metrics = result.config, result.metrics

    def number(name: str) -> str:
        value = metrics.get(name, math.nan)
        return "-" if math.isnan(value) else f"{value:.4f}"

    test_is_validation = " (the test set)" if config.data.validation == "test" else ""
    lines = [
        (
            "run",
            f"{config.data.name} {config.activation.name} scale={config.data.scale} {config.optimizer.name} "
            f"seed={config.seed}",
        ),
        ("outcome", result.outcome + (f": {result.cause}" if result.cause else "")),
        ("test accuracy", f"{number('test/accuracy')}  loss {number('test/loss')}"),
        ("validation accuracy", f"{number('val/accuracy')}  loss {number('val/loss')}{test_is_validation}"),
        ("training accuracy", f"{number('train/accuracy')}  loss {number('train/loss')}"),
    ]
    final = result.diagnostics.get("final", {})
    units = [
        f"{what} {100 * final[name]:.0f} %"
        for name, what in (("dead", "dead"), ("saturated", "saturated"))
        if not math.isnan(final.get(name, math.nan))
    ]
    if units:
        lines.append(("hidden units at the end", ", ".join(units)))
    epochs = metrics.get("epochs", 0)
    trained = f"{epochs:.0f} epoch{'s' * (epochs != 1)} in {metrics.get('seconds', math.nan):.2f} s"
    lines.append(("time", f"{trained} on {result.device}"))
    lines.append(("record", str(folder)))
    if wandb_run is not None and wandb_run.where:
        lines.append(("W&B", wandb_run.where))
    return [(what, spelt_out(value)) for what, value in lines]


def print_summary(result: MemberResult, folder: Path, wandb_run: WandbRun | None = None) -> None:
    """Print the final table on the terminal, and as plain lines in ``train.log``."""
    from rich.console import Console
    from rich.table import Table

    lines = summary_lines(result, folder, wandb_run)
    table = Table(show_header=False, box=None, pad_edge=False)
    for what, value in lines:
        table.add_row(what, value)
    Console(soft_wrap=True).print(table, markup=False)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            for what, value in lines:
                handler.emit(log.makeRecord(log.name, logging.INFO, "", 0, f"{what}: {value}", (), None))
