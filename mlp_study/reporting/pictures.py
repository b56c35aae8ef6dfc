"""Static figures on their way to the page (PNG) and to the folder (PNG and SVG)."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlp_study.runtime.files import write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE_BYTES = 4_000_000  # of pictures inside a page; what is more lies in the folder only


@dataclass(frozen=True)
class Picture:
    """A static figure.

    Attributes:
        name: of its files.
        heading: above it in the page.
        text: what it shows, for the caption and for those who do not see it.
        png: its content.
        svg: its content, if it was drawn here.
        charted: whether the page has an interactive chart of the same, and does without the picture.
    """

    name: str
    heading: str
    text: str
    png: bytes
    svg: bytes | None = None
    charted: bool = False

    @classmethod
    def of(cls, name: str, heading: str, text: str, figure: Figure, *, charted: bool = False) -> Picture:
        """Draw a figure in both formats."""
        return cls(name, heading, text, rendered(figure, "png"), rendered(figure, "svg"), charted)

    def write(self, folder: Path) -> None:
        """``NAME.png`` and ``NAME.svg``, each whole or not at all.

        Raises:
            WriteError: the disk is full or read-only.
        """
        write_file(folder / f"{self.name}.png", self.png)
        if self.svg is not None:
            write_file(folder / f"{self.name}.svg", self.svg)


def rendered(figure: Figure, form: str) -> bytes:
    """A figure's bytes; an SVG's text stays text, and two drawings of one figure are equal."""
    from matplotlib import rc_context

    content = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "mlp_study"}):
        figure.savefig(content, format=form, metadata={"Date": None} if form == "svg" else None)
    return content.getvalue()


def left_by_others(folder: Path, charted: tuple[str, ...] = (), of: str = "") -> list[Picture]:
    """The PNGs in ``folder/figures``: what a run, a search or a reproduction has drawn at its end.

    Args:
        folder: the run's, search's or reproduction's.
        charted: how the names of those begin that the page shows interactively.
        of: the folder in words, where others have figures of the same names; files and headings then begin with it.
    """
    found = []
    for path in sorted((folder / "figures").glob("*.png")):
        name = path.stem.replace("_", " ")
        shown = path.stem.startswith(charted) if charted else False
        heading = f"{of}: {name}" if of else name[:1].upper() + name[1:]
        own = re.sub(r"[^\w.-]+", "_", f"{of}_{path.stem}") if of else path.stem
        text = f"{heading if of else name}, as drawn when the runs ended."
        found.append(Picture(own, heading, text, path.read_bytes(), charted=shown))
    return found


def told_apart(pictures: Iterable[Picture]) -> list[Picture]:
    """No file's name twice: those that come later are numbered."""
    found: dict[str, Picture] = {}
    for picture in pictures:
        names = itertools.chain([picture.name], (f"{picture.name}_{i}" for i in itertools.count(2)))
        name = next(name for name in names if name not in found)
        found[name] = replace(picture, name=name)
    return list(found.values())
