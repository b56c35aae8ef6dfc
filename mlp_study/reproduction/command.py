"""What `reproduce` does: read the request, train what is missing, hold claims against it, write and print tables."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.errors import ConfigError, unknown
from mlp_study.factors.table import Option
from mlp_study.records.run_folder import RESULT
from mlp_study.reproduction.claims import Findings, findings
from mlp_study.reproduction.experiments import Experiment, configs_of, load_experiments
from mlp_study.reproduction.runs import cells_of, checked, read_done, train_missing
from mlp_study.sweep.plan import Cell
from mlp_study.sweep.store import MANIFEST
from mlp_study.sweep.tasks import Page

if TYPE_CHECKING:
    from mlp_study.config.schema import RunConfig

OWN = {"source": "all", "seeds": "10", "folder": "reproduction"}
FIXED = ("seed", "experiment", "resume", "dry_run", "shard", "sweep_dir")  # a reproduction's own, or of no use to it
WIDTH = 180  # of the table where no terminal says

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """A command line, checked.

    Attributes:
        experiments: the sources to reproduce.
        seeds: runs of each variant.
        folder: where everything goes.
        overrides: settings that win over the sources' own.
    """

    experiments: Sequence[Experiment]
    seeds: int
    folder: Path
    overrides: Sequence[str]


def request_of(arguments: Sequence[str]) -> Request:
    """The request in ``key=value`` arguments.

    Raises:
        ConfigError: an argument without a value, an unknown source, a setting that is not the user's.
    """
    own, overrides = dict(OWN), []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise ConfigError(f"{argument!r} is not an override; it takes key=value, such as data=digits")
        if key in own:
            own[key] = value
        elif key.lstrip("+").split(".")[0] in FIXED:
            raise unknown("option", key, [*OWN, "data", "data.root"])
        else:
            overrides.append(argument)
    seeds = Option(10, "[1, 10000]").check("seeds", own["seeds"])
    folder = Path(own["folder"])
    if not own["folder"] or (folder.exists() and not folder.is_dir()):
        raise ConfigError(f"folder={own['folder']} is not valid; it takes a folder that is there or can be made")
    for name, what in ((MANIFEST, "sweep"), (RESULT, "single run")):
        if (folder / name).exists():
            raise ConfigError(f"folder={folder} is a {what}'s folder; it takes one of its own")
    return Request(load_experiments(own["source"]), seeds, folder, overrides)


def reproduce(request: Request, make_page: Callable[[Path], Page | None]) -> list[Findings]:
    """Train what is missing, write ``reproduction.md``, ``.csv`` and ``.json`` into the folder, print the table.

    Args:
        request: the command line.
        make_page: makes the page on the folder at the end.

    Raises:
        StudyError: an override, the data or the folder is at fault.
        Interrupted: SIGINT or SIGTERM asked to stop; what is finished stays.
    """
    from mlp_study.reproduction.drawing import draw_figures

    began = time.perf_counter()
    configs = {e.name: configs_of(e, request.overrides, request.seeds) for e in request.experiments}
    cells = {e.name: cells_of(e, configs[e.name]) for e in request.experiments}
    every = [cell for members in cells.values() for cell in members]
    say(f"{len(every)} runs of {len(request.experiments)} sources, {request.seeds} seeds each, into {request.folder}")
    trained = train_missing(every, request.folder, checked(request.experiments), say)
    done = {name: read_done(members, request.folder) for name, members in cells.items()}
    found = [findings(e, done[e.name]) for e in request.experiments]
    figures = {e.name: draw_figures(e, done[e.name], request.folder) for e in request.experiments}
    seconds = time.perf_counter() - began
    about = about_of(request, configs, trained, len(every), seconds)
    write_tables(found, about, figures, request.folder)
    track(found, cells, figures, about, request.folder)
    print_tables(found)
    if every[0].config.report and (made := make_page(request.folder)):
        say(f"report: {made.page}")
    report = request.folder / "reproduction.md"
    say(f"{trained} runs trained, {len(every) - trained} read back, {seconds:.0f} s; {report}")
    return found


def about_of(
    request: Request, configs: Mapping[str, Mapping[str, Sequence[RunConfig]]], trained: int, runs: int, seconds: float
) -> dict[str, Any]:
    """Where the numbers come from."""
    from mlp_study.records.provenance import git_commit, versions

    data = {name: next(iter(variants.values()))[0].data.name for name, variants in configs.items()}
    return {
        "seeds": request.seeds,
        "overrides": list(request.overrides),
        "data": data,
        "runs": runs,
        "trained_now": trained,
        "seconds": seconds,
        "git_commit": git_commit(),
        "versions": versions(),
    }


def write_tables(
    found: Sequence[Findings], about: Mapping[str, Any], figures: Mapping[str, Sequence[Path]], folder: Path
) -> None:
    """The three files, each whole or as it was.

    Raises:
        WriteError: the disk is full or read-only.
    """
    from mlp_study.records.run_folder import json_text
    from mlp_study.reproduction.tables import as_csv, as_dict, as_markdown
    from mlp_study.runtime.files import write_file

    links = {name: [path.relative_to(folder).as_posix() for path in paths] for name, paths in figures.items()}
    write_file(folder / "reproduction.json", json_text(as_dict(found, about)))
    write_file(folder / "reproduction.csv", as_csv(found))
    write_file(folder / "reproduction.md", as_markdown(found, in_words(about), links))


def track(
    found: Sequence[Findings],
    cells: Mapping[str, Sequence[Cell]],
    figures: Mapping[str, Sequence[Path]],
    about: Mapping[str, Any],
    folder: Path,
) -> None:
    """One W&B run an experiment: its verdicts and figures, in the group of its members."""
    from mlp_study.records import wandb_run

    for f in found:
        name = f.experiment.name
        run = wandb_run.open_sweep(folder / "runs" / name, cells[name][0].config, f"reproduce {name}", dict(about))
        run.summary({verdict.claim.id: verdict.words for verdict in f.verdicts})
        run.images({path.relative_to(folder).with_suffix("").as_posix(): path for path in figures[name]})
        run.finish()
    wandb_run.wait()


def in_words(about: Mapping[str, Any]) -> str:
    """The sentence above the tables."""
    data = sorted(set(about["data"].values()))
    typed = " ".join(about["overrides"])
    stand_in = (
        " The digits stand in for the sources' own data: directions carry over, published levels need not."
        if data == ["digits"]
        else ""
    )
    command = f"python -m mlp_study.reproduce seeds={about['seeds']} {typed}".rstrip()
    return f"`{command}`: {about['runs']} runs on {' and '.join(data)}, n = {about['seeds']} seeds a variant.{stand_in}"


def print_tables(found: Sequence[Findings]) -> None:
    """Print the claims of each experiment, as wide as the terminal."""
    from rich.console import Console
    from rich.markdown import Markdown

    from mlp_study.reproduction.tables import claim_lines

    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    for f in found:
        text = [f"**{f.experiment.name}: {f.experiment.question}**", "", *claim_lines(f)]
        console.print(Markdown("\n".join(text)))


def say(line: str) -> None:
    """A line of progress; results go to stdout, progress to stderr."""
    print(line, file=sys.stderr, flush=True)
