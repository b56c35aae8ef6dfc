"""Figures show the numbers they were given, for every width and outcome, and no text lies over another."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from scipy import stats

from mlp_study.figures import confusion_matrix, first_layer_weights, learning_curves, prediction_grid, save_png
from mlp_study.figures.curves import loss_limit, mean_and_interval
from mlp_study.figures.images import BAR, columns, tiled
from mlp_study.figures.style import COLOURS, WRONG

CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
DIGITS = tuple("0123456789")
TITLE = "fashion_mnist, leaky_relu_mismatched, scale pixel_standard, momentum"


def curves_of(epochs: int = 15, seeds: int = 1, scale: float = 1.0, **columns: str) -> pd.DataFrame:
    random = np.random.default_rng(0)
    tables = []
    for _ in range(seeds):
        loss = scale * np.exp(-np.arange(epochs) / 4) + 0.1 * random.random(epochs)
        table = pd.DataFrame({"epoch": np.arange(1, epochs + 1), "train/loss": loss, "val/loss": loss * 1.1})
        table["train/accuracy"], table["val/accuracy"] = np.exp(-loss / 2), np.exp(-loss)
        tables.append(table.assign(**columns))
    return pd.concat(tables, ignore_index=True)


def diverged() -> pd.DataFrame:
    table = curves_of(epochs=5, scale=1e6)
    table.loc[3, ["train/loss", "val/loss"]] = math.inf
    table.loc[4, ["train/loss", "val/loss"]] = math.nan
    return table


def grouped(count: int, seeds: int = 3) -> pd.DataFrame:
    return pd.concat([curves_of(seeds=seeds, scale=1 + i, activation=f"activation_{i}") for i in range(count)])


def leaving(count: int) -> pd.DataFrame:
    """Groups of which the first goes to 1e36."""
    table = grouped(count)
    first = table["activation"] == "activation_0"
    rise = np.geomspace(1, 1e36, 15)[table["epoch"] - 1]
    for name in ("train/loss", "val/loss"):
        table[name] *= np.where(first, rise, 1.0)
    return table


def still(loss: float, accuracy: float) -> pd.DataFrame:
    """A network that learns nothing: values that differ by 1e-4 of themselves."""
    drift = pd.Series(1 + 1e-4 * np.arange(4) / 4)
    losses, accuracies = dict.fromkeys(("train/loss", "val/loss"), loss), {"train/accuracy": accuracy}
    values = losses | accuracies | {"val/accuracy": accuracy}
    return pd.DataFrame({"epoch": np.arange(1, 5)} | {name: drift * value for name, value in values.items()})


def predictions(classes, count=96, wrong=(3, 50)):
    random = np.random.default_rng(1)
    labels = random.integers(0, len(classes), count)
    predicted = labels.copy()
    predicted[list(wrong)] = (predicted[list(wrong)] + 1) % len(classes)
    return random.integers(0, 256, (count, 784), dtype=np.uint8), labels, predicted


def weights(units: int, pixels: int = 784) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(units, pixels))


CASES = {
    "a run": lambda: learning_curves(curves_of(), title=TITLE),
    "one epoch": lambda: learning_curves(curves_of(epochs=1), title=TITLE),
    "many epochs": lambda: learning_curves(curves_of(epochs=300), title=TITLE),
    "a diverged run": lambda: learning_curves(diverged(), title=TITLE),
    "nothing finite": lambda: learning_curves(diverged()[4:], title=TITLE),
    "tiny losses": lambda: learning_curves(curves_of(scale=0) / 1e7, title=TITLE),
    "three groups": lambda: learning_curves(grouped(3), by="activation", title=TITLE, validation="test"),
    "a group that leaves the axis": lambda: learning_curves(leaving(3), by="activation", title=TITLE),
    "one group over 38 decades": lambda: learning_curves(leaving(1), by="activation", title=TITLE),
    "nothing moves": lambda: learning_curves(still(0.16943, 0.9444), title=TITLE),
    "nothing moves beyond four digits": lambda: learning_curves(still(0.09876, 0.09876), title=TITLE),
    "one panel": lambda: learning_curves(grouped(3), by="activation", metrics=["loss"], title=TITLE),
    "fifteen groups": lambda: learning_curves(grouped(15, seeds=1), by="activation", title=TITLE),
    "one unit": lambda: first_layer_weights(weights(1), 28, 28, TITLE),
    "a hundred units": lambda: first_layer_weights(weights(100) * 1e-6, 28, 28, TITLE),
    "weights of three decimals": lambda: first_layer_weights(weights(2).clip(-0.0998, 0.0998), 28, 28, TITLE),
    "weights of five decimals": lambda: first_layer_weights(weights(2).clip(-0.0123, 0.0123), 28, 28, TITLE),
    "a thousand units": lambda: first_layer_weights(weights(1000), 28, 28, TITLE),
    "flat images": lambda: first_layer_weights(weights(16, 160), 8, 20, TITLE),
    "digits": lambda: prediction_grid(*predictions(DIGITS), DIGITS, 28, 28, TITLE),
    "clothes": lambda: prediction_grid(*predictions(CLOTHES), CLOTHES, 28, 28, TITLE),
    "few images": lambda: prediction_grid(*predictions(CLOTHES, 5, [0]), CLOTHES, 28, 28, TITLE),
    "confused digits": lambda: confusion_matrix(*predictions(DIGITS, 10_000)[1:], DIGITS, TITLE),
    "confused clothes": lambda: confusion_matrix(*predictions(CLOTHES, 100_000)[1:], CLOTHES, TITLE),
    "62 classes": lambda: confusion_matrix(
        *predictions(range(62), 5000)[1:], [chr(59 + i) for i in range(62)], title="emnist"
    ),
}


def texts_of(figure: Figure) -> list[Text]:
    """Every text that the figure shows."""
    figure.canvas.draw()
    hidden = {
        label
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis.get_major_ticks() + axis.get_minor_ticks()
        if not axes.axison or not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
        for label in (tick.label1, tick.label2)
    }
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text() and text not in hidden]


def misplaced(figure: Figure) -> list[str]:
    """Texts that lie over another or leave the figure."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts_of(figure)]
    width, height = figure.canvas.get_width_height()
    pairs = itertools.combinations(boxes, 2)
    over = [f"{a!r} over {b!r}" for (a, box), (b, other) in pairs if box.padded(-1).overlaps(other.padded(-1))]
    inside = Bbox([[-1, -1], [width + 1, height + 1]])
    return over + [text for text, box in boxes if Bbox.union([inside, box]).bounds != inside.bounds]


