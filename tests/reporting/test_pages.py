"""Every kind of page in a real browser: opens from disk, asks for nothing, can be read and used by everyone."""

from __future__ import annotations

import csv
import json
import math
import random
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from mlp_study.figures import learning_curves
from mlp_study.reporting.analysis import analysed
from mlp_study.reporting.make import make_report
from mlp_study.reporting.page_data import loss_end
from mlp_study.reporting.static_figures import curve_table
from mlp_study.reporting.study import read_study
from tests.reporting.conftest import Browser
from tests.reporting.synthetic import write_synthetic
from tests.reporting.synthetic_search import write_search

pytestmark = pytest.mark.slow
RULES = "['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']"
AXE = f"""const done = arguments[0];
axe.run(document, {{runOnly: {RULES}}}).then(r => done(r.violations.map(
  v => [v.id, v.nodes.length, v.nodes.slice(0, 3).map(n => n.html.slice(0, 200))])));"""
# Texts of a chart that lie over another of the same chart, or beyond its sides.
MISPLACED = """return [...document.querySelectorAll('.chart')].filter(c => c.offsetParent).flatMap(chart => {
  const own = chart.getBoundingClientRect();
  const texts = [...chart.querySelectorAll('.xtick text, .ytick text, .xtitle, .ytitle, .legendtext')];
  const boxes = texts.filter(t => t.textContent).map(t => [t.textContent, t.getBoundingClientRect(), t]);
  const out = boxes.filter(([, b]) => b.left < own.left - 1 || b.right > own.right + 1 || b.bottom > own.bottom + 1);
  const level = t => !/rotate\\((?!0)/.test(t.getAttribute('transform') || '');
  const over = boxes.flatMap(([t, a, e], i) => boxes.slice(i + 1).filter(([, b, f]) => level(e) && level(f) &&
    a.left < b.right - 2 && b.left < a.right - 2 && a.top < b.bottom - 3 && b.top < a.bottom - 3
  ).map(([u]) => t + ' | ' + u));
  return [...out.map(([t]) => 'outside: ' + t), ...over].map(t => chart.id + ': ' + t);
});"""
EMPTY = """const drawn = c => c.data && c.data.length;
return [...document.querySelectorAll('.chart')].filter(c => c.offsetParent && !drawn(c)).concat(
  [...document.querySelectorAll('main > details.section')].filter(s => s.offsetHeight < 60)).map(e => e.id);"""


def sweep(top: Path) -> Path:
    """With two continuous factors and failing runs."""
    write_synthetic(top / "a", 120, seeds=1)
    write_synthetic(top / "b", 120, seeds=1, overrides=("data.gain=3",))
    write_synthetic(top / "c", 120, seeds=2, overrides=("data.gain=10",))
    return make_report([top], figures=False)


def search(top: Path) -> Path:
    return make_report([write_search(top)])


def reproduction(top: Path) -> Path:
    """Two variants of a source, with its claims and a static figure."""
    for variant in ("relu_raw", "relu_unit"):
        write_synthetic(top / variant, 4, overrides=(f"experiment={{name: raw_relu, variant: {variant}}}",))
    claim = {"experiment": "raw_relu", "claim": 0, "text": "ReLU on raw pixels learns little", "case": "logits"}
    numbers = {"published": "below 0.50", "measured": 0.62, "deviation": 0.138, "n": 10, "mechanism": "84% dead"}
    claim |= numbers | {"interval_low": 0.521, "interval_high": 0.718, "verdict": "holds"}
    (top / "reproduction.json").write_text(json.dumps({"seeds": 2, "overrides": [], "claims": [claim]}))
    (top / "figures").mkdir()
    png = next((make_report([write_synthetic(top.parent / "other", 4)]).parent / "report").glob("*.png")).read_bytes()
    (top / "figures" / "raw_relu_learning_curves.png").write_bytes(png)
    return make_report([top], figures=False)


