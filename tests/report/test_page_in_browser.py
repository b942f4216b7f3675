"""The page works in a real browser: no console errors, no sideways scrolling on a phone, tables sort and filter."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from liftscape.report import write_demo_report
from liftscape.studies.embedding_principle_result import DemoResult

_CHROMIUM, _DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(_CHROMIUM is None or _DRIVER is None, reason="chromium and chromedriver are not installed"),
]


@pytest.fixture(scope="module")
def browser(demo_result: DemoResult, tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Headless Chromium with the report open, at the width of a phone."""
    folder: Path = tmp_path_factory.mktemp("page")
    options = webdriver.ChromeOptions()
    options.binary_location = str(_CHROMIUM)
    profile = f"--user-data-dir={folder / 'profile'}"
    quiet = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-dev-shm-usage",
    )
    for argument in (*quiet, "--window-size=500,900", profile):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(_DRIVER)))
    driver.get(write_demo_report(demo_result, folder).as_uri())
    yield driver
    driver.quit()


def test_the_console_is_silent(browser: webdriver.Chrome):
    assert browser.get_log("browser") == []
    assert "liftscape" in browser.title


def test_nothing_sticks_out_of_a_phone(browser: webdriver.Chrome):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 780, "deviceScaleFactor": 1, "mobile": True}
    )
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    widths = browser.execute_script("return [...document.querySelectorAll('svg')].map(s => s.clientWidth)")
    assert len(widths) == 11
    assert min(widths) > 250


def test_a_click_sorts_by_number(browser: webdriver.Chrome):
    column = "return [...document.querySelectorAll('#points td[data-name=\"loss\"]')].map(c => Number(c.textContent))"
    head = browser.find_element(By.XPATH, "//table[@id='points']//button[text()='loss']")
    for descending in (False, True):
        browser.execute_script("arguments[0].click()", head)
        losses = browser.execute_script(column)
        assert losses == sorted(losses, reverse=descending)
        assert len(losses) == 2


def test_typing_filters_the_certificates(browser: webdriver.Chrome):
    browser.execute_script(
        "const i = document.getElementById('lifts-filter');"
        "i.value = 'strict saddle'; i.dispatchEvent(new Event('input'))"
    )
    shown = browser.execute_script("return [...document.querySelectorAll('#lifts tbody tr:not([hidden])')].length")
    assert shown == 1
    assert browser.execute_script("return document.querySelector('[data-count=lifts]').textContent") == "1 of 2"


def test_the_theme_changes_the_figures(browser: webdriver.Chrome):
    paper = "return getComputedStyle(document.querySelector('.panel svg path')).fill"
    before = browser.execute_script(paper)
    browser.execute_script("document.getElementById('theme').click()")
    assert browser.execute_script(paper) != before
    assert browser.get_log("browser") == []
