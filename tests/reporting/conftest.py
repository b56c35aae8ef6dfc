"""A real browser that opens pages from disk and logs what it asks the network for; and a trained run to show."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
    "--disable-dev-shm-usage",
)  # fmt: skip


class Browser:
    """Chromium at a width, in light or dark."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, page: Path, width: int = 1280, dark: bool = False, unfolded: bool = True) -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        self.log(), self.requests()
        self.driver.get(page.resolve().as_uri())
        if unfolded:
            self.js("document.querySelectorAll('main > details.section').forEach(d => { d.open = true })")
        WebDriverWait(self.driver, 240).until(lambda d: self.js("return document.documentElement.dataset.ready"))

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def log(self) -> list[dict[str, Any]]:
        return self.driver.get_log("browser")

    def requests(self) -> list[str]:
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]

    def text(self, selector: str) -> str:
        return str(self.js("return document.querySelector(arguments[0]).textContent", selector))

    def choose(self, selector: str, value: str) -> None:
        change = "const s = document.querySelector(arguments[0]); s.value = arguments[1];"
        self.js(change + "s.dispatchEvent(new Event('change'))", selector, value)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    options = Options()
    options.binary_location = shutil.which("chromium") or "chromium"
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(shutil.which("chromedriver") or "chromedriver"))
    driver.set_script_timeout(240)  # for axe, whose half minute a busy machine exceeds
    yield Browser(driver)
    driver.quit()


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder as training leaves it: two hidden layers, ReLU on raw pixels, so that it fails."""
    folder = tmp_path_factory.mktemp("runs") / "a run"
    settings = ("model.widths=[20,10]", "data.scale=none", "trainer.max_epochs=3", "wandb.mode=offline")
    command = [sys.executable, "-m", "mlp_study.train", *settings, f"hydra.run.dir='{folder}'"]
    subprocess.run(command, check=True, capture_output=True, cwd=folder.parent)
    return folder
