"""Each sentence of an answer is true of its table: read back from its words and recomputed, on 200 random sweeps."""

from __future__ import annotations

import itertools
import math
import random
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy.stats import f_oneway, ttest_ind

from mlp_study.reporting.analysis import analysed
from mlp_study.reporting.answer import answer_of
from mlp_study.reporting.study import Study

LEVELS: dict[str, list[Any]] = {
    "activation": ["relu", "tanh", "sigmoid", "gelu"],
    "data.scale": ["none", "unit", "standard"],
    "optimizer.lr": [0.001, 0.01, 0.1, 1.0],
    "data.gain": [1 / 255, 0.01, 1.0],
}
CHANCE = 0.1


def random_sweep(seed: int) -> pd.DataFrame:
    """Main effects, an interaction, noise of some size, failures, ties, values that are missing."""
    source = random.Random(seed)
    factors = source.sample(list(LEVELS), source.randint(1, 3))
    levels = {key: LEVELS[key][: source.randint(2, len(LEVELS[key]))] for key in factors}
    seeds, noise, ties = source.choice([1, 1, 2, 3, 5]), source.choice([0.001, 0.01, 0.05]), source.random() < 0.3
    effects = {(key, v): source.choice([0, 0, 0.03, 0.1]) for key in factors for v in levels[key]}
    rows = []
    for values in itertools.product(*levels.values()):
        fails = source.random() < source.choice([0, 0.1, 0.5])
        level = 0.8 + sum(effects[key, v] for key, v in zip(factors, values, strict=True)) / 3
        for s in range(seeds):
            drawn = level if ties else min(level + source.gauss(0, noise), 1.0)
            accuracy = CHANCE + source.random() * 0.05 if fails and source.random() < 0.8 else drawn
            lost = source.random() < 0.03
            outcome = "diverged" if lost else "completed"
            own = dict(zip(factors, values, strict=True)) | {"seed": s, "data": "digits", "outcome": outcome}
            own |= {"test/accuracy": math.nan if lost else accuracy, "test/chance": CHANCE, "final/dead_0": 0.9 * fails}
            rows.append({"run_id": f"{len(rows)}", "folder": f"/nowhere/{len(rows)}", **own})
    source.shuffle(rows)
    return pd.DataFrame(rows[: len(rows) - 3] if len(rows) > 12 and source.random() < 0.3 else rows)


