"""What all figures share: colours, sizes, titles and captions, and how a figure reaches the disk."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.runtime.files import write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito (2008), "Color Universal Design": told apart with every form of colour blindness.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # told apart in print without colour
WRONG = "#D55E00"
LINE = 0.26  # inches: a line of a legend, with its leading
DPI = 110
FORMATS = (".png", ".svg", ".pdf")  # of a figure that a user names


class Sheet:
    """A figure filled from its edges inwards, in inches: title above, caption below, panels in what is left.

    No pyplot: the figure belongs to whoever asked for it and needs no closing. Places are set by hand, since
    matplotlib's layout engines draw everything twice.

    Args:
        width: of the figure.
        body: height of what stands between title and caption.
        title: above; lines are broken where the width ends.
        caption: below, likewise.
    """

    def __init__(self, width: float, body: float, title: str = "", caption: str = "") -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        above, below = textwrap.wrap(title, int(10.5 * width)), textwrap.wrap(caption, int(16 * width))
        head, foot = LINE * (0.9 * len(above) + 0.3), LINE * (0.65 * len(below) + 0.35)
        self.width, self.height = width, body + head * bool(above) + foot * bool(below) + 0.1
        self.figure = Figure(figsize=(self.width, self.height), dpi=DPI)
        FigureCanvasAgg(self.figure)
        self.bottom, self.top = 0.05, self.height - 0.05
        write = partial(self.figure.text, parse_math=False)  # a dollar sign in a name is a dollar sign
        if above:
            write(0.5, self.top / self.height, "\n".join(above), ha="center", va="top", fontsize=11)
            self.top -= head
        if below:
            write(0.08 / width, self.bottom / self.height, "\n".join(below), va="bottom", fontsize=8, color="0.35")
            self.bottom += foot

    def panel(self, left: float, right: float, below: float = 0.0, above: float = 0.0) -> Axes:
        """Axes from ``left`` to ``right`` inches, and from the caption to the title less these margins."""
        x, y = left / self.width, (self.bottom + below) / self.height
        return self.figure.add_axes(
            (x, y, (right - left) / self.width, (self.top - above - self.bottom - below) / self.height)
        )

    def legend(self, handles: list[Any]) -> None:
        """A legend below what is already at the top, as many entries in a row as the width holds."""
        across = entries_across([handle.get_label() for handle in handles], self.width)
        place = (0.5, self.top / self.height)
        self.figure.legend(
            handles=handles,
            ncols=across,
            loc="upper center",
            bbox_to_anchor=place,
            frameon=False,
            fontsize=9,
            borderpad=0,
        )
        self.top -= 0.85 * LINE * -(-len(handles) // across)


def entries_across(labels: Sequence[str], width: float) -> int:
    """How many legend entries stand side by side in ``width`` inches, with equal rows where possible."""
    most = max(1, min(len(labels), int(13 * width / (max(map(len, labels)) + 7))))
    return -(-len(labels) // -(-len(labels) // most))


def plain(axes: Axes) -> None:
    """Only the two spines that carry numbers, and a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)


def text_on(colour: Any) -> str:
    """Black or white, whichever stands out more on ``colour``: at least 4.5 to 1 (WCAG 2.2's relative luminance)."""
    from matplotlib.colors import to_rgb

    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    luminance = sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return "black" if luminance > 0.179 else "white"  # both contrast alike at sqrt(1.05 * 0.05) - 0.05


def save_png(figure: Figure, path: Path) -> Path:
    """Write the figure as PNG, whole or not at all.

    Raises:
        WriteError: the disk is full or read-only.
    """
    return _save(figure, path, format="png", pil_kwargs={"compress_level": 1})  # a third larger, much faster


def save(figure: Figure, path: Path) -> Path:
    """Write the figure in the format of ``FORMATS`` that its name says, whole or not at all.

    Raises:
        WriteError: the disk is full or read-only.
    """
    kind = path.suffix.lower()
    return save_png(figure, path) if kind == ".png" else _save(figure, path, format=kind.removeprefix("."))


def _save(figure: Figure, path: Path, **options: Any) -> Path:
    content = io.BytesIO()
    figure.savefig(content, **options)
    write_file(path, content.getvalue())
    return path
