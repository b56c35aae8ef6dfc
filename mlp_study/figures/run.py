"""A finished run's own figures: learning curves, first-layer weights, predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlp_study.figures.curves import learning_curves
from mlp_study.figures.images import GRID, first_layer_weights, prediction_grid
from mlp_study.figures.style import save_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from mlp_study.data.images import ImageSet


class RunFigures:
    """Draws ``figures/curves.png``, ``weights.png`` and ``predictions.png`` of finished runs.

    Args:
        images: the data set that the runs were trained on.
        validation: what the validation curves are called; ``test`` where the test set validates.
    """

    def __init__(self, images: ImageSet, validation: str = "validation") -> None:
        self._images, self._validation = images, validation

    def __call__(
        self,
        folder: Path,
        title: str,
        curves: Sequence[dict[str, float]],
        weight_OI: Tensor | None,
        predictions_N: Tensor | None,
    ) -> dict[str, Path]:
        """Draw what there is to draw and return the PNGs by name.

        Args:
            folder: the run's.
            title: above each figure.
            curves: one row an epoch.
            weight_OI: the first layer's weights; None draws no figure of them.
            predictions_N: the predicted class of each test image; None draws no figure of them.

        Raises:
            WriteError: the disk is full or read-only.
        """
        images = self._images
        height, width = images.height, images.width
        figures = {"curves": _curves_figure(curves, self._validation, title)}
        if weight_OI is not None:
            figures["weights"] = first_layer_weights(weight_OI.float().numpy(), height, width, title)
        if predictions_N is not None:
            figures["predictions"] = prediction_grid(
                images_NI=images.test_images_NI[:GRID].numpy(),
                labels_N=images.test_labels_N[:GRID].numpy(),
                predictions_N=predictions_N[:GRID].numpy(),
                classes=images.classes,
                height=height,
                width=width,
                title=title,
            )
        return {name: save_png(figure, folder / "figures" / f"{name}.png") for name, figure in figures.items()}


def _curves_figure(curves: Sequence[dict[str, float]], validation: str, title: str) -> Figure:
    import numpy as np

    names = dict.fromkeys(name for row in curves for name in row)
    columns = {name: np.array([row.get(name, math.nan) for row in curves], dtype=float) for name in names}
    return learning_curves(columns, validation=validation, title=title)