@pytest.mark.parametrize("name", CASES)
def test_no_text_lies_over_another_or_outside(name):
    assert misplaced(CASES[name]()) == []


def test_misplaced_text_is_seen():
    figure = CASES["three groups"]()
    assert len(texts_of(figure)) > 20
    figure.text(0.5, 0.5, "one")
    figure.text(0.5, 0.51, "two")
    figure.text(0.99, 0.3, "three")
    assert misplaced(figure) == ["'one' over 'two'", "three"]


@pytest.mark.parametrize("name", ["a run", "three groups", "one panel"])
def test_axes_have_units_and_captions_have_n(name):
    figure = CASES[name]()
    for axes in figure.axes:
        assert axes.get_xlabel().startswith("epoch (")
        assert axes.get_ylabel() in ("loss (mean per image)", "accuracy (share of images)")
    assert "n = " in "".join(text.get_text() for text in texts_of(figure))


def test_a_group_without_a_finite_loss_holds_no_axis_that_all_others_leave():
    table = leaving(2)
    table.loc[table["activation"] == table["activation"].iloc[0], ["train/loss", "val/loss"]] = math.nan
    low, high = learning_curves(table, by="activation", loss_end=1e-9).axes[0].get_ylim()
    assert low < table["train/loss"].min() < table["train/loss"].max() < high


def test_a_group_that_leaves_the_axis_does_not_flatten_the_others():
    figure = CASES["a group that leaves the axis"]()
    loss = figure.axes[0]
    assert loss.get_ylim()[1] == 1e4  # 1e3 times the middle group's first loss of about 2, up to a decade
    triangles = [line for line in loss.get_lines() if line.get_marker() == "^" and line.get_linestyle() == "None"]
    assert {line.get_color() for line in triangles} == {COLOURS[0]}
    assert all(set(line.get_ydata()) == {1e4} for line in triangles)
    assert "Triangle: a loss above the axis" in " ".join(text.get_text() for text in texts_of(figure))
    alone = CASES["one group over 38 decades"]()
    assert alone.axes[0].get_ylim()[1] > 1e30
    assert "Triangle" not in " ".join(text.get_text() for text in texts_of(alone))


@pytest.mark.parametrize(
    ("first", "limit"),
    [
        ([2.3, 2.0, 1e30], 1e4),
        ([2.3, 1e30], 1e4),
        ([1e-6, 1e-7, 2.0], 1e3),
        ([2.0, math.nan, math.inf], math.inf),
        ([2.0], math.inf),
        ([], math.inf),
    ],
)
def test_the_loss_axis_ends_a_thousand_times_above_the_middle_group(first, limit):
    assert loss_limit(first) == limit


