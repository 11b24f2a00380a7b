"""The gallery in a real browser, from file://, on a state made by a real run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from larkdrop.sandbox import Sandbox
from tests.helpers import Daemon, picture, sidecar_of, wait_until

HOSTILE = "<img src=x onerror='document.title=1'>&\"</script>.png"
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--window-size=1280,900",
)  # fmt: skip
pytestmark = pytest.mark.needs("chromium", "chromedriver")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """5,000 finished pictures of 40 contents, one of them with a hostile name."""
    home = tmp_path_factory.mktemp("gallery")
    with Sandbox() as lark:
        daemon = Daemon(home, lark, log={"level": "warning"})
        contents = [picture(number, "JPEG", size=(320, 200)) for number in range(40)]
        for number in range(4998):
            daemon.drop(f"photo-{number:04}.jpg", contents[number % 40])
        (daemon.inbox / HOSTILE).parent.mkdir()
        daemon.drop(HOSTILE, picture(50))
        daemon.drop("gone.png", picture(51))
        assert daemon.once().returncode == 0
        (daemon.inbox / "gone.png").unlink()
        page = home / "gallery.html"
        subprocess.run(daemon.command("gallery", "--output", str(page)), check=True, timeout=60)
        yield daemon


@pytest.fixture(scope="module")
def browser(made: Daemon) -> Iterator[Chrome]:
    """Headless Chromium on the page."""
    options = ChromeOptions()
    for option in (*OPTIONS, f"--user-data-dir={made.home}/chromium"):
        options.add_argument(option)
    with Chrome(options=options, service=Service(shutil.which("chromedriver"))) as driver:
        yield driver


@pytest.fixture
def page(browser: Chrome, made: Daemon) -> Chrome:
    """The page, just opened."""
    browser.get(f"file://{made.home}/gallery.html")
    browser.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite"]})
    return browser


def shown(page: Chrome) -> list[WebElement]:
    """The pictures that are not filtered away."""
    return page.find_elements(By.CSS_SELECTOR, "li button")


def clipboard(page: Chrome) -> Any:
    """What was copied."""
    return page.execute_async_script(
        "navigator.clipboard.readText().then(arguments[0], String.bind(null, arguments[0]))"
    )


def test_thousands_of_pictures_and_a_filter(page: Chrome) -> None:
    """Every picture is there; typing leaves those that match, by name or key, and Escape shows all again."""
    assert page.find_element(By.ID, "count").text == "5,000 pictures"
    page.find_element(By.TAG_NAME, "body").send_keys("/")
    field = page.switch_to.active_element
    field.send_keys("photo-123")
    assert len(shown(page)) == 10
    assert page.find_element(By.ID, "count").text == "10 of 5,000 pictures"
    field.send_keys("45")
    assert not shown(page)
    assert page.find_element(By.ID, "none").is_displayed()
    field.send_keys(Keys.ESCAPE)
    assert page.find_element(By.ID, "count").text == "5,000 pictures"


def test_thumbnails_come_as_they_are_needed(page: Chrome) -> None:
    """Only what is near the window is decoded; the rest follows when one scrolls."""
    images = "return document.querySelectorAll('.picture img').length"
    wait_until(lambda: page.execute_script(images) > 10, what="the first thumbnails")
    assert page.execute_script(images) < 200
    cards = "window.scrollTo(0, document.body.scrollHeight); return document.querySelectorAll('li').length"
    wait_until(lambda: page.execute_script(cards) == 5000, what="the last picture")
    widths = "return [...document.querySelectorAll('.picture img')].filter(image => image.naturalWidth === 160).length"
    seen = page.execute_script(widths)
    assert wait_until(lambda: page.execute_script(widths) >= seen > 100, what="thumbnails where one scrolled")


def test_a_click_copies_the_key(page: Chrome, made: Daemon) -> None:
    """And so does Enter; a screen reader is told."""
    record = sidecar_of(made.inbox / "photo-0007.jpg")
    assert record
    page.find_element(By.ID, "filter").send_keys("photo-0007")
    (card,) = shown(page)
    assert record["image_key"] in (card.get_attribute("aria-label") or "")
    card.click()
    wait_until(lambda: clipboard(page) == record["image_key"], what="the key in the clipboard")
    assert page.find_element(By.ID, "said").get_attribute("textContent") == "Copied the key of photo-0007.jpg"
    other = sidecar_of(made.inbox / "photo-0008.jpg")
    assert other
    field = page.find_element(By.ID, "filter")
    field.clear()
    field.send_keys("photo-0008", Keys.TAB, Keys.ENTER)
    wait_until(lambda: clipboard(page) == other["image_key"], what="the other key in the clipboard")


def test_the_arrow_keys_move(page: Chrome) -> None:
    """Right and down, from picture to picture."""
    cards = shown(page)
    page.execute_script("arguments[0].focus()", cards[0])
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert page.switch_to.active_element == cards[1]
    page.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    assert page.switch_to.active_element in cards[3:9]


def test_a_hostile_name_is_only_a_name(page: Chrome) -> None:
    """It is shown as it is, and nothing of it runs."""
    page.find_element(By.ID, "filter").send_keys("onerror")
    (card,) = shown(page)
    assert card.find_element(By.CLASS_NAME, "name").text == HOSTILE
    assert page.title == "larkdrop"
    assert not page.find_elements(By.CSS_SELECTOR, "img[src=x]")


def test_a_picture_that_is_gone_keeps_its_key(page: Chrome) -> None:
    """Without a thumbnail, but with its name and key."""
    page.find_element(By.ID, "filter").send_keys("gone.png")
    (card,) = shown(page)
    assert not card.find_elements(By.TAG_NAME, "img")
    assert card.find_element(By.CLASS_NAME, "key").text


def test_light_and_dark(page: Chrome) -> None:
    """The page follows the system."""
    background = "return getComputedStyle(document.documentElement).backgroundColor"
    seen = set()
    for scheme in ("light", "dark"):
        features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
        seen.add(page.execute_script(background))
    assert len(seen) == 2


def test_nothing_is_fetched(page: Chrome, made: Daemon) -> None:
    """The page holds everything in itself."""
    assert (
        page.execute_script(
            "return performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length"
        )
        == 0
    )
    assert "http" not in (made.home / "gallery.html").read_text().replace("http-equiv", "")


def test_not_into_a_watched_folder(made: Daemon) -> None:
    """The page would be taken for a drop."""
    words = made.command("gallery", "--output", str(made.inbox / "gallery.html"))
    said = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (said.returncode, "must not lie in the watched folder" in said.stderr) == (2, True)
    assert "gallery.html" not in os.listdir(made.inbox)
    said = subprocess.run(
        made.command("gallery", "--output", "/nowhere/g.html"), capture_output=True, text=True, check=False
    )
    assert "No such file" in said.stderr
    assert "Traceback" not in said.stderr
    assert Path("/nowhere").exists() is False
