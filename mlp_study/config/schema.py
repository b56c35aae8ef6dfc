"""The typed configuration of a run: what may be set, its range, its default, and the identity of a run.

One home per fact: a setting's default, range and meaning stand in its dataclass field below; a factor's choices and
options stand in its table. Hydra's config groups, `--help` and every check are derived from them, without torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from mlp_study.config.settings import (
    batch_size,
    diagnostics,
    experiment,
    mapping,
    names,
    precision,
    setting,
    shard,
    steps,
    validation,
    widths,
)
from mlp_study.data.images import DATASETS, ImageSet, Sizes, held_out
from mlp_study.errors import ConfigError, no_such_option, unknown
from mlp_study.factors.activations import ACTIVATIONS
from mlp_study.factors.initializers import INITIALIZERS
from mlp_study.factors.losses import LOSSES
from mlp_study.factors.normalizers import NORMALIZERS
from mlp_study.factors.optimizers import OPTIMIZERS, check_layers
from mlp_study.factors.schedules import SCHEDULES
from mlp_study.factors.table import Option, Table

FACTORS: Mapping[str, Table[Any]] = {
    "activation": ACTIVATIONS,
    "init": INITIALIZERS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}
GROUPS: Mapping[str, Table[Any]] = {**FACTORS, "data": DATASETS}
TABLES: Mapping[str, Mapping[str, Any]] = {**GROUPS, "data.scale": NORMALIZERS}  # all keys that choose from one


@dataclass(frozen=True)
class Choice:
    """One choice from a factor's table, with its options."""

    name: str
    options: dict[str, Any]


@dataclass(frozen=True)
class DataConfig:
    """The images, how they are split, scaled and fed."""

    name: str
    options: dict[str, Any] = setting({}, check=mapping)
    root: str | None = setting(None, doc="folder of the data sets", type=str, optional=True, result=False)
    scale: str = setting("unit", doc="how pixels are scaled", choices=tuple(NORMALIZERS))
    gain: float = setting(1.0, "(0, inf)", "final multiplier of the scaled pixels")
    batch_size: int | Literal["full"] = setting(32, doc="images in a minibatch, or full", check=batch_size)
    validation: float | Literal["test"] = setting(0.1, doc="fraction of the training images, or test", check=validation)
    limit: int | None = setting(None, "[1, inf)", "train on the first images only; null: all", type=int, optional=True)
    split_seed: int | None = setting(
        None, "[0, 9223372036854775807]", "seed of the split; null: the run's", type=int, optional=True
    )

    def sizes(self, images: ImageSet) -> Sizes:
        """How large a training on these images is; raises DataError if none are left to train on."""
        total = len(images.train_labels_N)
        held = held_out(total, self.validation)
        train = min(total - held, self.limit or total)
        batch = train if self.batch_size == "full" else min(int(self.batch_size), train)
        return Sizes(train, held or len(images.test_labels_N), batch)


@dataclass(frozen=True)
class ModelConfig:
    """The network between pixels and classes."""

    widths: list[int] = setting([100], doc="units of each hidden layer", check=widths)
    norm: str = setting("none", doc="normalization inside the network", choices=("none", "batch", "layer"))
    dropout: float = setting(0.0, "[0, 1)", "probability of dropping a hidden unit")


@dataclass(frozen=True)
class TrainerConfig:
    """How long, where and in what arithmetic."""

    max_epochs: int = setting(15, "[1, inf)", "passes over the training split")
    validate_every: int = setting(1, "[1, inf)", "epochs between validations")
    precision: str = setting("32", doc="32, 64 or bf16 arithmetic", check=precision)
    accelerator: str = setting("auto", doc="device", choices=("auto", "cpu", "gpu", "cuda", "mps"), result=False)
    threads: int | None = setting(
        None,
        "[1, 1024]",
        "CPU threads; null: torch's choice, one for small steps",
        type=int,
        optional=True,
        result=False,
    )
    log_every_n_steps: int = setting(50, "[1, inf)", "minibatches between logged losses", result=False)
    checkpoint: bool = setting(True, doc="write checkpoints to resume from", result=False)
    progress: bool | None = setting(
        None, doc="progress bar; null: on a terminal", type=bool, optional=True, result=False
    )


@dataclass(frozen=True)
class EarlyStoppingConfig:
    """Ends a member whose monitored value no longer improves; off unless ``patience`` is set."""

    patience: int | None = setting(
        None,
        "[0, inf)",
        "epochs, or validations if they are fewer, without improvement; null: off",
        type=int,
        optional=True,
    )
    monitor: str = setting(
        "val/loss", doc="watched value", choices=("val/loss", "val/accuracy", "train/loss", "train/accuracy")
    )
    min_delta: float = setting(0.0, "[0, inf)", "smallest change that counts as better")


