"""The typed config: what is refused, what a run's identity depends on, and that every YAML file composes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mlp_study.config import schema as config_module
from mlp_study.config.composing import compose, experiment, with_variant, yaml_choices
from mlp_study.config.schema import GROUPS, SECTIONS, RunConfig, described_settings, indifferent_settings
from mlp_study.config.shipped import group_folder, shipped
from mlp_study.errors import ConfigError, StudyError
from mlp_study.factors.table import Option
from tests.small_runs import config

DEFAULT = RunConfig.from_dict(compose([]))


def changed(key: str, value: Any, base: RunConfig = DEFAULT) -> RunConfig:
    """``base`` with one dotted key set."""
    values = base.to_dict()
    *path, last = key.split(".")
    node = values
    for part in path:
        node = node[part]
    node[last] = value
    return RunConfig.from_dict(values)


def fields() -> list[tuple[str, dataclasses.Field[Any]]]:
    """Every setting outside the factors: dotted key and field."""
    sections = {"": RunConfig, "data.": config_module.DataConfig, **{f"{n}.": s for n, s in SECTIONS.items()}}
    return [
        (prefix + f.name, f)
        for prefix, section in sections.items()
        for f in dataclasses.fields(section)
        if "check" in f.metadata and f.name not in ("options", "experiment")
    ]


OTHER = {
    "data.batch_size": 7,
    "data.validation": "test",
    "model.widths": [3, 3],
    "model.norm": "layer",
    "trainer.precision": "64",
    "trainer.progress": True,
    "probes.ends": ["dead"],
    "probes.epochs": ["dead"],
    "probes.steps": [3],
    "early_stopping.patience": 3,
    "wandb.tags": ["a"],
    "shard": "1/2",
}


def other_value(key: str, option: Option) -> Any:
    """A value that the setting takes and that is not its default."""
    if key in OTHER:
        return OTHER[key]
    if option.choices:
        return next(choice for choice in option.choices if choice != option.default)
    if option.type is bool:
        return not option.default
    if option.type is str:
        return "elsewhere"
    if option.type is float:
        return 0.3 if option.default != 0.3 else 0.2
    return 2 if option.default != 2 else 3


@pytest.mark.parametrize(("key", "field"), fields(), ids=[key for key, _ in fields()])
def test_the_run_id_changes_with_what_determines_the_result_and_with_nothing_else(
    key: str, field: dataclasses.Field[Any]
) -> None:
    other = changed(key, other_value(key, field.metadata["option"]))
    assert other != DEFAULT
    assert (other.run_id != DEFAULT.run_id) == field.metadata["result"]


def test_what_only_watches_or_places_a_run_is_no_part_of_its_identity() -> None:
    """The list is written out: a setting that lands here by mistake makes different runs look equal."""
    watching = {key for key, f in fields() if not f.metadata["result"]}
    assert watching == {
        *("data.root", "trainer.accelerator", "trainer.threads", "trainer.log_every_n_steps"),
        *("trainer.checkpoint", "trainer.progress"),
        *("probes.ends", "probes.epochs", "probes.every", "probes.steps", "probes.images"),
        *("wandb.mode", "wandb.project", "wandb.entity", "wandb.group", "wandb.tags"),
        *("resume", "save", "sweep_dir", "dry_run", "retry_failed", "max_memory", "max_members", "report", "shard"),
    }


def test_settings_that_change_no_result_are_known_by_their_keys() -> None:
    found = indifferent_settings()
    assert (
        {"trainer.threads", "data.root", "wandb.mode", "probes.ends", "save"}
        <= found
        <= {key for key, _ in described_settings()}
    )
    assert not found & {"seed", "experiment", "data.scale", "trainer.precision"}


@pytest.mark.parametrize("kind", GROUPS)
def test_every_choice_and_every_option_of_a_factor_has_an_identity_of_its_own(kind: str) -> None:
    seen = {}
    for name, entry in GROUPS[kind].items():
        plain = config(f"{kind}={name}")
        seen[plain.run_id] = f"{kind}={name}"
        for key, option in entry.options.items():
            other = changed(f"{kind}.{key}", other_value(f"{kind}.{key}", option), plain)
            seen[other.run_id] = f"{kind}={name} {kind}.{key}"
    expected = sum(1 + len(entry.options) for entry in GROUPS[kind].values())
    assert len(seen) == expected


def test_the_run_id_does_not_depend_on_how_a_number_is_written() -> None:
    ids = {config(f"optimizer.lr={text}", "data.gain=1", "seed=0").run_id for text in ("0.001", "1e-3", "1.0e-3")}
    assert len(ids) == 1
    assert ids == {config("optimizer.lr=0.001", "data.gain=1.0").run_id}


def test_the_run_id_is_the_same_in_every_process_and_version() -> None:
    """A recorded constant: if it changes, finished sweeps no longer resume, and a changelog entry must say so."""
    assert DEFAULT.run_id == "54c3642b68c64acb"


def test_the_plain_form_is_what_dataclasses_make_of_it_and_shares_nothing() -> None:
    found = config("optimizer=adam", "probes.steps=[3,5]")
    expected = dataclasses.asdict(found)
    for name in GROUPS:
        expected[name] = {**expected[name].pop("options"), **expected[name]}
    plain = found.to_dict()
    assert plain == expected
    plain["model"]["widths"].append(1)
    plain["probes"]["steps"].clear()
    assert found.to_dict() == expected


def test_a_folder_of_ones_own_images_is_part_of_the_identity(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    own = config("data=idx", f"data.root={tmp_path}/a")
    assert own.run_id != config("data=idx", f"data.root={tmp_path}/b").run_id
    monkeypatch.chdir(tmp_path)
    assert own.run_id == config("data=idx", "data.root=a").run_id


NUMBERS = st.one_of(st.integers(-3, 10**6), st.floats(allow_nan=True, allow_infinity=True))
ANYTHING = st.one_of(NUMBERS, st.text(max_size=5), st.none(), st.booleans(), st.lists(st.integers(-1, 4), max_size=3),
                     st.dictionaries(st.text(max_size=3), st.integers(), max_size=2))  # fmt: skip
KEYS = [key for key, _ in described_settings()]
FACTOR_KEYS = [f"{kind}.{key}" for kind in ("optimizer", "init", "loss") for key in DEFAULT.to_dict()[kind]]


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.sampled_from([*KEYS, *FACTOR_KEYS, *GROUPS, *SECTIONS]), ANYTHING), min_size=1, max_size=3)
)
def test_whatever_is_set_is_taken_whole_or_refused_in_one_line(pairs: list[tuple[str, Any]]) -> None:
    values = DEFAULT.to_dict()
    for key, value in pairs:
        *path, last = key.split(".")
        node = values
        for part in path:
            node = node[part] if isinstance(node, dict) else {}
        if isinstance(node, dict):
            node[last] = value
    try:
        found = RunConfig.from_dict(values)
    except StudyError as error:
        text = str(error)
    else:
        text, again = "", RunConfig.from_dict(found.to_dict())
        assert again == found
        assert again.run_id == found.run_id
        assert RunConfig.from_dict(yaml.safe_load(yaml.safe_dump(found.to_dict()))) == found
    assert "\n" not in text
    assert not text or any(key.split(".")[0] in text for key, _ in pairs), "it names what is wrong"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seed=1.5"], "seed=1.5 is not valid; it takes a whole number in [0, 9223372036854775807]"),
        (["seed=true"], "seed=True is not valid"),
        (["model.widths=[]"], "model.widths=[] is not valid; it takes a list of at least one layer width"),
        (["model.widths=[10,0]"], "model.widths=0 is not valid; it takes a whole number in [1, inf)"),
        (["model.widths=100"], "model.widths=100 is not valid"),
        (["data.batch_size=0"], "data.batch_size=0 is not valid; it takes a whole number in [1, inf) or full"),
        (["data.batch_size=all"], "data.batch_size=all is not valid"),
        (["data.validation=0"], "data.validation=0 is not valid; it takes a fraction in (0, 1) or test"),
        (["optimizer.lr=0"], "optimizer.lr=0 is not valid; it takes a number in (0, inf)"),
        (["optimizer.lr=.inf"], "optimizer.lr=inf is not valid"),
        (["optimizer.lr=.nan"], "optimizer.lr=nan is not valid"),
        (["data.gain=-1"], "data.gain=-1 is not valid"),
        (["trainer.max_epochs=0"], "trainer.max_epochs=0 is not valid"),
        (["trainer.precision=16"], "trainer.precision=16 is unknown"),
        (["probes.ends=[ded]"], "probes.ends='ded' is unknown; did you mean 'dead'?"),
        (["wandb.tags=a"], "wandb.tags=a is not valid; it takes a list of names"),
        (["optimizer=muon", "model.widths=[8,1]"], "optimizer=muon"),
    ],
)
def test_impossible_values_name_the_option(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        config(*overrides)
    assert str(error.value).startswith(message)


def test_a_config_is_checked_whatever_its_shape() -> None:
    for values in ({}, {"activation": 3}, {"data": 3}, {"activation": ["relu"]}, {"wandb": None}, {"seed": {}}):
        with pytest.raises(ConfigError):
            RunConfig.from_dict({**DEFAULT.to_dict(), **values} if values else {})


# --- every YAML file composes ---------------------------------------------------------------------------------------

EXPERIMENTS = [(name, variant) for name in yaml_choices("experiment") for variant in experiment(name)["variants"]]


def test_the_five_sources_are_there() -> None:
    five = {"raw_relu", "clipped_fashion", "numpy_relu", "fashion_activations", "sixteen_units"}
    assert five <= set(yaml_choices("experiment"))


@pytest.mark.parametrize(("name", "variant"), EXPERIMENTS)
def test_every_experiment_composes_in_every_variant(name: str, variant: str) -> None:
    found = RunConfig.from_dict(compose([f"+experiment={name}", f"experiment.variant={variant}", "seed=7"]))
    assert found.experiment == {"name": name, "variant": variant}
    assert found.data.name in ("mnist", "fashion_mnist")
    assert found.seed == 7, "the user's own overrides win"


@pytest.mark.parametrize("name", yaml_choices("experiment"))
def test_every_experiment_composes_on_digits_and_without_a_variant_is_its_first_one(name: str) -> None:
    found = RunConfig.from_dict(compose([f"+experiment={name}", "data=digits"]))
    assert found.data.name == "digits"
    assert found.experiment["variant"] == next(iter(experiment(name)["variants"]))


def test_overrides_without_an_experiment_stay_as_they_are() -> None:
    assert with_variant(["activation=relu"]) == ["activation=relu"]
    with pytest.raises(ConfigError, match=r"experiment.variant='relu_rw' is unknown; did you mean 'relu_raw'"):
        compose(["+experiment=raw_relu", "experiment.variant=relu_rw"])


def test_beside_an_experiment_of_ones_own_an_unknown_key_is_named_and_not_the_experiment(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 3\n")
    own = [f"hydra.searchpath=['file://{tmp_path}']", "+experiment=mine"]
    assert compose(own)["seed"] == 3
    with pytest.raises(ConfigError, match=r"^seeed: no such option"):
        compose([*own, "seeed=1"])
    with pytest.raises(ConfigError, match=r"^experiment='min' is unknown"):
        compose([*own[:1], "+experiment=min"])


@pytest.mark.parametrize("name", yaml_choices("sweeps"))
def test_every_sweep_file_composes_and_asks_a_question(name: str) -> None:
    sweep = f"+sweeps={name}"
    RunConfig.from_dict(compose([sweep]))
    text = (shipped("sweeps") / f"{name}.yaml").read_text()
    questions = [line for line in text.splitlines()[:4] if line.startswith("#") and "?" in line]
    assert questions, "its first line is the question"


def test_the_sources_recipes_are_what_sources_md_says() -> None:
    def of(name: str, variant: str) -> RunConfig:
        return RunConfig.from_dict(compose([f"+experiment={name}", f"experiment.variant={variant}"]))

    first = {name: of(name, next(iter(experiment(name)["variants"]))) for name in yaml_choices("experiment")}
    raw = first["raw_relu"]
    assert (raw.data.name, raw.model.widths, raw.data.batch_size, raw.trainer.max_epochs) == ("mnist", [100], 100, 15)
    assert (raw.optimizer.name, raw.optimizer.options["lr"], raw.init.name) == ("sgd", 0.01, "glorot_uniform")
    clipped = first["clipped_fashion"]
    assert (clipped.data.name, clipped.model.widths, clipped.data.batch_size) == ("fashion_mnist", [128, 128], 32)
    assert (clipped.optimizer.name, clipped.optimizer.options["eps"]) == ("adam", 1e-7)
    assert (clipped.early_stopping.patience, clipped.data.validation) == (3, "test")
    assert first["numpy_relu"].data.batch_size == "full"
    fashion = first["fashion_activations"]
    assert (fashion.model.widths, fashion.trainer.max_epochs, fashion.data.scale) == ([128, 64], 10, "unit")
    sixteen = first["sixteen_units"]
    assert (sixteen.model.widths, sixteen.data.batch_size, sixteen.trainer.max_epochs) == ([16], 1000, 10)


PRESETS = [(group, name) for group in (*GROUPS, "trainer") for name in yaml_choices(group)]


@pytest.mark.parametrize(("group", "name"), PRESETS)
def test_every_preset_composes_and_says_what_it_is(group: str, name: str) -> None:
    RunConfig.from_dict(compose([f"{group}={name}"]))
    first = (group_folder(group) / f"{name}.yaml").read_text().splitlines()[0]
    assert first.startswith("# "), "its first line is what --help prints"


def test_a_presets_numbers_are_its_own_and_its_other_options_can_be_set() -> None:
    found = RunConfig.from_dict(compose(["optimizer=adam_keras", "optimizer.weight_decay=0.5"])).optimizer
    assert (found.name, found.options["eps"], found.options["weight_decay"]) == ("adam", 1e-7, 0.5)
    plain = RunConfig.from_dict(compose(["optimizer=adam"]))
    assert RunConfig.from_dict(compose(["optimizer=adam_keras"])).run_id == plain.run_id, "the same numbers, one run"
    with pytest.raises(ConfigError, match=r"optimizer.bta1: no such option with optimizer=adam; did you mean"):
        compose(["optimizer=adam_keras", "optimizer.bta1=1"])
    with pytest.raises(ConfigError, match=r"optimizer='adam_kera' is unknown; did you mean 'adam_keras'"):
        compose(["optimizer=adam_kera"])
