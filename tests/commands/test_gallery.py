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
from selenium.webdriver.support.select import Select

from larkdrop.sandbox.server import Sandbox
from tests.helpers import Daemon, picture, sidecar_of, wait_until

LONG = f"{'a long name ' * 6}v2.png"
HOSTILE = "<img src=x onerror='document.title=1'>&\"</script>.png"
# What a busy machine does: an observer hears of several changes at once, and late.
LATE = """window.IntersectionObserver = class extends IntersectionObserver {
    constructor(callback, options) {
        const changes = [];
        super(news => {
            if (!changes.length) setTimeout(() => callback(changes.splice(0)), 200);
            changes.push(...news);
        }, options);
    }
}"""
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--window-size=1280,900",
)  # fmt: skip
pytestmark = [pytest.mark.slow, pytest.mark.needs("chromium", "chromedriver")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """5,000 finished pictures, upright and wide; one name is hostile, one is long, and one picture is gone."""
    home = tmp_path_factory.mktemp("gallery")
    with Sandbox() as lark:
        daemon = Daemon(home, lark, log={"level": "warning"})
        contents = [picture(number, "JPEG", size=(400, 250) if number % 2 else (250, 400)) for number in range(40)]
        for number in range(4996):
            daemon.drop(f"photo-{number:04}.jpg", contents[number % 40])
        (daemon.inbox / HOSTILE).parent.mkdir()
        daemon.drop(HOSTILE, picture(50))
        for number, name in enumerate(("gone.png", "soon-gone.png", LONG)):
            daemon.drop(name, picture(51 + number, size=(800, 500)))
        assert daemon.once().returncode == 0
        (daemon.inbox / "gone.png").unlink()
        page = home / "gallery.html"
        subprocess.run(daemon.command("gallery", "--output", str(page)), check=True, timeout=100)
        (daemon.inbox / "soon-gone.png").unlink()
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
    return page.find_elements(By.CSS_SELECTOR, "li .open")


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
    wait_until(lambda: page.execute_script(cards) > 1000, what="further pictures")
    widths = "return [...document.querySelectorAll('.picture img')].filter(image => image.naturalWidth === 320).length"
    seen = page.execute_script(widths)
    assert wait_until(lambda: page.execute_script(widths) >= seen > 100, what="thumbnails where one scrolled")


def test_the_list_grows_on_a_busy_machine(browser: Chrome, made: Daemon) -> None:
    """The end of the list leaves the window and comes back before the page hears of either: it still grows."""
    late = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": LATE})
    browser.get(f"file://{made.home}/gallery.html")
    browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", late)
    cards = "window.scrollTo(0, document.body.scrollHeight); return document.querySelectorAll('li').length"
    wait_until(lambda: browser.execute_script(cards) > 1000, what="further pictures")


def test_upright_and_wide_pictures_in_even_frames(page: Chrome) -> None:
    """Each frame is the same square, and no picture is cut, stretched or less sharp than two pixels a point."""
    page.find_element(By.ID, "filter").send_keys("photo-")
    wait_until(lambda: len(page.find_elements(By.CSS_SELECTOR, "li img")) > 12, what="the first thumbnails")
    frames = """return [...document.querySelectorAll('li img')].slice(0, 12).map(image => {
        const frame = image.closest('.picture').getBoundingClientRect(), shown = image.getBoundingClientRect();
        return [frame.width, frame.height, frame.width - shown.width, frame.height - shown.height,
                shown.width / shown.height * image.naturalHeight / image.naturalWidth,
                image.naturalWidth / shown.width];
    })"""
    decoded = "return [...document.querySelectorAll('li img')].slice(0, 12).every(image => image.naturalWidth)"
    wait_until(lambda: page.execute_script(decoded), what="decoded thumbnails")
    made = page.execute_script(frames)
    assert len({(round(width), round(height)) for width, height, *_ in made}) == 1
    for width, height, beside, above, ratio, sharpness in made:
        assert width == pytest.approx(height, abs=1)
        assert min(beside, above) >= 8
        assert ratio == pytest.approx(1, abs=0.02)
        assert sharpness >= 1.95


def test_a_long_name_is_shortened_in_the_middle(page: Chrome) -> None:
    """Its end stays in sight."""
    page.find_element(By.ID, "filter").send_keys("long name")
    (card,) = shown(page)
    start, ending = card.find_elements(By.CSS_SELECTOR, ".name .middle > *")
    cut = "return arguments[0].scrollWidth > arguments[0].clientWidth"
    assert [page.execute_script(cut, part) for part in (start, ending)] == [True, False]
    assert ending.text == "me v2.png"
    assert ending.location["x"] + ending.size["width"] <= card.location["x"] + card.size["width"]


def test_by_date_and_by_name(page: Chrome) -> None:
    """A group a day while sorted by date, one list by name."""
    names = "return [...document.querySelectorAll('li .name')].slice(0, 3).map(name => name.textContent)"
    order = Select(page.find_element(By.ID, "order"))
    newest = page.execute_script(names)
    day, *_ = page.find_elements(By.TAG_NAME, "h2")
    assert "2" in day.text
    assert "pictures" in day.text
    order.select_by_value("oldest")
    assert page.execute_script(names) != newest
    order.select_by_value("name")
    page.find_element(By.ID, "filter").send_keys("photo-")
    assert page.execute_script(names) == ["photo-0000.jpg", "photo-0001.jpg", "photo-0002.jpg"]
    assert not page.find_elements(By.TAG_NAME, "h2")


def test_a_larger_view(page: Chrome, made: Daemon) -> None:
    """Enter opens the picture itself, arrows turn pages, its key can be copied, Escape leads back to where one is."""
    Select(page.find_element(By.ID, "order")).select_by_value("name")
    page.find_element(By.ID, "filter").send_keys("photo-000", Keys.TAB, Keys.TAB, Keys.ENTER)
    view = page.find_element(By.ID, "view")
    assert view.get_property("open")
    wide = "const image = document.querySelector('#large img'); return image && image.naturalWidth"
    wait_until(lambda: page.execute_script(wide) == 250, what="the picture itself")
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    wait_until(lambda: page.execute_script(wide) == 400, what="the next picture")
    assert page.find_element(By.ID, "title").text == "photo-0001.jpg"
    page.find_element(By.ID, "key").click()
    record = sidecar_of(made.inbox / "photo-0001.jpg")
    assert record
    wait_until(lambda: clipboard(page) == record["image_key"], what="the key in the clipboard")
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not view.get_property("open")
    focused = "return document.activeElement.getAttribute('aria-label') || ''"
    wait_until(lambda: "photo-0001.jpg" in page.execute_script(focused), what="the focus back on the picture")


def test_a_larger_view_of_what_went_since(page: Chrome) -> None:
    """The thumbnail, and a line that says so."""
    page.find_element(By.ID, "filter").send_keys("soon-gone")
    (card,) = shown(page)
    card.click()
    wait_until(lambda: "thumbnail" in page.find_element(By.ID, "note").text, what="the line")
    assert "data:image" in (page.find_element(By.CSS_SELECTOR, "#large img").get_attribute("src") or "")


def test_a_click_on_the_key_copies_it(page: Chrome, made: Daemon) -> None:
    """And so does the key c on the picture; a screen reader is told."""
    record = sidecar_of(made.inbox / "photo-0007.jpg")
    assert record
    page.find_element(By.ID, "filter").send_keys("photo-0007")
    key = page.find_element(By.CSS_SELECTOR, "li .key")
    assert record["image_key"] in (key.get_attribute("aria-label") or "")
    key.click()
    wait_until(lambda: clipboard(page) == record["image_key"], what="the key in the clipboard")
    assert page.find_element(By.ID, "said").get_attribute("textContent") == "Copied the key of photo-0007.jpg"
    other = sidecar_of(made.inbox / "photo-0008.jpg")
    assert other
    field = page.find_element(By.ID, "filter")
    field.clear()
    field.send_keys("photo-0008", Keys.TAB, Keys.TAB)
    page.switch_to.active_element.send_keys("c")
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
    assert card.find_element(By.CLASS_NAME, "name").get_property("textContent") == HOSTILE
    assert page.title == "larkdrop"
    assert not page.find_elements(By.CSS_SELECTOR, "img[src=x]")


def test_a_picture_that_is_gone_keeps_its_key(page: Chrome) -> None:
    """Its name stands in the place of a thumbnail, and its key can be copied."""
    page.find_element(By.ID, "filter").send_keys("inbox/gone.png")
    (card,) = shown(page)
    assert not card.find_elements(By.TAG_NAME, "img")
    assert card.find_element(By.CLASS_NAME, "bare").text == "gone.png\nno longer there"
    assert page.find_element(By.CSS_SELECTOR, "li .key").text


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
    assert "img-src data: file:;" in (made.home / "gallery.html").read_text()
    assert "http" not in (made.home / "gallery.html").read_text().replace("http-equiv", "")


def test_not_into_a_watched_folder(made: Daemon) -> None:
    """The page would be taken for a drop."""
    words = made.command("gallery", "--output", str(made.inbox / "gallery.html"))
    said = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (said.returncode, "must not lie in the watched folder" in said.stderr) == (2, True)
    assert "gallery.html" not in os.listdir(made.inbox)
    said = subprocess.run(
        made.command("gallery", "--limit", "1", "--output", "/nowhere/g.html"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No such file" in said.stderr
    assert "Traceback" not in said.stderr
    assert Path("/nowhere").exists() is False