@dataclass(frozen=True)
class ProbesConfig:
    """What is measured on the network besides loss and accuracy, and when; looking changes no result."""

    ends: list[str] = setting(
        ["preactivation", "sparsity", "dead", "dormant", "always_on", "saturated", "missed", "weight_norm"],
        doc="diagnostics at initialisation, after `steps` and at the end",
        check=diagnostics,
        result=False,
    )
    epochs: list[str] = setting(
        ["dead", "saturated"], doc="diagnostics at the end of epochs, on `images`", check=diagnostics, result=False
    )
    every: int = setting(1, "[1, inf)", "epochs between them", result=False)
    steps: list[int] = setting(
        [], doc="steps after which the diagnostics of `ends` are measured", check=steps, result=False
    )
    images: int = setting(256, "[1, inf)", "training images for what is not measured on all of them", result=False)


@dataclass(frozen=True)
class WandbConfig:
    """The Weights & Biases run of each member."""

    mode: str = setting(
        "auto", doc="auto: online if logged in", choices=("auto", "online", "offline", "disabled"), result=False
    )
    project: str = setting("mlp_study", doc="project", type=str, result=False)
    entity: str | None = setting(None, doc="user or team", type=str, optional=True, result=False)
    group: str | None = setting(None, doc="group of runs", type=str, optional=True, result=False)
    tags: list[str] = setting([], doc="tags", check=names, result=False)


