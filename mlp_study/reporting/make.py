"""Make a report: read, analyse, write the tables and figures, and the page last."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlp_study.reporting.analysis import Analysis, analysed
from mlp_study.reporting.answer import answer_of
from mlp_study.reporting.csv_tables import write_tables
from mlp_study.reporting.one_run import network_page
from mlp_study.reporting.page import page_of
from mlp_study.reporting.page_data import page_data
from mlp_study.reporting.static_figures import PREFIX, Picture, left_by_others, static_figures, told_apart
from mlp_study.reporting.study import Study, read_study, short_names
from mlp_study.runtime.files import refuse_link, write_file

log = logging.getLogger(__name__)

PAGE, BESIDE = "report.html", "report"
PAGE_BYTES = 2_000_000  # of pictures inside a page; what is more lies in the folder only
CHARTED = ("history", "importance", "slice", "pareto_front")  # figures of a search that its page has charts of


@dataclass(frozen=True)
class Made:
    """A report: its page, and the PNG of each static figure of the study by name."""

    page: Path
    figures: dict[str, Path]


def make_report(
    folders: Sequence[Path], output: Path | None = None, *, figures: bool = True, data_root: Path | None = None
) -> Path:
    """``report.html`` in ``output``, and beside it ``report/`` with figures (PNG, SVG) and tables (CSV).

    Args:
        folders: runs, sweeps, searches or reproductions; several are compared.
        output: where to; None: the folder itself, or ``comparison`` for several.
        figures: whether to draw the static figures, which takes most of a small report's time.
        data_root: where the data sets are, for a single run's confusion matrix; None: where the run had them.

    Returns:
        the page.

    Raises:
        DataError: a folder does not exist, or there is no run below it.
        WriteError: the disk is full or read-only.
    """
    return _made(folders, output, figures, data_root).page


def _made(folders: Sequence[Path], output: Path | None, figures: bool, data_root: Path | None) -> Made:
    top = output or (folders[0] if len(folders) == 1 else Path("comparison"))
    refuse_link(top / BESIDE)
    study = analysed(read_study(folders))
    data = page_data(study, top / PAGE)
    pictures, missing = _pictures(study, data, figures, data_root)
    write_tables(study, top / BESIDE)
    for drawn in pictures:
        drawn.write(top / BESIDE)
    notes = [*notices(study), *missing]
    write_file(top / PAGE, page_of(study, answer_of(study), data, list(_fitting(pictures)), notes))
    return Made(top / PAGE, {p.name: top / BESIDE / f"{p.name}.png" for p in pictures if p.name.startswith(PREFIX)})


def report_at_end(folder: Path) -> Made | None:
    """The report of runs that have just ended.

    Whatever is wrong with it costs no result: it is logged, and None is returned.
    """
    try:
        return _made([folder], None, figures=True, data_root=None)
    except Exception as error:
        log.warning("no report: %s", error)
        return None


def _pictures(
    study: Analysis, data: dict[str, Any], figures: bool, root: Path | None
) -> tuple[list[Picture], list[str]]:
    """The static figures; of a single run also what its network does, into ``data``."""
    if study.study.kind == "run":
        page = network_page(Path(study.runs[0]["folder"]), root)
        data.update(page.data)
        drawn, missing = page.pictures, [page.missing] if page.missing else []
    else:
        charted = CHARTED if study.study.search else ()
        names = short_names(study.study.folders)
        several = len(names) > 1
        found = [p for top, name in names.items() for p in left_by_others(top, charted, name if several else "")]
        drawn, missing = told_apart(found), []
    if figures:
        drawn = [*drawn, *static_figures(study)]
    return drawn, missing


def _fitting(pictures: Sequence[Picture]) -> Iterator[Picture]:
    """Those that show what no interactive chart of the page does, as far as there is room."""
    room = PAGE_BYTES
    for picture in pictures:
        if not picture.charted and len(picture.png) <= room:
            room -= len(picture.png)
            yield picture


def notices(study: Analysis) -> Iterator[str]:
    """What a reader must know before anything else."""
    own: Study = study.study
    if own.unfinished:
        count = len(own.unfinished)
        yield f"Partial: {count} run{'s have' if count > 1 else ' has'} no result yet; the last section names them."
    if own.damaged:
        count = len(own.damaged)
        yield f"{count} record{'s' * (count > 1)} could not be read: left out here, named in the last section."
    if study.main_data:
        names = ", ".join(sorted({str(run.get("data")) for run in study.runs}))
        if own.kind == "comparison":
            yield f"Several data sets ({names}): numbers over several folders mix them unless the filter chooses one."
        else:
            yield f"Several data sets ({names}): the sentence above and the first view are about {study.main_data}."
    if any(run.get("validation_is_test") for run in study.runs):
        yield "Some runs validate on the test images, as their sources did: validation is then no independent estimate."
    shown = study.curves.shape[1]
    if shown > 200:
        yield f"Curves of {shown} epochs are drawn at fewer points; report/learning_curves.csv has all."
