"""Figures of a whole study: a table in, a figure out that shows its numbers, says its n, and can be read."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from mlp_study.figures.study import MOST_BARS, Estimate, combinations, importance_bars, phase_diagram, value_map
from mlp_study.figures.style import DPI, text_on
from tests.figures.test_figures import misplaced, texts_of

SCALES = ("none", "unit", "symmetric", "standard", "pixel_standard", "whiten_pca")
ACTIVATIONS = ("relu", "leaky_relu_mismatched", "sigmoid", "tanh")
RATES, GAINS = ("0.0001", "0.001", "0.01", "0.1", "1"), ("0.00392157", "0.01", "0.1", "1")
VALUE = "test accuracy (share of images)"


def grid(rows, columns, mark="") -> dict[tuple[str, str], Estimate]:
    cells = {}
    for i, (row, column) in enumerate(itertools.product(rows, columns)):
        mean = i / (len(rows) * len(columns) - 1)
        cells[row, column] = Estimate(mean, 0.01 * i, 5, mark if mean < 0.5 else "")
    return cells


def limit(rows, columns) -> dict[tuple[str, str], float]:
    """A stability index of 1 where gain times rate is 0.001."""
    return {(r, c): 1000 * float(r) * float(c) for r in rows for c in columns}


def named(count: int, length: int = 40) -> dict[str, Estimate]:
    words = f"{'activation, scale, ' * 9}"[:length]
    means = {f"{words} {i}": 0.1 * i - 0.2 for i in range(count)}
    return {name: Estimate(mean, 0.05, 3, low=mean - 0.124, high=mean + 0.124) for name, mean in means.items()}


LONG = [f"the_network_with_{i}_hidden_layers and what its source calls clipped, on raw pixels" for i in range(8)]
LONGER = [f"{name} {i}" for i in range(3) for name in LONG]
MANY = tuple(map(str, range(24)))
PHASE = ("data.gain", "optimizer.lr")
SHARES = [("activation x data.scale", 0.6), ("activation", 0.3), ("the rest", 0.1)]


def mapped(rows, columns, names, mark="") -> Figure:
    return value_map(grid(rows, columns, mark), rows, columns, names, VALUE)


CASES = {
    "a map": lambda: mapped(ACTIVATIONS, SCALES, ("activation", "data.scale"), "step too large"),
    "a column": lambda: mapped(("a", "b"), ("c",), ("experiment.variant", "data.scale")),
    "rates": lambda: mapped(GAINS, RATES, PHASE),
    "many": lambda: mapped(MANY[:6], MANY, ("a", "b")),
    "many of a long name": lambda: mapped(LONG, LONGER, ("a", "b"), "x y z"),
    "long names": lambda: mapped(LONG, LONG, ("experiment", "experiment.variant"), "step too large"),
    "a limit": lambda: phase_diagram(grid(GAINS, RATES), GAINS, RATES, PHASE, f"relu: {VALUE}", limit(GAINS, RATES)),
    "no limit": lambda: phase_diagram(grid(GAINS, RATES), GAINS, RATES, PHASE, VALUE),
    "intervals": lambda: combinations(named(9), "training less test accuracy (share of images)"),
    "too many": lambda: combinations(named(50), "epochs to validation accuracy 0.8"),
    "shares": lambda: importance_bars(SHARES, "test accuracy", 60),
}


def caption(figure: Figure) -> str:
    return figure.texts[-1].get_text().replace("\n", " ")


@pytest.mark.parametrize("name", CASES)
def test_no_text_lies_over_another_or_outside_and_the_caption_says_n(name):
    figure = CASES[name]()
    assert misplaced(figure) == []
    assert "n = " in caption(figure)


@pytest.mark.parametrize("name", [name for name in CASES if "map" in name or "many" in name or "long" in name])
def test_a_map_is_no_wider_than_a_screen(name):
    assert CASES[name]().get_size_inches()[0] * DPI <= 1600


def test_a_map_shows_each_cell_s_numbers_where_it_stands():
    cells = grid(ACTIVATIONS, SCALES, "dead units")
    del cells["tanh", "none"]
    cells["relu", "unit"] = Estimate(math.nan, math.nan, 0, "diverged")
    figure = value_map(cells, ACTIVATIONS, SCALES, ("activation", "data.scale"), VALUE)
    axes = figure.axes[0]
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    places = {key: (SCALES.index(key[1]), ACTIVATIONS.index(key[0])) for key in cells}
    assert set(shown) == set(places.values())
    assert shown[places["relu", "unit"]] == "–\nn = 0\ndiverged"
    for key, cell in cells.items():
        if cell.n:
            mean, n, *mark = shown[places[key]].split("\n")
            assert (mean, n) == (f"{cell.mean:.3f} ± {cell.deviation:.3f}", "n = 5")
            assert mark == ([cell.mark] if cell.mark else [])
    assert [label.get_text() for label in axes.get_yticklabels()] == list(ACTIVATIONS)
    assert [label.get_text() for label in axes.get_xticklabels()] == list(SCALES)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("data.scale", "activation")
    assert "n = 110 runs" in caption(figure)


def contrast(one: str | tuple[float, ...], other: str | tuple[float, ...]) -> float:
    """As WCAG 2.2 defines it."""

    def luminance(colour) -> float:
        linear = np.array([c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)])
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_every_cell_s_text_stands_out():
    axes = CASES["many"]().axes[0]
    image = axes.get_images()[0]
    for text in axes.texts:
        column, row = text.get_position()
        assert contrast(image.to_rgba(image.get_array()[row, column]), text.get_color()) >= 4.5


def test_text_is_the_one_that_stands_out_more():
    for colour in itertools.product((0.0, 0.25, 0.5, 0.75, 1.0), repeat=3):
        assert contrast(colour, text_on(colour)) >= 4.5


def test_a_phase_diagram_draws_the_limit_where_it_is():
    axes = CASES["a limit"]().axes[0]
    (lines,) = [found for found in axes.collections if hasattr(found, "levels")]
    (path,) = lines.get_paths()
    for column, row in path.vertices:  # between equally distant ticks the logarithm is linear
        rate, gain = (
            10 ** np.interp(at, range(len(t)), np.log10([float(v) for v in t]))
            for at, t in ((column, RATES), (row, GAINS))
        )
        assert rate * gain == pytest.approx(0.001, rel=0.05)
    assert axes.get_ylim()[0] < axes.get_ylim()[1]  # gains grow upwards
    np.testing.assert_allclose(axes.get_images()[0].get_array()[0], [i / 19 for i in range(5)])


@pytest.mark.parametrize("index", [None, {}, dict.fromkeys(itertools.product(GAINS, RATES), 0.5)])
def test_without_a_limit_inside_there_is_no_line(index):
    figure = phase_diagram(grid(GAINS, RATES), GAINS, RATES, ("a", "b"), VALUE, index)
    assert [found for found in figure.axes[0].collections if hasattr(found, "levels")] == []
    assert ("not recorded" in caption(figure)) == (index is None)


def test_maps_say_what_a_cell_pools():
    cells, names = grid(GAINS, RATES), ("data.gain", "optimizer.lr")
    for figure in (
        value_map(cells, GAINS, RATES, names, VALUE, ["optimizer", "model.norm"]),
        phase_diagram(cells, GAINS, RATES, names, VALUE, pooled=["optimizer", "model.norm"]),
    ):
        assert "averaged over optimizer, model.norm" in caption(figure)
        assert misplaced(figure) == []


def test_combinations_are_sorted_dots_with_their_intervals():
    cells = {
        "b": Estimate(0.3, 0.1, 3, low=0.05, high=0.55),
        "a": Estimate(0.1, 0.1, 3, low=-0.1, high=0.3),
        "one": Estimate(0.2, math.nan, 1),
        "none": Estimate(math.nan, math.nan, 0),
    }
    figure = combinations(cells, "gap", least=0.0)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a (n = 3)", "one (n = 1)", "b (n = 3)"]
    (bars,) = axes.containers
    dots, _, (segments,) = bars.lines
    assert list(dots.get_xdata()) == [0.1, 0.2, 0.3]
    ends = [tuple(segment[:, 0]) for segment in segments.get_segments()]
    assert ends == [pytest.approx(pair) for pair in ((0.0, 0.3), (0.2, 0.2), (0.05, 0.55))]  # none below 0
    assert caption(figure) == "Mean and its 95 % interval over n seeds: 3 of 4 combinations, n = 7 runs."


def test_combinations_of_one_run_each_claim_no_interval():
    figure = combinations({"0.1, 1": Estimate(2.0, math.nan, 1)}, "epochs", factors=["data.gain", "optimizer.lr"])
    assert caption(figure) == "One run each: 1 of 1 combinations of data.gain, optimizer.lr, n = 1 runs."


def test_of_many_combinations_the_smallest_are_shown():
    figure = CASES["too many"]()
    assert len(figure.axes[0].get_yticklabels()) == MOST_BARS
    assert f"{MOST_BARS} of 50 combinations" in caption(figure)


def test_importance_bars_have_the_shares_length():
    axes = CASES["shares"]().axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.6, 0.3, 0.1]
    assert axes.get_xlim() == (0, 1)
    assert "n = 60 runs" in caption(CASES["shares"]())


def test_texts_are_found():
    assert len(texts_of(CASES["a map"]())) > 30
