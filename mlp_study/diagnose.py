"""Say why a network fails, before it is trained: python -m mlp_study.diagnose activation=relu data.scale=none.

In Python, for a training of your own, ``mlp_study.diagnose`` is a function: see its help.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.runtime import signals

if __name__ == "__main__":  # before the imports that take time
    signals.listen()

from mlp_study.config.composing import compose
from mlp_study.config.help import help_text
from mlp_study.config.schema import RunConfig
from mlp_study.errors import ConfigError
from mlp_study.runtime.guard import guarded

if TYPE_CHECKING:
    from mlp_study.doctor.config_diagnosis import Diagnosis

PURPOSE = """Say before training whether a network will learn, why not, and what would cure it.

run=FOLDER diagnoses a trained run: its beginning against its end. --json prints everything for programs.
--figure=FILE says where the figure goes, a PNG, SVG or PDF by its suffix (default: outputs/diagnose/RUN_ID.png);
--figure=none draws none.
--no-cures only judges."""
FLAGS = ("--json", "--figure=FILE", "--no-cures")
ONE = "diagnose takes one configuration"


def main(arguments: list[str]) -> None:
    """Diagnose what the overrides describe, or a finished run, and print it."""
    as_json = "--json" in arguments
    overrides = [a for a in arguments if not a.startswith("--")]
    flags = [a for a in arguments if a.startswith("--")]
    if {"-m", "--multirun"} & set(arguments):
        raise ConfigError(f"-m makes a sweep; {ONE}")
    for flag in flags:
        if flag in ("--figure", "--figure="):
            raise ConfigError(f"{flag} has no value; it takes a file's name, --figure=FILE, or --figure=none")
        if flag not in FLAGS and not flag.startswith("--figure="):
            raise ConfigError(f"{flag} is unknown; diagnose takes {', '.join(FLAGS)} and key=value overrides")
    folders = [o.partition("=")[2] for o in overrides if o.startswith("run=")]
    if folders and len(overrides) > 1:
        raise ConfigError(f"run={folders[-1]} is diagnosed with its own configuration; it takes no other overrides")
    if folders and any(flag.startswith("--figure=") for flag in flags):
        raise ConfigError(
            f"--figure draws networks before training; python -m mlp_study.report {folders[-1]} draws a trained run's"
        )
    if folders:
        _diagnose_run(Path(folders[-1]), as_json)
        return
    config = RunConfig.from_dict(compose(overrides, ONE))
    _diagnose(config, as_json, _figure_path(config, arguments), cures="--no-cures" not in arguments)


def _figure_path(config: RunConfig, arguments: list[str]) -> Path | None:
    """Where the figure goes; None for none.

    Raises:
        ConfigError: its name says no format that can be written.
    """
    from mlp_study.figures.style import FORMATS

    given = [a.partition("=")[2] for a in arguments if a.startswith("--figure=")]
    if not given:
        return Path("outputs") / "diagnose" / f"{config.run_id}.png"
    path = Path(given[-1])
    if given[-1] != "none" and path.suffix.lower() not in FORMATS:
        raise ConfigError(
            f"--figure={given[-1]} is not valid; it takes a name that ends in {', '.join(FORMATS)}, or none"
        )
    return None if given[-1] == "none" else path


def _diagnose(config: RunConfig, as_json: bool, figure: Path | None, *, cures: bool) -> None:
    from rich.console import Console

    from mlp_study.runtime.startup import import_lightning

    import_lightning()
    from mlp_study.doctor.config_diagnosis import diagnose_config
    from mlp_study.doctor.panel import as_dict, print_panel
    from mlp_study.records.run_folder import json_text

    with _progress(config, cures) if not as_json else contextlib.nullcontext():
        found = diagnose_config(config, cures=cures)
    if as_json:
        drawn = _draw(config, found, figure) if figure else None
        sys.stdout.write(json_text({**as_dict(found), "figure": str(drawn) if drawn else None}))
        return
    print_panel(found, Console())
    if figure:
        print(f"figure: {_draw(config, found, figure)}")


def _progress(config: RunConfig, cures: bool) -> contextlib.AbstractContextManager[Any]:
    """One line on what takes so long, while it does, where somebody looks; results go to stdout, progress to stderr."""
    wanted = sys.stderr.isatty() if config.trainer.progress is None else config.trainer.progress
    if not wanted:
        return contextlib.nullcontext()
    from rich.console import Console

    more = ", then for cures" if cures else ""
    return Console(stderr=True).status(f"looking at {config.data.name} and the first steps{more} ...")


def _draw(config: RunConfig, found: Diagnosis, path: Path) -> Path:
    from mlp_study.doctor.config_diagnosis import preactivations
    from mlp_study.figures.preactivations import preactivation_histograms
    from mlp_study.figures.style import save

    title = f"{config.activation.name}, scale {config.data.scale}: {found.verdict.words}"
    layers = [z_OB.numpy() for z_OB in preactivations(config)]
    drawn = preactivation_histograms(layers, config.activation.name, config.activation.options, title)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return save(drawn, path)
    except OSError as error:
        raise ConfigError(
            f"--figure={path} can't be written ({error.strerror}); it takes a file's name, or none for no figure"
        ) from error


def _diagnose_run(folder: Path, as_json: bool) -> None:
    from rich.console import Console

    from mlp_study.doctor.history import history_of, print_history
    from mlp_study.records.run_folder import json_text, load_run

    found = history_of(load_run(folder))
    if as_json:
        sys.stdout.write(json_text(found))
    else:
        print_history(found, Console())


if __name__ == "__main__":
    if {"--help", "-h"} & set(sys.argv[1:]):
        guarded(lambda: print(help_text("diagnose", PURPOSE), flush=True))
    else:
        guarded(lambda: main(sys.argv[1:]))
