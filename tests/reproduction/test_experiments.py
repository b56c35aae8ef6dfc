"""The five sources' files: variants compose to their source's recipe, claims are about something that exists."""

from __future__ import annotations

import json
from functools import lru_cache

import pytest

from mlp_study.config.composing import compose, with_variant
from mlp_study.config.schema import RunConfig
from mlp_study.errors import ConfigError
from mlp_study.factors.diagnostics import DIAGNOSTICS
from mlp_study.reproduction import experiments
from mlp_study.reproduction.experiments import configs_of, load_experiments

REAL = lru_cache(lambda name: configs_of(FOUND[name], [], 2))
FOUND = {e.name: e for e in load_experiments()}
SOURCES = {  # data, widths, optimizer, lr, batch, epochs, of the first variant: sources.md's table
    "raw_relu": ("mnist", [100], "sgd", 0.01, 100, 15),
    "clipped_fashion": ("fashion_mnist", [128, 128], "adam", 0.001, 32, 20),
    "numpy_relu": ("mnist", [50], "sgd", 3.0, "full", 300),
    "fashion_activations": ("fashion_mnist", [128, 64], "adam", 0.001, 32, 10),
    "sixteen_units": ("mnist", [16], "adam", 0.001, 1000, 10),
}


def test_the_five_sources_are_there() -> None:
    assert set(FOUND) == set(SOURCES)


@pytest.mark.parametrize("name", SOURCES)
def test_variants_follow_their_sources_recipe(name: str) -> None:
    configs = REAL(name)
    first = next(iter(configs.values()))[0]
    data, model, optimizer = first.data, first.model, first.optimizer
    recipe = (data.name, model.widths, optimizer.name, optimizer.options["lr"], data.batch_size)
    assert (*recipe, first.trainer.max_epochs) == SOURCES[name]
    assert data.validation == "test"
    for variant, members in configs.items():
        assert [c.seed for c in members] == [0, 1]
        assert all(c.experiment == {"name": name, "variant": variant} for c in members)
        if name != "numpy_relu":  # Keras's own
            assert (members[0].init.name, members[0].init.options["bias"]) == ("glorot_uniform", "zeros")
        if members[0].optimizer.name == "adam":
            assert members[0].optimizer.options["eps"] == 1e-7
    ids = [c.run_id for members in configs.values() for c in members]
    assert len(set(ids)) == len(ids), "no two variants are the same"


@pytest.mark.parametrize("name", SOURCES)
def test_the_digits_version_composes(name: str) -> None:
    for members in configs_of(FOUND[name], ["data=digits"], 1).values():
        assert members[0].data.name == "digits"


@pytest.mark.parametrize("name", SOURCES)
def test_claims_are_about_numbers_that_are_measured(name: str) -> None:
    configs = REAL(name)
    for claim in FOUND[name].claims:
        head, _, rest = claim.metric.partition("/")
        if head in ("initial", "final") and rest != "gradient_error":
            probe = "sharpness" if rest == "stability_index" else rest
            assert probe in DIAGNOSTICS
            for variant in {v for case in claim.cases.values() for v in case}:
                assert probe in configs[variant][0].probes.ends, (claim.id, variant)


def test_a_run_does_not_carry_its_sources_claims() -> None:
    plain = RunConfig.from_dict(compose(["+experiment=raw_relu"])).to_dict()
    assert "stability" not in json.dumps(plain["experiment"])


def test_the_first_variant_is_taken_and_the_users_settings_win() -> None:
    assert compose(["+experiment=raw_relu"])["experiment"]["variant"] == "relu_raw"
    plain = compose(["+experiment=raw_relu", "experiment.variant=relu_unit", "activation=tanh", "trainer.max_epochs=2"])
    assert (plain["activation"]["name"], plain["data"]["scale"]) == ("tanh", "unit")
    assert plain["trainer"]["max_epochs"] == 2


def test_expanding_twice_changes_nothing() -> None:
    once = with_variant(["+experiment=numpy_relu", "experiment.variant=relu_3", "data=digits", "seed=3"])
    assert compose(once) == compose(with_variant(once))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+experiment=raw_relu", "experiment.variant=relu_unti"], "did you mean 'relu_unit'"),
        (["+experiment=raw_relu", "experiment.variant=relu_raw,relu_unit"], "a run takes one variant"),
        (["+experiment=raw_rely"], "did you mean 'raw_relu'"),
    ],
)
def test_what_does_not_exist_is_named(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(overrides)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"figures": ["pie"]}, "learning_curves"),
        ({"claims": [{"cases": {"a": "nobody"}}]}, "nobody"),
        ({"claims": [{"cases": {"a": ["v", "v", "v"]}}]}, "takes one variant or two"),
        ({"claims": [{"range": [1, 0]}]}, "empty range"),
        ({"claims": [{}, {}]}, "same id"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(
    change: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = {
        "id": "c",
        "text": "t",
        "where": "w",
        "metric": "epochs",
        "published": 1,
        "range": [0, 1],
        "cases": {"a": "v"},
    }
    node = {"name": "raw_relu", "title": "t", "source": "s", "question": "q", "variants": {"v": []}, "claims": [{}]}
    node |= change
    node["claims"] = [{**claim, **part} for part in node["claims"]]
    monkeypatch.setattr(experiments, "experiment", lambda name: node)
    with pytest.raises(ConfigError, match=message):
        load_experiments("raw_relu")
