"""What a network's activations receive before training, against the activation's shape and its dead and flat zones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlp_study.factors.activations import ACTIVATIONS
from mlp_study.figures.style import COLOURS, WRONG, Sheet, plain

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 60
HIGH, WIDE = 2.6, 7.2  # inches of a layer's panel
OFF_COLOUR, FLAT_COLOUR = "0.5", WRONG


def preactivation_histograms(
    layers: Sequence[np.ndarray],
    activation: str,
    options: Mapping[str, Any],
    title: str = "",
    seen: str | None = None,
) -> Figure:
    """One panel a hidden layer: the histogram of its pre-activations, and the activation drawn over the same axis.

    Args:
        layers: pre-activations [O, B] of each hidden layer; values that are not finite are left out.
        activation: a key of ``ACTIVATIONS``.
        options: its options.
        title: above it all.
        seen: which images, and when; None: B training images, before training.
    """
    seen = seen or f"{layers[0].shape[1]} training images, before training"
    caption = (
        f"Pre-activations z of every unit, n = {seen}. Grey zone: the unit is off; "
        "orange zone: it is on a flat side. Line: the activation (right axis). Shares are of all (unit, image) pairs."
    )
    sheet = Sheet(WIDE, HIGH * len(layers), title, caption)
    for layer, z_OB in enumerate(layers):
        left = HIGH * (len(layers) - 1 - layer)
        axes = sheet.panel(0.75, WIDE - 0.85, below=left + 0.5, above=HIGH * layer + 0.3)
        _panel(axes, z_OB, activation, dict(options))
        axes.set_title(f"hidden layer {layer}: {z_OB.shape[0]} units", fontsize=9, loc="left")
    return sheet.figure


def _panel(axes: Axes, z_OB: np.ndarray, activation: str, options: dict[str, Any]) -> None:
    import numpy as np

    z = z_OB[np.isfinite(z_OB)]
    reach = max(float(np.abs(z).max(initial=0.0)) * 1.05, 3.0)
    counts, edges = np.histogram(z, bins=BINS, range=(-reach, reach))
    axes.stairs(counts / max(len(z), 1), edges, fill=True, color=COLOURS[0], alpha=0.85)
    axes.set_xlim(-reach, reach)
    axes.set_xlabel("pre-activation z")
    axes.set_ylabel("share of pairs")
    plain(axes)
    grid = np.linspace(-reach, reach, 2001)
    for which, colour in (("off", OFF_COLOUR), ("saturated", FLAT_COLOUR)):
        zone = _zone(activation, which, grid, options)
        if zone is not None:
            axes.fill_between(
                grid, 0, 1, where=zone, transform=axes.get_xaxis_transform(), color=colour, alpha=0.18, lw=0
            )
            share = float(np.mean(_zone(activation, which, z, options)))
            side = {"off": 0.02, "saturated": 0.98}[which]
            axes.text(side, 0.94, f"{which} {share:.0%}", transform=axes.transAxes, fontsize=9,
                      ha="left" if which == "off" else "right", va="top", color="0.15")  # fmt: skip
    _shape(axes, activation, grid, options)


def _zone(activation: str, which: str, z: np.ndarray, options: dict[str, Any]) -> Any:
    """Where a rule of the activation holds; None if it has no such rule."""
    import torch

    rule = getattr(ACTIVATIONS[activation], which)
    return None if rule is None else rule(torch.as_tensor(z, dtype=torch.float64), **options).numpy()


def _shape(axes: Axes, activation: str, grid: np.ndarray, options: dict[str, Any]) -> None:
    import torch

    with torch.no_grad():
        a = ACTIVATIONS[activation].function(torch.as_tensor(grid, dtype=torch.float64), **options).numpy()
    other = axes.twinx()
    other.plot(grid, a, color="black", linewidth=1.4)
    other.set_ylabel(f"{activation}(z)")
    other.spines[["top"]].set_visible(False)
