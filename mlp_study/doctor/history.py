"""What happened to a trained run's units: its beginning against its end, and when they died."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mlp_study.doctor.forecast import DEAD, SATURATED
from mlp_study.errors import DataError

if TYPE_CHECKING:
    from rich.console import Console

    from mlp_study.records.run_folder import Run

LIMITS = {"dead": DEAD, "saturated": SATURATED}
ENDED = {"early_stopped": "stopped early", "pruned": "was pruned"}  # outcomes that are no verbs


def history_of(run: Run) -> dict[str, Any]:
    """The run's diagnostics at both ends, and the first epoch at whose end a limit was passed.

    Raises:
        DataError: the run recorded no diagnostics.
    """
    recorded = run.result.get("diagnostics") or {}
    if not recorded:
        raise DataError(
            f"{run.folder} recorded no diagnostics; train it with probes.ends and probes.epochs that are not empty"
        )
    initial, final = recorded.get("initial", {}), recorded.get("final", {})
    return {
        "folder": str(run.folder),
        "outcome": run.result["outcome"],
        "cause": run.result.get("cause"),
        "test/accuracy": run.result.get("test/accuracy"),
        "epochs": run.result.get("epochs"),
        "initial": initial,
        "final": final,
        "passed": {name: _passed(run, initial, name) for name in LIMITS if _known(run, name)},
        "sentences": _sentences(run, initial, final),
    }


def _known(run: Run, name: str) -> bool:
    return name in run.curves.columns and bool(run.curves[name].notna().any())


def _passed(run: Run, initial: dict[str, float], name: str) -> int | None:
    """The first epoch at whose end the share was at least its limit; 0 before training, None never."""
    if initial.get(name, 0.0) >= LIMITS[name]:
        return 0
    over = run.curves[run.curves[name] >= LIMITS[name]]
    return int(over["epoch"].iloc[0]) if len(over) else None


def _sentences(run: Run, initial: dict[str, float], final: dict[str, float]) -> list[str]:
    ended = ENDED.get(str(run.result["outcome"]), str(run.result["outcome"]))
    found = [f"the run {ended}" + (f": {run.result['cause']}" if run.result.get("cause") else "")]
    for name, units in (("dead", "units are dead"), ("saturated", "(unit, image) pairs are saturated")):
        if name in initial and name in final:
            found.append(f"{initial[name]:.0%} of the {units} before training, {final[name]:.0%} at the end")
            epoch = _passed(run, initial, name) if _known(run, name) else None
            if epoch is not None:
                when = "before training" if epoch == 0 else f"by the end of epoch {epoch}"
                found.append(f"{LIMITS[name]:.0%} or more of the {units} {when}")
    return found


def print_history(found: dict[str, Any], console: Console) -> None:
    """The panel of a trained run."""
    from rich import box
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("diagnostic", "before", "after"):
        table.add_column(head, justify="left" if head == "diagnostic" else "right")
    for name in found["initial"] | found["final"]:
        table.add_row(name, *(_number(found[when].get(name, math.nan)) for when in ("initial", "final")))
    epochs, accuracy = found["epochs"], found["test/accuracy"]
    lines = [f"{epochs:.0f} epoch{'s' * (epochs != 1)}, test accuracy {accuracy:.4f}", *found["sentences"]]
    console.print(Panel(Group(*(Text(line) for line in lines), table), title=found["folder"]))


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4g}"
