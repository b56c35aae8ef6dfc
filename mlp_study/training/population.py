"""Train a population: configs in, one result a member out. A single run is a population of one."""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins.environments import LightningEnvironment

from mlp_study.config.schema import RunConfig
from mlp_study.data.images import ImageSet, load
from mlp_study.errors import ConfigError
from mlp_study.runtime.allocator import freed_memory_kept
from mlp_study.training.callbacks import member_callbacks
from mlp_study.training.checkpoint import progress_in
from mlp_study.training.datamodule import PopulationData
from mlp_study.training.devices import STEP_BYTES, check_device, enough_memory, on_gpu
from mlp_study.training.feed import stream_key
from mlp_study.training.module import PopulationModule
from mlp_study.training.probing import measure_ends
from mlp_study.training.results import Listener, MemberResult, Metrics, shares_of
from mlp_study.training.stopping import Stopping

# 64 bit is the module's own doing: Lightning's plugin copies every batch, and refuses one that is a frozen dataclass
LIGHTNING_PRECISION: dict[str, Any] = {"32": "32-true", "64": "32-true", "bf16": "bf16-mixed"}

# Below this, threads wait for each other longer than they compute: a digits network takes 1.1 s on one thread, 1.8 s
# on two (15 epochs, two cores, nothing else running), and several times that beside another busy process.
FEW_FLOP = 2e7


def shape_key(config: RunConfig) -> tuple[Any, ...]:
    """What members of one population share: tensor shapes, number of steps, arithmetic, times of being looked at."""
    data, model, trainer = config.data, config.model, config.trainer
    return (
        (data.name, tuple(sorted(data.options.items())), str(config.data_root), data.limit),
        (data.validation, data.batch_size, tuple(model.widths), model.norm),
        (trainer.max_epochs, trainer.validate_every, trainer.precision, trainer.accelerator),
        (trainer.threads, trainer.log_every_n_steps, config.probes.every, config.probes.images),
    )


def lockstep_order(configs: Sequence[RunConfig], rules_first: bool = False) -> list[int]:
    """The members' order in a population: neighbours share a minibatch, then a loss, an optimizer, an activation.

    Each run of equal choices is one call, an optimizer's one for each parameter: within a choice the next one runs
    forwards and backwards by turns, so that where two choices meet the inner one goes on (Gray's reflected order).
    Streams that feed equally many members are neighbours too: one product serves them all.

    Args:
        configs: one a member.
        rules_first: neighbours share a loss, an optimizer and an activation before they share a minibatch: fewer calls
            of code, and a copy of its images for each member instead of one for all that see the same.
    """
    counts = Counter(stream_key(c) for c in configs)
    streams = {key: i for i, key in enumerate(sorted(counts, key=lambda key: -counts[key]))}

    def choices(k: int) -> list[Any]:
        c = configs[k]
        optimizer = (c.optimizer.name, c.schedule.name)
        rules = [c.loss.name, optimizer, c.activation.name]
        stream, numbers = streams[stream_key(c)], repr(c.optimizer.options)
        return [*rules, stream, numbers] if rules_first else [stream, *rules, numbers]

    return _reflected({k: choices(k) for k in range(len(configs))})


def _reflected(choices: Mapping[int, Sequence[Any]], depth: int = 0) -> list[int]:
    """Numbers sorted by their choices, each group in the reverse of the order of the one before."""
    if len(choices) < 2 or depth == len(next(iter(choices.values()))):
        return list(choices)
    groups: dict[Any, dict[int, Sequence[Any]]] = {}
    for k, own in choices.items():
        groups.setdefault(own[depth], {})[k] = own
    ordered: list[int] = []
    for i, value in enumerate(sorted(groups)):
        group = _reflected(groups[value], depth + 1)
        ordered += reversed(group) if i % 2 else group
    return ordered


def train_population(
    configs: Sequence[RunConfig],
    listener: Listener | None = None,
    *,
    checkpoint: Path | None = None,
    resume_from: Path | None = None,
    callbacks: Sequence[Callback] = (),
    images: ImageSet | None = None,
) -> list[MemberResult]:
    """Train all configs in lockstep and return their results, in the same order.

    Args:
        configs: members that share ``shape_key``.
        listener: hears of every logged loss, epoch and result, with the member's number in ``configs``.
        checkpoint: where to write checkpoints; None writes none.
        resume_from: a checkpoint of these same configs to continue from.
        callbacks: further Lightning callbacks, such as a progress bar.
        images: the data set, if it is loaded already.

    Raises:
        ConfigError: the configs cannot train together, or find no memory.
        DataError: the data set cannot be read.
        Interrupted: SIGINT or SIGTERM asked to stop, or as ``Preempted`` SIGUSR1 or SIGUSR2; the checkpoint is written.
    """
    listener = listener or Listener()
    first = configs[0]
    with enough_memory(first):
        module, order = assembled(configs, images or load(first.data.name, first.data_root, **first.data.options))
        module.resume_from = resume_from
        listener.started(configs)
        stopping = Stopping(module, checkpoint)
        with arithmetic(module), _quiet_lightning(), stopping:
            ours = member_callbacks(module.configs, listener, order, checkpoint)
            _fit(module, [*ours, *callbacks, stopping], resume_from)
            results = _results(module, order)
    for k, result in enumerate(results):
        listener.finished(k, result)
    return results