@pytest.mark.parametrize(("seeds", "factor"), [(2, 1.0), (5, 1e3)])
def test_the_axis_is_of_the_means_and_no_band_covers_it(seeds, factor):
    """Two seeds have a t quantile of 12.7; of five seeds that lie far apart the band reaches from zero upwards."""
    table = grouped(3, seeds)
    first = (table["activation"] == "activation_0") & (np.arange(len(table)) % (15 * seeds) < 15)
    table.loc[first, ["train/loss", "val/loss"]] *= 1.0 + 3.0 * factor
    figure = learning_curves(table, by="activation")
    for axes in figure.axes:
        values = np.concatenate([line.get_ydata() for line in axes.get_lines()])
        bottom, top = axes.get_ylim()
        span = np.log(values.max() / values.min()) if axes.get_yscale() == "log" else np.ptp(values)
        room = np.log(top / bottom) if axes.get_yscale() == "log" else top - bottom
        assert room < 1.2 * span
    bands = [axes.collections for axes in figure.axes]
    assert all(band.get_alpha() < 0.15 for own in bands for band in own)
    assert COLOURS[0] not in {to_hex(band.get_facecolor()[0]).upper() for band in bands[0]}
    assert len(bands[1]) >= 4


def test_curves_show_the_numbers_of_the_table():
    table = curves_of()
    loss, accuracy = learning_curves(table).axes
    for axes, metric in ((loss, "loss"), (accuracy, "accuracy")):
        train, val = axes.get_lines()
        np.testing.assert_allclose(train.get_ydata(), table[f"train/{metric}"])
        np.testing.assert_allclose(val.get_ydata(), table[f"val/{metric}"])
        assert (train.get_linestyle(), val.get_linestyle()) == ("--", "-")


def test_the_band_is_the_t_interval_of_the_mean():
    table = curves_of(epochs=4, seeds=5)
    epochs, mean, half, lost = mean_and_interval(table, "val/loss")
    assert (list(epochs), lost) == ([1, 2, 3, 4], False)
    for i, epoch in enumerate(epochs):
        values = table.loc[table["epoch"] == epoch, "val/loss"]
        low, high = stats.t.interval(0.95, len(values) - 1, loc=values.mean(), scale=stats.sem(values))
        assert (mean[i] - half[i], mean[i] + half[i]) == (pytest.approx(low), pytest.approx(high))


def test_a_lost_loss_is_marked_and_an_unmeasured_one_is_not():
    assert mean_and_interval(diverged(), "val/loss")[3] is True
    unmeasured = curves_of()
    unmeasured.loc[unmeasured["epoch"] % 2 == 1, "val/loss"] = math.nan
    epochs, _, _, lost = mean_and_interval(unmeasured, "val/loss")
    assert (list(epochs), lost) == ([2, 4, 6, 8, 10, 12, 14], False)


def test_groups_differ_in_colour_and_marker_and_say_their_n():
    figure = learning_curves(grouped(9, seeds=2), by="activation")
    lines = figure.axes[0].get_lines()[1::2]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 9
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [f"activation_{i} (n = 2)" for i in range(9)]


def test_a_loss_of_many_decades_is_logarithmic_and_accuracies_stay_between_0_and_1():
    assert learning_curves(curves_of(epochs=40, scale=1e4)).axes[0].get_yscale() == "log"
    loss, accuracy = learning_curves(curves_of()).axes
    assert loss.get_yscale() == "linear"
    assert -0.03 < accuracy.get_ylim()[0] < accuracy.get_ylim()[1] < 1.03


def test_the_palette_is_told_apart_in_grey_by_markers_and_by_most_colour_blind_people():
    assert len(set(COLOURS)) == 7
    assert to_hex(to_rgb(WRONG)) == "#d55e00"


def test_weights_are_symmetric_around_a_white_zero():
    weight = np.zeros((3, 784))
    weight[0, 0], weight[1, 0], weight[2, 0] = 2.0, -2.0, math.nan
    figure = first_layer_weights(weight, 28, 28)
    mosaic = figure.axes[0].get_images()[0].get_array()
    assert (mosaic[..., 3] == 255).all()
    mosaic = mosaic[..., :3]
    tops = [mosaic[2, 2 + 30 * i].tolist() for i in range(3)] if mosaic.shape[1] > 60 else None
    assert tops is not None
    red, blue, lost = tops
    assert red[0] > red[2] + 50
    assert blue[2] > blue[0] + 50
    assert lost == [150, 150, 150]
    assert min(mosaic[3, 3]) > 240
    assert "between 0 and 2." in figure.texts[-1].get_text().replace("\n", " ")


