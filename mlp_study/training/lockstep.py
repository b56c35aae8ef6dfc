"""Which runs can train together, and the order in which they stand in their population."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mlp_study.config.schema import RunConfig
from mlp_study.data.images import ImageSet
from mlp_study.errors import ConfigError
from mlp_study.runtime.devices import STEP_BYTES, on_gpu
from mlp_study.training.datamodule import PopulationData
from mlp_study.training.feed import stream_key


def shape_key(config: RunConfig) -> tuple[Any, ...]:
    """What members of one population share: tensor shapes, number of steps, arithmetic, times of being looked at."""
    data, model, trainer = config.data, config.model, config.trainer
    return (
        (data.name, tuple(sorted(data.options.items())), str(config.data_root), data.limit),
        (data.validation, data.batch_size, tuple(model.widths), model.norm),
        (trainer.max_epochs, trainer.validate_every, trainer.precision, trainer.accelerator),
        (trainer.threads, trainer.log_every_n_steps, config.probes.every, config.probes.images),
    )


def lockstep_data(configs: Sequence[RunConfig], images: ImageSet) -> PopulationData:
    """Make the data of one population of these configs, its members in ``lockstep_order``.

    Raises:
        ConfigError: the configs cannot train together.
    """
    if len({shape_key(c) for c in configs}) != 1:
        raise ConfigError("the members of one population must share data set, widths, batch size, epochs and precision")
    order = lockstep_order(configs, on_gpu(configs[0].trainer.accelerator) and rules_first_fits(configs, images))
    return PopulationData(configs, images, order=order)


def lockstep_order(configs: Sequence[RunConfig], rules_first: bool = False) -> list[int]:
    """Order members so that neighbours share a minibatch, then a loss, an optimizer, an activation.

    Each group of equal choices is one call, an optimizer's one for each parameter: within a choice the next one runs
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
    """Sort numbers by their choices, each group in the reverse of the order of the one before."""
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


def rules_first_fits(configs: Sequence[RunConfig], images: ImageSet) -> bool:
    """Whether a step leaves room for each member's own copy of its images, as ``rules_first`` may need.

    On a GPU that copy costs less than the calls it saves: in a grid of 5 activations, 4 optimizers, 4 scales and 50
    seeds they are 131 a step instead of 13,900. On a CPU, whose populations are small, it costs more.
    """
    batch, pixels = configs[0].data.sizes(images).batch, images.train_images_NI.shape[1]
    return 4 * len(configs) * batch * pixels <= STEP_BYTES
