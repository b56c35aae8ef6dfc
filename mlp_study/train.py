"""Train one run, or with -m a sweep: python -m mlp_study.train activation=relu data.scale=none."""

from __future__ import annotations

import contextlib
import math
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.runtime import signals

if __name__ == "__main__":  # before the imports that take time
    signals.listen()

from mlp_study.config.hydra_app import run_hydra
from mlp_study.config.overrides import SEARCH_PATH
from mlp_study.errors import ConfigError, DataError, Interrupted
from mlp_study.runtime.startup import uncollected
from mlp_study.sweep.tasks import Page, trains_runs

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mlp_study.config.schema import RunConfig

PURPOSE = "Train a multilayer perceptron, record the run and say how it ended."


def page_of(folder: Path, again: bool) -> Page | None:
    """The report of a sweep that has ended; one that is there already is kept unless it is asked for ``again``."""
    from mlp_study.reporting.make import PAGE, report_at_end

    return report_at_end(folder) if again or not (folder / PAGE).exists() else None


@trains_runs(page_of)
def run(composed: DictConfig) -> float:
    """One run from its composed config; returns the validation accuracy."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from mlp_study.config.composing import explain
    from mlp_study.config.schema import RunConfig
    from mlp_study.config.trust import guarded_configs

    hydra = HydraConfig.get()
    try:
        with guarded_configs():  # again: another launcher's process has not come by the command
            values: Any = OmegaConf.to_container(composed, resolve=True)
    except OmegaConfBaseException as error:
        raise explain([], error) from error
    config = RunConfig.from_dict(values)
    folder = Path(hydra.runtime.output_dir)
    done = _finished(config, folder)
    overrides: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    return run_one(config, folder, overrides) if done is None else done


def _finished(config: RunConfig, folder: Path) -> float | None:
    """The validation accuracy of this run if its folder has it already: other launchers number their folders anew.

    Raises:
        ConfigError: the folder holds another finished run.
    """
    from mlp_study.records.run_folder import read_json

    if not (folder / "result.json").is_file():
        return None
    try:
        recorded = read_json(folder / "result.json")
    except DataError:  # damaged, and so not finished
        return None
    if recorded.get("run_id") != config.run_id:
        raise ConfigError(f"{folder} holds another finished run; it takes a new folder")
    print(f"finished before: {folder}")
    return float(recorded.get("val/accuracy", math.nan))


def run_one(config: RunConfig, folder: Path, overrides: list[str]) -> float:
    """Data -> model -> trainer -> fit -> result: train ``config``, record it in ``folder``, print how it ended.

    Raises:
        StudyError: the data cannot be read, or the folder not be written.
    """
    from mlp_study.figures.run import RunFigures
    from mlp_study.records import tracking

    whole = config.save in ("auto", "all")
    tracking.prepare(config, single=True)  # these two start processes that import while this one does
    if whole:
        RunFigures.prepare()

    with uncollected():
        from mlp_study.data.images import load
        from mlp_study.records.recorded import train_recorded
        from mlp_study.records.recorder import Recorder
        from mlp_study.records.summary import print_summary
        from mlp_study.training.progress import progress_callbacks

    images = load(config.data.name, config.data_root, **config.data.options)
    validation = "test" if config.data.validation == "test" else "validation"
    draw = RunFigures(images, validation) if whole else None
    recorder = Recorder([folder], overrides=[overrides], draw=draw)
    with _resumable(folder):
        [result] = train_recorded(
            [config],
            recorder,
            folder / "checkpoint.safetensors",
            resume=bool(config.resume),
            callbacks=progress_callbacks(config),
            images=images,
        )
    print_summary(result, folder, recorder.wandb[0])
    return result.metrics.get("val/accuracy", math.nan)


@contextlib.contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Tells an interrupted user how to go on."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as stop:
        answer = signals.answer_of(stop)
        again = f"{_configs()}resume={folder} continues"
        raise (answer if (folder / "result.json").is_file() else type(answer)(f"{answer}; {again}")) from stop


def _configs() -> str:
    """What names the user's own configs, which a resumed run needs, too: it is none of the run's own overrides."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return ""
    hydra = HydraConfig.get()
    folders = [s.path for s in hydra.runtime.config_sources if s.provider == "command-line"]
    flags = [word for folder in folders for word in ("--config-dir", folder)]
    flags += [o for o in hydra.overrides.hydra if o.startswith(SEARCH_PATH)]
    return "".join(f"{shlex.quote(flag)} " for flag in flags)


def main() -> None:
    """The command, from ``sys.argv``."""
    from hydra_plugins.mlp_study import register  # by name: Hydra's discovery may have imported it without its package

    register()
    run_hydra(run, "train", PURPOSE)


if __name__ == "__main__":
    main()
