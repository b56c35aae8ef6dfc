"""Figures made of images: first-layer weights, predictions on test images; and the confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlp_study.figures.style import LINE, WRONG, Sheet, text_on

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Array = NDArray[Any]

BAR = "#FFB27A"  # WRONG, lighter: black text on it has a contrast of 11 to 1
GRID = 96  # test images in the prediction grid, as the source `sixteen_units` shows them
ACROSS = 12  # of them in a row


def first_layer_weights(
    weight_OI: Array, height: int, width: int, title: str = "", dead_O: Array | None = None
) -> Figure:
    """Each first-layer unit's weights as an image of the input's size: blue negative, white zero, red positive.

    Each unit has a scale of its own, up to its largest weight, so that a small one shows its pattern, too; grey pixels
    are weights that are not finite.

    Args:
        weight_OI: [O, I] with I = height * width pixels, row-major; any O.
        height: of an image, in pixels.
        width: of an image, in pixels.
        title: above it.
        dead_O: which units pass nothing on for any image; they get an orange frame. None: not known.
    """
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize, to_rgb

    weight_OI = np.asarray(weight_OI, dtype=float)
    units, finite = len(weight_OI), np.isfinite(weight_OI)
    known_OI = np.where(finite, weight_OI, 0.0)
    largest_O = np.abs(known_OI).max(axis=1, initial=0.0)
    scale = ScalarMappable(Normalize(-1, 1), colormaps["RdBu_r"])
    relative_OI = known_OI / np.where(largest_O > 0, largest_O, 1.0)[:, None]
    tiles = scale.to_rgba(relative_OI, bytes=True)[..., :3].reshape(units, height, width, 3)
    tiles[~finite.reshape(units, height, width)] = 150
    gap = max(1, width // 10)
    across = columns(units, height / width)
    mosaic = tiled(tiles, across, gap, ground=210)
    dead = [] if dead_O is None else np.flatnonzero(dead_O).tolist()
    for unit in dead:
        y, x = (height + gap) * (unit // across), (width + gap) * (unit % across)
        frame = np.ones((height + 2 * gap, width + 2 * gap), dtype=bool)
        frame[gap:-gap, gap:-gap] = False
        mosaic[y : y + height + 2 * gap, x : x + width + 2 * gap][frame] = [round(255 * c) for c in to_rgb(WRONG)]
    body = 6.0 * mosaic.shape[0] / mosaic.shape[1]
    caption = (
        f"n = {units} unit{'s' * (units != 1)}, row by row; {height} x {width} weights each. The largest weight of a "
    )
    caption += f"unit lies between {largest_O.min(initial=0.0):.3g} and {largest_O.max(initial=0.0):.3g}."
    caption += f" Orange frame: {len(dead)} dead." if dead else ""
    sheet = Sheet(7.2, body, title, caption)
    axes = sheet.panel(0.1, 6.1)
    axes.imshow(_opaque(mosaic), interpolation="nearest" if mosaic.shape[1] < 660 else "antialiased", aspect="auto")
    axes.set_axis_off()
    squeeze = max(0.0, (body - 6.0) / 2)
    bar = sheet.panel(6.25, 6.42, below=0.06 + squeeze, above=0.06 + squeeze)
    sheet.figure.colorbar(scale, cax=bar).set_label("weight / the unit's largest")
    bar.tick_params(labelsize=8)
    return sheet.figure


def columns(count: int, tall: float) -> int:
    """How many images stand in a row: the mosaic a bit wider than high, and few places empty."""
    ideal = math.sqrt(1.2 * count * tall)
    near = range(max(1, math.floor(0.8 * ideal)), math.ceil(1.25 * ideal) + 1)
    return min(near, key=lambda across: (-count % across / count + 0.3 * abs(math.log(across / ideal)), across))


def tiled(tiles: Array, across: int, gap: int, strip: int = 0, ground: int = 255) -> Array:
    """Images [N, H, W, 3] of bytes in rows of ``across``, ``gap`` pixels apart, each under a ``strip``, on grey."""
    import numpy as np

    count, height, width = tiles.shape[:3]
    down = -(-count // across)
    cells = np.full((down * across, height + strip + gap, width + gap, 3), ground, dtype=np.uint8)
    cells[:count, strip + gap :, gap:] = tiles
    sheet = cells.reshape(down, across, *cells.shape[1:]).swapaxes(1, 2)
    sheet = sheet.reshape(down * cells.shape[1], across * cells.shape[2], 3)
    return np.pad(sheet, ((0, gap), (0, gap), (0, 0)), constant_values=ground)


def _opaque(mosaic: Array) -> Array:
    """With an alpha: matplotlib would add one in float64, and take twice the time over the image."""
    import numpy as np

    return np.dstack([mosaic, np.full(mosaic.shape[:2], 255, dtype=np.uint8)])


def prediction_grid(
    images_NI: Array,
    labels_N: Array,
    predictions_N: Array,
    classes: Sequence[str],
    height: int,
    width: int,
    title: str = "",
    which: str = "the first ones",
) -> Figure:
    """Test images with the predicted class on each; the wrong ones carry an orange bar and frame, and the true class.

    Args:
        images_NI: [N, I] bytes, I = height * width; all N are shown, 12 in a row.
        labels_N: true classes.
        predictions_N: predicted classes.
        classes: names of the classes.
        height: of an image, in pixels.
        width: of an image, in pixels.
        title: above it.
        which: of the test images these are, in words.
    """
    import numpy as np

    count, longest = len(images_NI), max(map(len, classes))
    across, lines = min(ACROSS, max(count, 1)), 2 if longest > 3 else 1  # names of clothes need a line of their own
    cell = 0.85 if lines > 1 else 0.66  # inches: an image with its gap
    size = min(9.0, 72 * cell * 0.85 / (0.62 * max(longest, 5)))  # points; a letter is about 0.62 of it wide
    gap = max(2, width // 10)
    pixel = cell / (width + gap)
    strip = round(1.35 * size * lines / 72 / pixel)
    pixels = np.asarray(images_NI, dtype=np.uint8).reshape(count, height, width)
    mosaic = tiled(np.repeat(pixels[..., None], 3, axis=-1), across, gap, strip)
    wrong = np.asarray(labels_N) != np.asarray(predictions_N)
    caption = f"n = {count} test images, {which}; predicted class on each. {int(wrong.sum())} wrong"
    marked = f": orange bar, true class {'below it' if lines > 1 else 'in brackets'}." if wrong.any() else "."
    wide = max(5.6, mosaic.shape[1] * pixel)
    sheet = Sheet(wide, mosaic.shape[0] * pixel, title, caption + marked)
    left = (wide - mosaic.shape[1] * pixel) / 2
    axes = sheet.panel(left, wide - left)
    style: dict[str, Any] = {"ha": "center", "va": "bottom", "size": size, "clip_on": False, "parse_math": False}
    for i in range(count):
        y, x = gap + (height + strip + gap) * (i // across), gap + (width + gap) * (i % across)
        text = classes[predictions_N[i]]
        if wrong[i]:
            _mark(mosaic, (y, y + strip, y + strip + height), (x, x + width), gap // 2)
            text += f"\n{classes[labels_N[i]]}" if lines > 1 else f" ({classes[labels_N[i]]})"
        axes.text(x + width / 2, y + strip - 0.25 * size / 72 / pixel, text, **style)
    axes.imshow(_opaque(mosaic), interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    return sheet.figure


def _mark(mosaic: Array, rows: tuple[int, int, int], columns: tuple[int, int], thick: int) -> None:
    """Paint a bar over an image and a frame around both: rows are the bar's first, the image's first, its end."""
    from matplotlib.colors import to_rgb

    (top, image, end), (left, right) = rows, columns
    inside = mosaic[image:end, left:right].copy()
    mosaic[top - thick : end + thick, left - thick : right + thick] = [round(255 * c) for c in to_rgb(WRONG)]
    mosaic[top:image, left:right] = [round(255 * c) for c in to_rgb(BAR)]
    mosaic[image:end, left:right] = inside


def confusion_matrix(labels_N: Array, predictions_N: Array, classes: Sequence[str], title: str = "") -> Figure:
    """Share of each true class (row) that was predicted as each class (column), with the numbers of images.

    Args:
        labels_N: true classes.
        predictions_N: predicted classes.
        classes: C names; above 20 the cells carry no numbers.
        title: above it.
    """
    import numpy as np

    count = len(classes)
    matrix = np.zeros((count, count), dtype=int)
    np.add.at(matrix, (np.asarray(labels_N), np.asarray(predictions_N)), 1)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    total, right = int(matrix.sum()), int(np.trace(matrix))
    side = min(8.0, max(3.2, 0.48 * count))
    names = 0.35 + 0.085 * max(map(len, classes))
    sheet = Sheet(side + names + 1.6, side + names + 0.25 + LINE, title, f"n = {total} test images, {right} right.")
    axes = sheet.panel(names + 0.3, names + 0.3 + side, below=names + 0.2, above=0.05 + LINE)
    shown = axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    if count <= 20:
        for i, j in zip(*np.nonzero(matrix), strict=True):
            colour = text_on(shown.cmap(float(share[i, j])))
            axes.text(j, i, str(matrix[i, j]), ha="center", va="center", fontsize=8, color=colour)
    turned = 90 if max(map(len, classes)) > 3 else 0
    small = 9 if count <= 20 else 6
    axes.set_xticks(range(count), classes, rotation=turned, fontsize=small)
    axes.set_yticks(range(count), classes, fontsize=small)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    bar = sheet.panel(names + side + 0.45, names + side + 0.6, below=names + 0.2, above=0.05 + LINE)
    sheet.figure.colorbar(shown, cax=bar).set_label("share of the true class")
    return sheet.figure
