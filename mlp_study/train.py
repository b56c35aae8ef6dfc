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
from mlp_study.runtime.startup import import_lightning
from mlp_study.sweep.tasks import Page, trains_runs

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mlp_study.config.schema import RunConfig
    from mlp_study.data.images import ImageSet
    from mlp_study.records.recorder import Recorder

PURPOSE = "Train a multilayer perceptron, record the run and say how it ended."


def run_one(config: RunConfig, folder: Path, overrides: list[str]) -> float:
    """Train one run, record it in ``folder`` and print how it ended: data -> module -> Trainer -> fit -> result."""
    import_lightning()
    from mlp_study.data.images import load
    from mlp_study.records.run_summary import print_summary
    from mlp_study.training.datamodule import PopulationData
    from mlp_study.training.module import PopulationModule
    from mlp_study.training.progress import progress_callbacks
    from mlp_study.training.trainer import PopulationTrainer

    images = load(config.data.name, config.data_root, **config.data.options)
    checkpoint = folder / "checkpoint.safetensors"
    with _recorder(config, folder, overrides, images) as recorder, _resumable(folder):
        data = PopulationData([config], images)
        module = PopulationModule(data)
        trainer = PopulationTrainer(config, recorder, checkpoint, callbacks=progress_callbacks(config))
        again = bool(config.resume) and checkpoint.is_file()
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint if again else None)
        [result] = trainer.results
        recorder.finished(0, result)
    checkpoint.unlink(missing_ok=True)
    print_summary(result, folder, recorder.wandb[0])
    return result.metrics.get("val/accuracy", math.nan)


def _recorder(config: RunConfig, folder: Path, overrides: list[str], images: ImageSet) -> Recorder:
    """Make what writes the run's folder, its W&B run and its figures."""
    from mlp_study.figures.run import RunFigures
    from mlp_study.records.recorder import Recorder

    validation = "test" if config.data.validation == "test" else "validation"
    draw = RunFigures(images, validation) if config.save in ("auto", "all") else None
    return Recorder([folder], overrides=[overrides], draw=draw)


def page_of(folder: Path, again: bool) -> Page | None:
    """The report of a sweep that has ended; one that is there already is kept unless it is asked for ``again``."""
    from mlp_study.reporting.make import PAGE, report_at_end

    return report_at_end(folder) if again or not (folder / PAGE).exists() else None


@trains_runs(page_of)
def run(composed: DictConfig) -> float:
    """Train one run from its composed config and return its validation accuracy."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from mlp_study.config.composing import explain
    from mlp_study.config.schema import RunConfig, data_root
    from mlp_study.config.trust import guarded_configs

    hydra = HydraConfig.get()
    try:
        with guarded_configs():  # again: another launcher's process has not come by the command
            values: Any = OmegaConf.to_container(composed, resolve=True)
    except OmegaConfBaseException as error:
        raise explain([], error) from error
    if hydra.job.chdir:  # a folder is named from where the command was started
        values["data"]["root"] = str(hydra.runtime.cwd / data_root(values["data"]["root"]))
    config = RunConfig.from_dict(values)
    folder = Path(hydra.runtime.output_dir)
    done = _finished(config, folder)
    overrides: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    return run_one(config, folder, overrides) if done is None else done


def _finished(config: RunConfig, folder: Path) -> float | None:
    """Return this run's validation accuracy if its folder has it already: other launchers number their folders anew.

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


@contextlib.contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Tell an interrupted user how to go on."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as stop:
        answer = signals.answer_of(stop)
        again = f"{_configs()}resume={folder} continues"
        raise (answer if (folder / "result.json").is_file() else type(answer)(f"{answer}; {again}")) from stop


def _configs() -> str:
    """Return the flags that find the user's own configs: a resumed run needs them, and its overrides lack them."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return ""
    hydra = HydraConfig.get()
    folders = [s.path for s in hydra.runtime.config_sources if s.provider == "command-line"]
    flags = [word for folder in folders for word in ("--config-dir", folder)]
    flags += [o for o in hydra.overrides.hydra if o.startswith(SEARCH_PATH)]
    return "".join(f"{shlex.quote(flag)} " for flag in flags)


def main() -> None:
    """Run the command, from ``sys.argv``."""
    from hydra_plugins.mlp_study import register  # by name: Hydra's discovery may have imported it without its package

    register()
    run_hydra(run, "train", PURPOSE)


if __name__ == "__main__":
    main()