@dataclass(frozen=True)
class RunConfig:
    """One run, checked. Build it with ``RunConfig.from_dict(compose([...]))``."""

    activation: Choice
    init: Choice
    loss: Choice
    optimizer: Choice
    schedule: Choice
    data: DataConfig
    model: ModelConfig
    trainer: TrainerConfig
    early_stopping: EarlyStoppingConfig
    probes: ProbesConfig
    wandb: WandbConfig
    seed: int = setting(0, "[0, 9223372036854775807]", "weights, minibatch order and split")
    experiment: dict[str, Any] = setting({}, check=experiment, result=False)
    resume: str | None = setting(
        None, doc="folder of an interrupted run to continue", type=str, optional=True, result=False
    )
    save: str = setting(
        "auto",
        doc="models and figures to keep; auto: all of a run, the models of a sweep of up to 1000, else the best one",
        choices=("auto", "all", "models", "best", "none"),
        result=False,
    )
    sweep_dir: str | None = setting(
        None, doc="folder of the sweep; the same again resumes it", type=str, optional=True, result=False
    )
    shard: str | None = setting(
        None, doc="train share i of n of a sweep, such as 0/16; null: all", check=shard, optional=True, result=False
    )
    report: bool = setting(True, doc="write report.html at the end of a sweep", result=False)
    dry_run: bool = setting(False, doc="print a sweep's plan and train nothing", result=False)
    retry_failed: bool = setting(False, doc="train a sweep's failed runs again", result=False)
    max_memory: float | None = setting(
        None, "(0, inf)", "GB for a population; null: half of what is free", type=float, optional=True, result=False
    )
    max_members: int | None = setting(
        None,
        "[1, inf)",
        "runs trained together; null: what a CPU's caches hold, up to 256; 4096 on a GPU",
        type=int,
        optional=True,
        result=False,
    )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """The typed form of a composed config.

        Raises:
            ConfigError: an unknown key, choice or option, a wrong type, a value out of range, which it names.
        """
        sections = {f.name: f.type for f in dataclasses.fields(cls)}
        for key in values:
            if key not in sections:
                raise no_such_option(key, sections)
        built: dict[str, Any] = {name: _choice(name, values.get(name)) for name in FACTORS}
        built["data"] = _data(values.get("data"))
        for name, section in SECTIONS.items():
            built[name] = section(**_checked(section, f"{name}.", values.get(name, {})))
        root = {k: v for k, v in values.items() if k not in built}
        config = cls(**built, **_checked(cls, "", root))
        sizes = [2, *config.model.widths, 2]  # pixels and classes are several in every data set
        check_layers(config.optimizer.name, [(o, i) for i, o in pairwise(sizes)])
        return config

    def to_dict(self) -> dict[str, Any]:
        """The nested plain form, as Hydra composes it: ``from_dict(to_dict())`` is the same config."""
        plain: dict[str, Any] = _plain(self)
        for name in GROUPS:
            plain[name] = {**plain[name].pop("options"), **plain[name]}
        return plain

    def determining(self) -> dict[str, Any]:
        """The part of ``to_dict`` that determines the run's numbers."""
        plain = _determining(self, self.to_dict())
        if self.data.name == "idx":  # a folder of the user's own: its place is its identity
            plain["data"]["root"] = str(Path(self.data.root or data_root(None)).resolve())
        return plain

    @cached_property
    def run_id(self) -> str:
        """16 hexadecimal digits: SHA-256 of what determines the result, so equal ids mean equal runs.

        Equal to rounding: beside others a network's products may add up in another order, which a long training with a
        large learning rate can amplify to other digits of its accuracy.
        """
        text = json.dumps(self.determining(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def data_root(self) -> Path:
        """The folder of the data sets: ``data.root``, else the environment's MLP_STUDY_DATA, else ``data/``."""
        return data_root(self.data.root)


SECTIONS: Mapping[str, Any] = {
    "model": ModelConfig,
    "trainer": TrainerConfig,
    "early_stopping": EarlyStoppingConfig,
    "probes": ProbesConfig,
    "wandb": WandbConfig,
}
# What stands before a setting's name, and the dataclass that holds it, in the order of `--help`.
PREFIXES: Mapping[str, Any] = {"data.": DataConfig, **{f"{n}.": s for n, s in SECTIONS.items()}, "": RunConfig}


def data_root(root: str | None) -> Path:
    """The folder of the data sets: ``root`` if given, else the environment's MLP_STUDY_DATA, else ``data/``."""
    return Path(root if root is not None else os.environ.get("MLP_STUDY_DATA") or "data")


def options_of(entry: Any) -> Mapping[str, Option]:
    """The options of a table's entry by name."""
    return dict(entry.options)


def _node(kind: str, values: Any) -> dict[str, Any]:
    """A group's node: a mapping with a name, or the name alone."""
    if values is None or isinstance(values, str):
        return {"name": values}
    if not isinstance(values, Mapping):
        raise unknown(kind, values, GROUPS[kind])
    return {"name": None, **{str(key): value for key, value in values.items()}}


def _choice(kind: str, values: Any) -> Choice:
    """A factor's node, checked against its table."""
    node = _node(kind, values)
    name = node.pop("name")
    options = options_of(GROUPS[kind][name])
    for key in node:
        if key not in options:
            raise option_not_of(kind, name, key)
    return Choice(
        name, {key: option.check(f"{kind}.{key}", node.get(key, option.default)) for key, option in options.items()}
    )


def _data(values: Any) -> DataConfig:
    """The data node: the data set's own options beside the settings that every data set shares."""
    node = _node("data", values)
    own = options_of(DATASETS[node["name"]])
    choice = _choice("data", {k: v for k, v in node.items() if k == "name" or k in own})
    shared = {k: v for k, v in node.items() if k != "name" and k not in own}
    if "options" in shared:
        raise option_not_of("data", choice.name, "options")
    return DataConfig(name=choice.name, options=choice.options, **_checked(DataConfig, "data.", shared))


def option_not_of(kind: str, name: str, key: str) -> ConfigError:
    """The error for an option that the chosen entry does not have."""
    takes = [*options_of(GROUPS[kind][name]), *(_settings(DataConfig) if kind == "data" else ())]
    return no_such_option(f"{kind}.{key}", [f"{kind}.{option}" for option in takes], f" with {kind}={name}")


def _settings(section: Any) -> dict[str, dataclasses.Field[Any]]:
    return {f.name: f for f in dataclasses.fields(section) if "check" in f.metadata and f.name != "options"}


def _checked(section: Any, prefix: str, values: Any) -> dict[str, Any]:
    """Each value of a section through its field's check."""
    fields = _settings(section)
    if not isinstance(values, Mapping):
        raise ConfigError(f"{prefix.rstrip('.')}={values} is not valid; it takes the options {', '.join(fields)}")
    for key in values:
        if key not in fields:
            raise no_such_option(f"{prefix}{key}", [prefix + name for name in fields])
    return {key: fields[key].metadata["check"](prefix + key, value) for key, value in values.items()}


def _plain(value: Any) -> Any:
    """What ``dataclasses.asdict`` returns, three times as fast: a sweep asks often, and numbers need no copies."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    kind: Any = type(value)
    names = _field_names(kind)
    return value if names is None else {name: _plain(getattr(value, name)) for name in names}


@cache
def _field_names(kind: type) -> tuple[str, ...] | None:
    return tuple(f.name for f in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None


def _determining(section: Any, plain: dict[str, Any]) -> dict[str, Any]:
    """``plain`` without the settings marked as not changing a result."""
    kept = dict(plain)
    for f in dataclasses.fields(section):
        if not f.metadata.get("result", True):
            kept.pop(f.name, None)
        elif dataclasses.is_dataclass(child := getattr(section, f.name)):
            kept[f.name] = _determining(child, plain[f.name])
    return {key: value for key, value in kept.items() if value != {}}


def default_settings() -> dict[str, Any]:
    """Every setting outside the config groups with its default, nested as Hydra holds it."""

    def defaults(section: Any) -> dict[str, Any]:
        return {name: f.metadata["option"].default for name, f in _settings(section).items()}

    tree = defaults(RunConfig)
    tree["data"] = defaults(DataConfig)
    return tree | {name: defaults(section) for name, section in SECTIONS.items()}


def described_settings() -> Iterator[tuple[str, Option]]:
    """Every setting's dotted key and its option, for `--help`."""
    for prefix, section in PREFIXES.items():
        for name, f in _settings(section).items():
            yield prefix + name, f.metadata["option"]


@cache
def indifferent_settings() -> frozenset[str]:
    """The dotted keys of the settings that cannot change a result, such as ``trainer.threads``."""
    fields = ((prefix + f.name, f) for prefix, section in PREFIXES.items() for f in dataclasses.fields(section))
    return frozenset(key for key, f in fields if not f.metadata.get("result", True) and key != "experiment")