def test_each_unit_has_a_scale_of_its_own_and_dead_ones_a_frame():
    weight = np.zeros((2, 784))
    weight[0, 0], weight[1, 0] = 2.0, 0.02
    figure = first_layer_weights(weight, 28, 28, dead_O=np.array([False, True]))
    mosaic = figure.axes[0].get_images()[0].get_array()[..., :3]
    assert mosaic[2, 2].tolist() == mosaic[2, 2 + 30].tolist()
    orange = [round(255 * c) for c in to_rgb(WRONG)]
    assert mosaic[0, 40].tolist() == mosaic[31, 40].tolist() == mosaic[10, 61].tolist() == orange
    assert mosaic[0, 10].tolist() == [210] * 3
    assert "Orange frame: 1 dead." in figure.texts[-1].get_text().replace("\n", " ")


def test_chance_is_a_line():
    figure = learning_curves(curves_of(), chance=0.1)
    loss, accuracy = figure.axes
    assert [list(line.get_ydata()) for line in accuracy.get_lines() if line.get_linestyle() == ":"] == [[0.1, 0.1]]
    assert accuracy.get_ylim()[0] < 0.1
    assert not [line for line in loss.get_lines() if line.get_linestyle() == ":"]
    assert "Dotted: chance, 0.1." in figure.texts[-1].get_text().replace("\n", " ")


@pytest.mark.parametrize("weight", [np.zeros((4, 784)), np.full((4, 784), math.nan)])
def test_weights_without_a_scale_can_be_drawn(weight, tmp_path):
    assert save_png(first_layer_weights(weight, 28, 28), tmp_path / "w.png").stat().st_size > 1000


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16, 17, 100, 128, 1000])
@pytest.mark.parametrize("tall", [1.0, 0.4, 2.5])
def test_mosaics_hold_all_images_with_few_empty_places(count, tall):
    across = columns(count, tall)
    down = math.ceil(count / across)
    assert across * down >= count
    assert across * down - count <= max(2, 0.2 * count)
    assert 0.3 < across / (down * tall) < 6 or count < 4


def test_tiles_stand_where_they_belong():
    tiles = np.arange(5, dtype=np.uint8).repeat(2 * 3 * 3).reshape(5, 2, 3, 3)
    mosaic = tiled(tiles, across=2, gap=1, strip=4)
    assert mosaic.shape == (3 * (2 + 4 + 1) + 1, 2 * (3 + 1) + 1, 3)
    for i in range(5):
        y, x = 7 * (i // 2) + 5, 4 * (i % 2) + 1
        assert (mosaic[y : y + 2, x : x + 3] == i).all()


@pytest.mark.parametrize("classes", [DIGITS, CLOTHES])
def test_each_image_carries_its_prediction_and_the_wrong_ones_a_bar(classes):
    images, labels, predicted = predictions(classes, wrong=(0, 13, 95))
    figure = prediction_grid(images, labels, predicted, classes, 28, 28, "t")
    axes = figure.axes[0]
    shown = [text.get_text() for text in axes.texts]
    assert len(shown) == 96
    for i, text in enumerate(shown):
        assert text.startswith(classes[predicted[i]])
        assert (classes[labels[i]] in text[len(classes[predicted[i]]) :]) == (i in (0, 13, 95))
    mosaic = np.asarray(axes.get_images()[0].get_array())[..., :3]
    painted = (mosaic == [round(255 * c) for c in to_rgb(BAR)]).all(axis=-1)
    height, width = mosaic.shape[0] / 8, mosaic.shape[1] / 12
    cells = [
        painted[
            round(height * row) + 4 : round(height * row) + 8,
            round(width * column) + 8 : round(width * (column + 1)) - 8,
        ]
        for row in range(8)
        for column in range(12)
    ]
    assert [i for i, cell in enumerate(cells) if cell.all()] == [0, 13, 95]
    assert "n = 96" in figure.texts[-1].get_text()
    assert "3 wrong" in figure.texts[-1].get_text()


def test_the_confusion_matrix_counts():
    labels, predicted = [0, 0, 0, 1, 2, 2], [0, 0, 1, 1, 1, 2]
    figure = confusion_matrix(labels, predicted, ["a", "b", "c"])
    shown = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    assert shown == {(0, 0): "2", (1, 0): "1", (1, 1): "1", (1, 2): "1", (2, 2): "1"}
    np.testing.assert_allclose(figure.axes[0].get_images()[0].get_array()[0], [2 / 3, 1 / 3, 0])
    assert "n = 6 test images, 4 right" in figure.texts[-1].get_text()


def test_a_name_with_dollars_and_brackets_is_text(tmp_path):
    figure = learning_curves(curves_of(tag="$x_1$ <b>"), by="tag", title="$\\frac{1}{2}$ & <script>")
    assert save_png(figure, tmp_path / "f.png").exists()


def test_figures_load_matplotlib_late_and_never_pyplot():
    code = (
        "import sys, mlp_study.figures; late = 'matplotlib' not in sys.modules and 'pandas' not in sys.modules;"
        "import numpy as np; mlp_study.figures.first_layer_weights(np.ones((2, 4)), 2, 2);"
        "print(late, 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
