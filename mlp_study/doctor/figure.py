"""The picture of a diagnosis: skill along the training, and what each fix reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlp_study.doctor.text import keys_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from mlp_study.doctor.diagnosis import Diagnosis


def drawn(d: Diagnosis) -> Figure:
    """Two panels: the training as it is given over steps; its end beside the fixes' ends and what can be had."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = [row["step"] for row in d.rows]
    left.plot(steps, [row["skill"] for row in d.rows], marker=".", color="#0969da")
    left.set(xlabel="step", ylabel="skill", ylim=(-0.03, 1.05), title="as it is given")
    left.set_xscale("symlog", linthresh=10)
    ends = [("as it is given", d.skill), *((keys_of(fix)[:40], fix.score) for fix in d.fixes[:5])][::-1]
    right.barh(
        [name for name, _ in ends], [skill for _, skill in ends], color=["#2da44e"] * (len(ends) - 1) + ["#0969da"]
    )
    right.axvline(d.possible, color="#57606a", linestyle="--", linewidth=1)
    right.set(xlim=(0, 1.05), xlabel="skill", title="dashed: what can be had")
    right.tick_params(axis="y", labelsize=8)
    return figure


def health_figure(frame: pd.DataFrame, losses: list[tuple[int, float]]) -> Figure:
    """Four panels over the steps of a watched training: loss, units, gradients, updates; one line a layer."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 2.8), layout="constrained")
    loss, units, gradients, updates = figure.subplots(1, 4)
    loss.plot(*(zip(*losses, strict=True) if losses else ([], [])), color="#0969da", linewidth=0.8)
    loss.set(title="loss", xlabel="step")
    for (layer, kind), rows in frame.groupby(["layer", "kind"], sort=False):
        if kind == "weight":
            for axes, column in ((gradients, "gradient"), (updates, "update")):
                axes.plot(rows["step"], rows[column].where(rows[column] > 0), marker=".", label=layer)
                axes.set(title=f"{column} / weight", xlabel="step", yscale="log")
        else:
            share = rows["dead"].fillna(rows["saturated"])
            units.plot(rows["step"], share, marker=".", label=f"{layer or kind} ({kind})")
    units.set(title="units dead or saturated", xlabel="step", ylim=(-0.03, 1.03))
    for axes in (units, updates):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=6)
    return figure