class Table:
    """What the sentences are checked against, by pandas from the rows alone."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self.rows = rows.copy()
        self.factors = [key for key in LEVELS if key in rows and rows[key].nunique() > 1]
        self.rows["combination"] = [
            " · ".join(self.worded(key, row[key]) for key in self.factors) or "all runs" for _, row in rows.iterrows()
        ]
        means = self.rows.groupby("combination")["test/accuracy"].mean()
        accuracy = self.rows["test/accuracy"]
        learnt = (accuracy >= CHANCE + 0.1 * (1 - CHANCE)) & (accuracy >= 0.5 * means.max())
        self.rows["failed"] = (self.rows["outcome"] == "diverged") | ~learnt
        self.groups = self.rows.groupby("combination")
        self.means, self.sizes = means, self.groups.size()
        self.failing = list(self.sizes.index[self.groups["failed"].mean() > 0.5])

    @staticmethod
    def worded(key: str, value: Any) -> str:
        if isinstance(value, str):
            return value
        return f"{key.rpartition('.')[2]} {'1/255' if value == 1 / 255 else f'{value:g}'}"

    def changed(self, combination: str, key: str, value: str) -> str:
        """The combination after a change of one factor, as its label."""
        parts = combination.split(" · ")
        texts = {f"{v:g}" if not isinstance(v, str) else v: v for v in LEVELS[key]}
        parts[self.factors.index(key)] = self.worded(key, texts[value])
        return " · ".join(parts)


def number(text: str) -> float:
    return float(text)


def check(sentence: str, table: Table) -> None:
    """Fail if the sentence is not true, or of a form that nobody has checked."""
    for form, holds in FORMS.items():
        if found := re.fullmatch(form, sentence):
            holds(table, *found.groups())
            return
    raise AssertionError(f"no check of: {sentence}")


def over(table: Table, runs: str, combinations: str, low: str, high: str | None) -> None:
    assert (int(runs), int(combinations)) == (len(table.rows), len(table.sizes))
    assert (int(low), int(high or low)) == (table.sizes.min(), table.sizes.max())


def worst(table: Table, count: str | None, total: str | None, name: str, mechanism: str, level: str, rest: str) -> None:
    if count is None:
        assert len(table.failing) == 1
    else:
        assert (int(count), int(total)) == (len(table.failing), len(table.sizes))
    assert name in table.failing
    own = table.groups.get_group(name)
    if level:
        assert f"{own['test/accuracy'].mean():.3f}" == level.removeprefix(", accuracy ")
    share = table.groups["failed"].mean()
    assert share[name] == share.max()
    if mechanism == "diverged":
        assert (own["outcome"] == "diverged").any()
    cures(table, name, rest)


def learners(table: Table, name: str) -> dict[str, float]:
    """Combinations that differ from this one in one factor and of which no run fails, with their means."""
    parts = name.split(" · ")
    found = {}
    for other, mean in table.means.items():
        differ = sum(a != b for a, b in zip(parts, str(other).split(" · "), strict=True))
        if differ == 1 and not table.groups.get_group(other)["failed"].any():
            found[str(other)] = mean
    return found


def cures(table: Table, name: str, rest: str) -> None:
    learn = learners(table, name)
    if rest == "no single change that was run makes it learn":
        assert not learn
        return
    key, value, level = re.fullmatch(r"with ([\w.]+)=(\S+) it learns, (\d\.\d{3})", rest).groups()
    other = table.changed(name, key, value)
    assert other in learn
    assert f"{learn[other]:.3f}" == level == f"{max(learn.values()):.3f}"


def failures(table: Table, count: str) -> None:
    assert int(count) == table.rows["failed"].sum() > 0


def failures_none(table: Table) -> None:
    assert not table.rows["failed"].any()


def named_failures(table: Table, count: str, rest: str) -> None:
    failures(table, count)
    more = re.search(r" and (\d+) more combinations?$", rest)
    entries = re.findall(r"([\w.]+=[^()]+?|all runs) \(([a-z ]+) in (\d+): (?:accuracy ([\d.]+)|no accuracy)", rest)
    assert len(entries) + (int(more[1]) if more else 0) == len(table.failing)
    for words, _, n, level in entries:
        parts = dict(part.split("=") for part in words.split(", ") if "=" in part)
        own = table.rows
        for key, value in parts.items():
            own = own[[(f"{v:g}" if not isinstance(v, str) else v) == value for v in own[key]]]
        assert set(own["combination"]) <= set(table.failing)
        assert own["combination"].nunique() == 1
        assert int(n) <= own["failed"].sum()
        if level:
            assert f"{own['test/accuracy'].mean():.3f}" == level


def best(table: Table, name: str, level: str, _deviation: str | None, n: str) -> None:
    assert f"{table.means.max():.3f}" == f"{table.means[name]:.3f}" == level
    assert sum(f"{mean:.3f}" == level for mean in table.means) == 1
    assert int(n) == table.groups.get_group(name)["test/accuracy"].count()


def tied(table: Table, level: str, names: str, more: str | None) -> None:
    alike = [name for name, mean in table.means.items() if f"{mean:.3f}" == level]
    assert f"{table.means.max():.3f}" == level
    said = re.split(r", | and ", names)
    assert set(said) <= set(alike)
    assert len(said) + int(more or 0) == len(alike) > 1


def close(table: Table, count: str, name: str) -> None:
    several = {key: own["test/accuracy"].dropna() for key, own in table.groups}
    several = {key: values for key, values in several.items() if values.std() > 1e-9}
    assert table.means[name] == max(table.means[key] for key in several)
    within = [
        key for key, v in several.items() if key != name and ttest_ind(v, several[name], equal_var=False).pvalue >= 0.05
    ]
    assert len(within) == int(count)


def one_seed(table: Table) -> None:
    assert table.sizes.max() == 1


def squares(table: Table, keys: list[str]) -> float:
    known = table.rows.dropna(subset=["test/accuracy"])
    y = known["test/accuracy"]
    between = sum(len(own) * (own.mean() - y.mean()) ** 2 for _, own in known.groupby(keys)["test/accuracy"])
    return between / ((y - y.mean()) ** 2).sum()


def matters(table: Table, rest: str) -> None:
    """Of balanced sweeps the shares are those of the classical analysis of variance; nothing explains more than all."""
    chance_known = not rest.endswith(", chance included")
    assert chance_known == (table.sizes.max() > 1)
    found = {}
    first = re.match(r"(.+?) matters most: (?:alone it|their interaction) explains (\d+)%", rest)
    found[first[1].replace(" together with ", " with ")] = int(first[2])
    found |= {key: int(v) for key, v in re.findall(r"[(,] ?([\w.]+(?: with [\w.]+)?) (\d+)%", rest)}
    assert list(found.values()) == sorted(found.values(), reverse=True)
    known = table.rows.dropna(subset=["test/accuracy"])
    full = math.prod(known[key].nunique() for key in table.factors)
    balanced = known.groupby(table.factors).size()
    if len(balanced) < full or balanced.nunique() > 1:
        return
    n, cells = len(known), len(balanced)
    noise = (1 - squares(table, table.factors)) / (n - cells) if chance_known else 0.0
    for name, part in found.items():
        keys = name.split(" with ")
        freedom = math.prod(known[key].nunique() - 1 for key in keys)
        gained = squares(table, keys) - (sum(squares(table, [key]) for key in keys) if len(keys) > 1 else 0.0)
        assert 100 * max(0.0, gained - freedom * noise) == pytest.approx(part, abs=0.51)


def nothing_matters(table: Table) -> None:
    assert table.sizes.max() > 1
    if len(table.factors) == 1 and table.sizes.min() > 1:
        known = table.rows.dropna(subset=["test/accuracy"])
        assert f_oneway(*[own["test/accuracy"] for _, own in known.groupby(table.factors[0])]).pvalue >= 0.05


LEVEL = r"accuracy (\d\.\d{3})( ± \d\.\d{3})?, n = (\d+)"
FORMS = {
    r"Over (\d+) runs? on digits: (\d+) combinations?, n = (\d+)(?: to (\d+))? seeds? each": over,
    r"(?:(\d+) of (\d+) combinations fail; the worst, )(.+), ([a-z ]+?)(, accuracy \d\.\d{3}|); (.*)": worst,
    r"()()(.+) fails: ([a-z ]+?)(, accuracy \d\.\d{3}|); (.*)": lambda table, _a, _b, *more: worst(
        table, None, None, *more
    ),
    r"[Nn]o run fails": failures_none,
    r"No run falls below 50% of the best accuracy": failures_none,
    r"(\d+) runs? fails?": failures,
    r"(\d+) runs? fails?, in no combination most of them": failures,
    r"(\d+) runs? fails?: (.*)": named_failures,
    rf"[Bb]est is (.+) with {LEVEL}": best,
    r"[Bb]est, with accuracy (\d\.\d{3}) each, are (.+?)(?: and (\d+) more)?": tied,
    r"(\d+) other combinations? differs? from (.+) by no more than chance might \(Welch's t-test, p >= 0.05\)": close,
    r"With one run of each combination it cannot be known which differences are chance": one_seed,
    r"(.+ matters most: .*)": matters,
    r"No factor explains more of the test accuracy's variance than chance might \(p < 0.05\)": nothing_matters,
}


@pytest.mark.parametrize("seed", range(200))
def test_each_sentence_is_true_of_its_table(seed: int):
    rows = random_sweep(seed)
    records = [{k: v for k, v in row.items() if not pd.isna(v)} for row in rows.to_dict("records")]
    found = answer_of(
        analysed(Study("sweep", [Path("/nowhere")], runs=records, settings=dict.fromkeys([*LEVELS, "seed"])))
    )
    assert len(found.headline) <= 175  # two lines of a page 1,280 wide
    table = Table(rows)
    for sentence in [*re.split(r"; (?=best)", found.headline), *found.sentences]:
        check(sentence.removesuffix("."), table)
