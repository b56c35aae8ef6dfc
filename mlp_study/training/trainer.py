"""Lightning's Trainer as every training of this project uses it: a single run, a sweep's populations, reproductions."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, Trainer

from mlp_study.config.schema import RunConfig
from mlp_study.runtime.devices import arithmetic, check_device, enough_memory
from mlp_study.runtime.signals import deferred
from mlp_study.training.callbacks import member_callbacks
from mlp_study.training.checkpoint import read_checkpoint
from mlp_study.training.datamodule import PopulationData
from mlp_study.training.evaluation import results_of
from mlp_study.training.module import PopulationModule
from mlp_study.training.results import Listener, MemberResult
from mlp_study.training.stopping import Stopping

# 64 bit is the module's own doing: Lightning's plugin copies every batch, and refuses one that is a frozen dataclass
LIGHTNING_PRECISION: dict[str, Any] = {"32": "32-true", "64": "32-true", "bf16": "bf16-mixed"}

# Below this, threads wait for each other longer than they compute: a digits network takes 1.1 s on one thread, 1.8 s
# on two (15 epochs, two cores, nothing else running), and several times that beside another busy process.
FEW_FLOP = 2e7


class PopulationTrainer(Trainer):
    """The Trainer of one population.

    Args:
        config: any member's; the members of one population share what concerns the Trainer.
        listener: hears of every logged loss and epoch, with the member's number in the caller's order.
        checkpoint: where to write checkpoints; None writes none.
        callbacks: further callbacks, such as a progress bar.

    Attributes:
        results: after ``fit``, one a member in the caller's order.

    Raises:
        ConfigError: the device that ``config`` asks for is not on this machine.
    """

    def __init__(
        self,
        config: RunConfig,
        listener: Listener | None = None,
        checkpoint: Path | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        check_device(config.trainer.accelerator)
        self.checkpoint = checkpoint if config.trainer.checkpoint else None
        self.results: list[MemberResult] = []
        with _quiet_lightning():
            super().__init__(
                max_epochs=config.trainer.max_epochs,
                accelerator=config.trainer.accelerator,
                devices=1,
                plugins=[LightningEnvironment()],  # one process: of a SLURM job's tasks the Trainer would look for more
                precision=LIGHTNING_PRECISION[config.trainer.precision],
                check_val_every_n_epoch=config.trainer.validate_every,
                callbacks=[*member_callbacks(listener or Listener(), self.checkpoint), *callbacks],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                use_distributed_sampler=False,
            )

    def fit(  # type: ignore[override]  # the Trainer's own takes many kinds of data
        self, model: PopulationModule, *, datamodule: PopulationData, ckpt_path: Path | None = None
    ) -> None:
        """Train the population and evaluate it.

        Args:
            model: the population.
            datamodule: its data.
            ckpt_path: a checkpoint of these same members to continue from.

        Raises:
            ConfigError: there is not enough memory.
            DataError: the checkpoint is damaged, or belongs to other runs.
            Interrupted: SIGINT or SIGTERM asked to stop, or as ``Preempted`` SIGUSR1 or SIGUSR2; the checkpoint is
                written.
        """
        if ckpt_path is not None:
            read_checkpoint(ckpt_path, model)
            progress: Any = self.fit_loop.epoch_progress.current
            progress.processed = model.epochs_done  # so that validations fall on the same epochs
        callbacks: list[Callback] = self.callbacks  # type: ignore[attr-defined]
        callbacks.append(Stopping(model, self.checkpoint))
        config = model.configs[0]
        memory = enough_memory(config.model.widths, config.data.batch_size)
        with memory, arithmetic(threads_for(model)), _quiet_lightning(), deferred():
            super().fit(model, datamodule=datamodule)
            model.to(model.trained_on)  # the Trainer leaves it on the CPU
            self.results = results_of(model)


def threads_for(module: PopulationModule) -> int | None:
    """How many threads train: those of ``trainer.threads``, one for small steps, else as many as PyTorch takes."""
    weights: int = sum(weight_KOI.numel() for weight_KOI in module.mlp.weights)
    flop = 6.0 * module.feed.sizes.batch * weights  # of a step's matrix products: backward twice as many as forward
    return module.configs[0].trainer.threads or (1 if flop < FEW_FLOP else None)


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence Lightning's notes on choices that were made here on purpose."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", message=".*configure_optimizers.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