def assembled(configs: Sequence[RunConfig], images: ImageSet) -> tuple[PopulationModule, list[int]]:
    """The population of these configs, and the number in ``configs`` of each of its members.

    Raises:
        ConfigError: the configs cannot train together.
    """
    if len({shape_key(c) for c in configs}) != 1:
        raise ConfigError("the members of one population must share data set, widths, batch size, epochs and precision")
    check_device(configs[0])
    order = lockstep_order(configs, on_gpu(configs[0]) and rules_first_fits(configs, images))
    return PopulationModule(PopulationData([configs[k] for k in order], images)), order


def rules_first_fits(configs: Sequence[RunConfig], images: ImageSet) -> bool:
    """Whether a step leaves room for each member's own copy of its images, as ``rules_first`` may need.

    On a GPU that copy costs less than the calls it saves: in a grid of 5 activations, 4 optimizers, 4 scales and 50
    seeds they are 131 a step instead of 13,900 (tests/test_step_counts.py). On a CPU, whose populations are small, it
    costs more.
    """
    batch, pixels = configs[0].data.sizes(images).batch, images.train_images_NI.shape[1]
    return 4 * len(configs) * batch * pixels <= STEP_BYTES


def _fit(module: PopulationModule, callbacks: list[Callback], resume_from: Path | None) -> None:
    trainer_config = module.configs[0].trainer
    trainer = Trainer(
        max_epochs=trainer_config.max_epochs,
        accelerator=trainer_config.accelerator,
        devices=1,
        plugins=[
            LightningEnvironment()
        ],  # one process: in a SLURM job of several tasks the Trainer would look for more
        precision=LIGHTNING_PRECISION[trainer_config.precision],
        check_val_every_n_epoch=trainer_config.validate_every,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    if resume_from is not None:  # the Trainer counts on, so that validations fall on the same epochs
        progress: Any = trainer.fit_loop.epoch_progress.current
        progress.processed, steps = progress_in(resume_from, module.configs)
        module.data.skip(progress.processed + 1, steps - progress.processed * module.feed.sizes.steps)
    trainer.fit(module, datamodule=module.data)
    module.to(module.trained_on)  # the Trainer leaves it on the CPU


def _results(module: PopulationModule, order: Sequence[int]) -> list[MemberResult]:
    """Each member's result, in the caller's order."""
    test_rows, predicted_KN = module.evaluate("test")
    lacking = _lacking(module)
    mlp = module.whole()
    finals = measure_ends(module, mlp, module.data.everyone)
    results: dict[int, MemberResult] = {}
    seconds, chance = module.seconds, _chance(module.data.images.test_labels_N)
    shares = shares_of(module.curves, seconds)
    for k, number in enumerate(order):
        curves = module.curves[k]
        metrics = {name: value for name, value in (curves[-1] if curves else {}).items() if "/" in name}
        metrics = lacking[k] | metrics | test_rows[k]
        outcome, cause = _outcome(module, k, metrics)
        metrics |= {
            "seconds": seconds,
            "seconds_share": shares[k],
            "train_seconds": module.train_seconds,
            "epochs": float(curves[-1]["epoch"]) if curves else 0.0,
            "parameters": float(mlp.count_parameters(k)),
            "test/chance": chance,
        }
        results[number] = MemberResult(
            config=module.configs[k],
            outcome=outcome,
            cause=cause,
            curves=curves,
            metrics=metrics,
            diagnostics=module.diagnostics[k] | ({"final": finals[k]} if finals[k] else {}),
            weights=mlp.state_of(k),
            population={"size": len(order), "index": number},
            device=str(module.device),
            predictions=predicted_KN[k],
        )
    return [results[number] for number in range(len(order))]


def _chance(labels_N: torch.Tensor) -> float:
    """The share of the most frequent class: what the best one answer to every image reaches."""
    return int(torch.as_tensor(labels_N).bincount().max()) / len(labels_N)


def _lacking(module: PopulationModule) -> list[Metrics]:
    """What a member's last row lacks, if it diverged in mid-epoch or ended between validations: measured at the end."""
    found: list[Metrics] = [{} for _ in module.configs]
    for part in ("train", "val"):
        if all(rows and f"{part}/accuracy" in rows[-1] for rows in module.curves):
            continue
        for k, row in enumerate(module.evaluate(part)[0]):
            found[k] |= row
    return found


def _outcome(module: PopulationModule, k: int, metrics: Metrics) -> tuple[str, str | None]:
    """How member k ended, and why; a network whose loss is no number has diverged, whoever noticed first."""
    if k in module.ended:
        return module.ended[k].outcome, module.ended[k].cause
    bad = [name for name in ("val/loss", "test/loss") if not math.isfinite(metrics[name])]
    return ("diverged", f"{bad[0]} became {metrics[bad[0]]} after the last step") if bad else ("completed", None)


def step_flop(module: PopulationModule) -> float:
    """Floating-point operations in the matrix products of one step: forward, and backward twice as many."""
    weights: int = sum(weight_KOI.numel() for weight_KOI in module.mlp.weights)
    return 6.0 * module.feed.sizes.batch * weights


@contextlib.contextmanager
def arithmetic(module: PopulationModule) -> Iterator[None]:
    """The CPU's threads, its memory, and denormal numbers flushed: they slow saturated networks and change no accuracy.

    Only while training: the caller's own process may count on its own choices.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(module.configs[0].trainer.threads or (1 if step_flop(module) < FEW_FLOP else before))
    torch.set_flush_denormal(True)
    try:
        with freed_memory_kept():
            yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Lightning without its notes on choices that were made here on purpose."""
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
