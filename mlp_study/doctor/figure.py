"""The picture of a diagnosis: skill along the training, and what each fix reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlp_study.doctor.text import keys_of

if TYPE_CHECKING:
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
