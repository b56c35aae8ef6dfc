"""A sweep's page in a real browser: it shows what the CSV says, filters, sorts, and takes names as text."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from mlp_study import reporting
from mlp_study.reporting.make import make_report
from tests.reporting.synthetic import write_synthetic

pytestmark = pytest.mark.slow
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("reports") / "sweep <b>&"
    return make_report([write_synthetic(top, 160, seeds=2)], figures=False)


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("evil")
    for i, name in enumerate((EVIL, "plain")):
        write_synthetic(top / str(i), 8, overrides=(f'experiment={{name: "{name}", variant: "{name}"}}',))
    return make_report([top], figures=False)


def test_numbers_equal_the_csv(browser, page):
    browser.open(page)
    with (page.parent / "report" / "combinations.csv").open() as file:
        lines = list(csv.DictReader(file))
    cells: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for line in lines:
        key = (line["activation"], line["data.scale"])
        cells.setdefault(key, []).append((float(line["test/accuracy mean"]), int(line["test/accuracy n"])))
    shown = browser.js(
        "const t = document.querySelector('#map table');"
        "const heads = [...t.tHead.rows[0].cells].slice(1).map(c => c.textContent);"
        "return [...t.tBodies[0].rows].flatMap(r => [...r.cells].slice(1).map((c, i) =>"
        " [r.cells[0].textContent, heads[i], c.querySelector('b').textContent, c.textContent, c.title]))"
    )
    assert len(shown) == len(cells) == 20
    for row, column, mean, text, title in shown:
        own = cells[row, column]
        n = sum(count for _, count in own)
        assert mean == f"{sum(m * count for m, count in own) / n:.3f}"
        assert f"n = {n}" in text
        assert f"n = {n}" in title
    failing = {(row, column): text for row, column, _, text, _ in shown if "dead units" in text or "diverged" in text}
    assert set(failing) == {("relu", "none"), ("elu", "none")}


def test_filters_change_every_section(browser, page):
    browser.open(page)
    ticks = "document.querySelectorAll('[data-factor=activation]')"
    browser.js(ticks + ".forEach(t => { if (t.dataset.level !== 'relu') t.click() })")
    assert browser.text("#count") == "32 of 160 runs shown"
    assert browser.js("return document.querySelectorAll('#map tbody tr').length") == 1
    assert "32 runs" in browser.text("#pager")
    assert "sigmoid" not in browser.text("#curve-groups")
    browser.choose("#by-outcome", "dead units")
    assert browser.text("#count") == "8 of 160 runs shown"


def test_the_metric_can_be_chosen(browser, page):
    browser.open(page)
    browser.js(
        "const s = document.querySelector('#metric'); s.value = 'final/dead'; s.dispatchEvent(new Event('change'))"
    )
    assert "final/dead" in browser.text("#map caption")
    assert browser.text("#map tbody tr td b") in {"0.000", "1.000"}


def test_hover_shows_values(browser, page):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    browser.open(page)
    point = browser.driver.find_element(By.CSS_SELECTOR, "#gap .scatterlayer path.point")
    browser.js("arguments[0].scrollIntoView({block: 'center'})", point)
    ActionChains(browser.driver).move_to_element(point).perform()
    script = "return document.querySelector('#gap .hoverlayer').textContent"
    WebDriverWait(browser.driver, 120, 0.05).until(lambda _: "mean" in browser.js(script))
    assert "n = " in browser.js(script)


def test_the_table_sorts_and_searches_by_keyboard(browser, page):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.open(page)
    heading = browser.driver.find_element(By.CSS_SELECTOR, "th[data-name='test/accuracy'] button")
    column = (
        "const c = [...document.querySelectorAll('#runs-table th')].findIndex(t => t.dataset.name === 'test/accuracy');"
    )
    values = [
        float(v)
        for v in browser.js(
            column + "return [...document.querySelectorAll('#runs-table tbody tr')].map(r => r.cells[c].textContent)"
        )
    ]
    assert values == sorted(values, reverse=True)
    assert heading.find_element(By.XPATH, "..").get_attribute("aria-sort") == "descending"
    heading.send_keys(Keys.ENTER)
    assert browser.js("return document.activeElement.closest('th').getAttribute('aria-sort')") == "ascending"
    browser.driver.find_element(By.ID, "search").send_keys("relu none")
    assert "8 runs" in browser.text("#pager") or "24 runs" in browser.text("#pager")
    link = browser.js("return document.querySelector('#runs-table tbody a').href")
    assert link.startswith("file:")


def test_names_from_configs_are_text(browser, evil):
    browser.open(evil)
    assert [entry for entry in browser.log() if entry["level"] != "INFO"] == []
    assert browser.js("return document.querySelectorAll('img[src=x]').length") == 0
    assert EVIL in browser.text("#filters")
    assert EVIL in browser.text("#runs-table")


def test_the_scripts_can_be_read():
    """A statement a line, two spaces a level, under 100 columns."""
    for path in sorted(Path(reporting.__file__).parent.glob("page*.js")):
        lines = path.read_text().splitlines()
        assert [
            line for line in lines if len(line) >= 100 or len(re.findall(r";(?= \S)", line.split("//")[0])) > 2
        ] == []
        assert max(len(line) - len(line.lstrip(" ")) for line in lines) <= 24
        assert not any("\t" in line for line in lines)