def comparison(top: Path) -> Path:
    folders = [write_synthetic(top / name, 20, data=data) for name, data in (("a" * 60, "digits"), ("b", "mnist"))]
    (folders[1] / "00000" / "result.json").write_text("{")
    (folders[1] / "00001" / "result.json").unlink()
    return make_report(folders, top / "both", figures=False)


MAKE: dict[str, Callable[[Path], Path]] = {
    "sweep": sweep, "search": search, "reproduction": reproduction, "comparison": comparison,
}  # fmt: skip
SECTIONS = {
    "sweep": "overview fixes answer curves time generalisation phases factors units runs origin",
    "search": "trials pareto overview answer curves time generalisation units runs origin",
    "reproduction": "claims overview fixes answer curves time generalisation units pictures runs origin",
    "comparison": "folders overview fixes answer curves time generalisation factors units runs origin",
    "run": "diagnosis curves units confusion-matrix preactivations pictures result origin",
}


@pytest.fixture(scope="module", params=[*MAKE, "run"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind = request.param
    if kind == "run":
        return make_report([request.getfixturevalue("trained_run")])
    return MAKE[kind](tmp_path_factory.mktemp("pages") / kind)


def letters(text: str) -> str:
    return text.replace(",", "").replace(" ", "")


def hovers(browser: Browser, chart: WebElement, text: str) -> None:
    """Wait until the chart's hover label says this."""
    script = "return arguments[0].querySelector('.hoverlayer').textContent"
    wait = WebDriverWait(browser.driver, 120, 0.05)
    wait.until(lambda _: letters(browser.js(script, chart)) == letters(text) != "", chart.get_attribute("id"))


def kind_of(page: Path) -> str:
    return next(kind for kind in (*MAKE, "run") if kind in page.parts or kind == "run")


def printed_it_is_light_and_without_controls(browser: Browser) -> None:
    """Paper and its charts' ink, from a dark page, which is dark again afterwards."""
    ink = "getComputedStyle(document.querySelector('.chart .xtick text')).fill"
    browser.js(f"addEventListener('beforeprint', () => {{ window.inked = {ink}; }})")
    pdf = browser.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    assert len(pdf) > 30_000
    assert browser.js(f"return [window.inked, {ink}]") == ["rgb(27, 27, 27)", "rgb(236, 236, 236)"]
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": dark})
    assert browser.js("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.js("return [...document.querySelectorAll('.controls')].filter(c => c.offsetParent).length") == 0
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": dark})


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
def test_it_opens_from_disk_and_can_be_read(browser: Browser, page: Path, width: int, dark: bool):
    browser.open(page, width, dark)
    assert [url for url in browser.requests() if not url.startswith(("file:", "data:"))] == []
    assert [entry for entry in browser.log() if entry["level"] != "INFO"] == []
    assert browser.js("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    sections = browser.js("return [...document.querySelectorAll('main > details.section')].map(s => s.id)")
    assert sections == SECTIONS[kind_of(page)].split()
    assert browser.js(EMPTY) == []
    assert browser.js(MISPLACED) == []
    if dark:
        printed_it_is_light_and_without_controls(browser)
    browser.js((files("axe_core_python") / "axe.min.js").read_text())
    browser.js("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert browser.driver.execute_async_script(AXE) == []


def test_its_values_are_reached_by_keyboard_and_by_mouse(browser: Browser, page: Path):
    browser.open(page)
    charts = browser.driver.find_elements(By.CSS_SELECTOR, ".chart[data-walkable]")
    seen = [chart for chart in charts if chart.is_displayed()]
    assert len(seen) >= 4
    for chart in seen:
        spoken = []
        for key in (Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.END):
            chart.send_keys(key)
            spoken.append(browser.text("#spoken"))
            hovers(browser, chart, spoken[-1])  # some 50 ms later
        assert len(set(spoken)) > 1
    chart = browser.driver.find_element(By.ID, "curves-loss")
    browser.js("arguments[0].scrollIntoView({block: 'center'})", chart)
    point = chart.find_elements(By.CSS_SELECTOR, ".scatterlayer path.point")[0]
    ActionChains(browser.driver).move_to_element(point).perform()
    label = chart.find_element(By.CSS_SELECTOR, ".hoverlayer")
    WebDriverWait(browser.driver, 120, 0.05).until(lambda _: "epoch" in label.get_attribute("textContent"))


def leaving(top: Path) -> Path:
    """A sweep in which one combination's loss goes to 1e36."""
    write_synthetic(top, 40)
    for path in top.glob("*/curves.csv"):
        settings = json.loads((path.parent / "result.json").read_text())["config"]
        if (settings["activation"]["name"], settings["data"]["scale"]) == ("elu", "none"):
            lines = list(csv.DictReader(path.read_text().splitlines()))
            for line in lines:
                for name in ("train/loss", "val/loss"):
                    line[name] = str(float(line[name]) * 10.0 ** (12 * (int(line["epoch"]) - 1)))
            with path.open("w", newline="") as file:
                table = csv.DictWriter(file, list(lines[0]))
                table.writeheader()
                table.writerows(lines)
    return make_report([top], figures=False)


def test_page_and_png_draw_the_same_axes_and_bands(browser: Browser, tmp_path: Path):
    write_synthetic(tmp_path, 40)
    source = random.Random(0)
    for path in sorted(tmp_path.glob("*/curves.csv")):  # n = 2: some intervals cover all, some little
        lines = list(csv.DictReader(path.read_text().splitlines()))
        rise = 30.0 if "00007" in str(path) else 1.0
        for line in lines:
            for name in ("train/loss", "val/loss", "train/accuracy", "val/accuracy"):
                line[name] = str(float(line[name]) * (1 - source.choice([0.001, 0.01, 0.3]) * source.random()) ** rise)
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, list(lines[0]))
            table.writeheader()
            table.writerows(lines)
    study = analysed(read_study([tmp_path]))
    figure = learning_curves(curve_table(study), "combination", loss_end=loss_end(study))
    browser.open(make_report([tmp_path], figures=False))
    left_out = 0
    for axes, chart in zip(figure.axes, ("curves-loss", "curves-accuracy"), strict=True):
        shown = browser.js("const c = document.getElementById(arguments[0]); return [c.layout.yaxis, c.data]", chart)
        ends = axes.get_ylim() if axes.get_yscale() == "linear" else [math.log10(y) for y in axes.get_ylim()]
        assert shown[0]["range"] == pytest.approx(ends, rel=1e-3)
        bands = [trace["y"] for trace in shown[1] if trace.get("fill") == "toself"]
        png = [area.get_paths()[0].vertices[:, 1] for area in axes.collections]
        assert [(min(y), max(y)) for y in bands] == [pytest.approx((y.min(), y.max()), rel=2e-3) for y in png]
        left_out += 14 - len(png)
        assert png
    assert left_out
    assert "averaged" not in browser.text("#map caption")
    browser.choose("#map-rows", "data.scale")
    browser.choose("#map-columns", "")
    assert "mean over n runs, averaged over activation" in browser.text("#map caption")


@pytest.mark.parametrize("width", [390, 1280])
def test_a_loss_that_leaves_for_infinity_leaves_the_axis_readable(browser: Browser, tmp_path: Path, width: int):
    browser.open(leaving(tmp_path), width)
    labels = "return document.querySelectorAll('#curves-loss .ytick text').length"
    span = "const [low, high] = document.getElementById('curves-loss').layout.yaxis.range; return high - low"
    tick = (
        "return [...document.querySelectorAll('#curve-groups label')].find(l => l.textContent.includes(arguments[0]))"
    )
    others = "document.querySelectorAll('#curve-groups input:checked').forEach(t => t.click())"
    if not browser.js(tick + ".firstChild.checked", " elu · none"):  # with the space: not relu's
        browser.js(tick + ".firstChild.click()", " elu · none")
    assert browser.js(span) < 8
    assert "ends at 10,000" in browser.text("#loss-note")
    assert "1 of the" in browser.text("#loss-note")
    assert 2 <= browser.js(labels) <= 7
    assert browser.js(MISPLACED) == []
    texts = "return document.getElementById('curves-loss').data.flatMap(t => t.text || [])"
    assert any(re.search(r"\d{2} \(above the axis\)", text) for text in browser.js(texts))
    browser.js(others)
    browser.js(tick + ".firstChild.click()", " elu · none")
    assert browser.js(span) > 30  # alone it flattens no other, and is shown whole
    browser.js(
        "for (const part of ['train/loss', 'val/loss']) D.curves.parts[part].mean[0].fill(null);"
        "document.querySelector('#curve-groups input').click()"
    )
    assert browser.js(span) > 30  # nor beside one without a finite loss
    assert browser.text("#loss-note") == ""
    assert 2 <= browser.js(labels) <= 8
    assert browser.js(MISPLACED) == []


def test_long_labels_are_not_cut(browser: Browser, tmp_path: Path):
    browser.open(comparison(tmp_path), 390)
    labels = browser.js(
        "return [...document.querySelectorAll('#times .ytick text, #gap .ytick text')].map(t => t.textContent)"
    )
    assert labels
    assert [label for label in labels if "…" in label and "a" * 20 not in label] == []
    assert any("standard" in label for label in labels)
    assert browser.js(MISPLACED) == []


@pytest.mark.parametrize("spoilt", ["missing", "half"])
def test_a_page_without_a_finished_run_opens(browser: Browser, tmp_path: Path, spoilt: str):
    for path in write_synthetic(tmp_path, 4).glob("*/result.json"):
        if spoilt == "missing":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:300])
    browser.open(make_report([tmp_path]), 390)
    assert [entry for entry in browser.log() if entry["level"] != "INFO"] == []
    assert browser.js("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert "00003" in browser.text("#origin")


def test_a_map_s_cells_are_read_by_keyboard(browser: Browser, tmp_path: Path):
    browser.open(make_report([write_synthetic(tmp_path, 40)], figures=False))
    first = browser.driver.find_element(By.CSS_SELECTOR, "#map td[tabindex='0']")
    first.send_keys(Keys.ARROW_RIGHT)
    told = browser.text("#map-detail")
    assert told.startswith("relu, unit; mean 0.")
    browser.driver.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    assert browser.text("#map-detail").startswith("elu, unit; mean 0.")
    assert len(browser.driver.find_elements(By.CSS_SELECTOR, "#map td[tabindex='0']")) == 1


def test_a_search_s_charts_follow_the_chosen_objective(browser: Browser, tmp_path: Path):
    browser.open(search(tmp_path))
    with (tmp_path / "trials.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line["state"] == "complete"]

    def history() -> tuple[list[float], list[float]]:
        best, points = browser.js("return document.getElementById('history').data.slice(0, 2).map(t => t.y)")
        return best, points

    for k, (metric, better) in enumerate((("val/accuracy", max), ("seconds", min))):
        browser.choose("#objective", str(k))
        values = [float(line[metric]) for line in lines if line[metric] != "inf"]
        best, points = history()
        assert points == values
        assert best == [better(values[: i + 1]) for i in range(len(values))]
    link = browser.js("return document.querySelector('#trial-numbers a').href")
    assert link.startswith("file:")
    assert "pruned" in browser.text("#trial-numbers")


def test_a_thousand_runs_are_a_page_of_less_than_five_megabytes_that_opens(browser: Browser, tmp_path: Path):
    page = make_report([write_synthetic(tmp_path, 1000, epochs=15, seeds=5)])
    assert page.stat().st_size < 5e6
    browser.open(page)
    assert [entry for entry in browser.log() if entry["level"] != "INFO"] == []
    assert browser.text("#count") == "1000 of 1000 runs shown"
    browser.choose("#by-outcome", "dead units")
    assert browser.text("#count") == "50 of 1000 runs shown"
    assert browser.js(EMPTY) == []
