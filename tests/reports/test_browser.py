"""Pages in a real browser: quiet, self-contained, as wide as the screen, and switches that change what is shown."""

from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")
OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=str(CHROMIUM), args=OPTIONS)
        yield made
        made.close()


@pytest.fixture
def visit(browser):
    """visit(path, width, scheme): the opened page; at the end, no message and no request may have been seen."""
    seen, contexts = [], []

    def open_page(path, width=1280, scheme="light"):
        contexts.append(context := browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme))
        page = context.new_page()
        page.on("console", lambda message: seen.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on(
            "request",
            lambda request: seen.append(request.url) if not request.url.startswith(("data:", "file:")) else None,
        )
        page.goto(Path(path).as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert seen == []


def shot(page, wall="#w0"):
    return page.locator(wall).locator(".tiles:visible").screenshot()


@pytest.mark.parametrize("name", ["split", "faces", "plain"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_quiet_and_as_wide_as_the_screen(runs, visit, name, scheme):
    for width in (1280, 380):
        page = visit(runs[name] / "report.html", width, scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("h1").is_visible()


def test_the_switch_changes_what_is_shown(runs, visit):
    page = visit(runs["split"] / "report.html")
    shots = {}
    for part in ("y", "x", "y1", "y2", "sigma"):
        page.locator("#w0 .switch label", has=page.get_by_text(part, exact=True)).click()
        assert page.locator("#w0 .tiles:visible").count() == 1
        assert page.locator("#w0 .tiles:visible").get_attribute("data-part") == part
        shots[part] = shot(page)
    assert len(set(shots.values())) == 5


def test_the_switch_answers_to_the_keyboard(runs, visit):
    page = visit(runs["split"] / "report.html")
    page.locator("#w1 .switch input").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#w1 .tiles:visible").get_attribute("data-part") == "y1"
    assert page.locator("#w0 .tiles:visible").get_attribute("data-part") == "y", "other walls stay as they were"


def test_an_image_is_shown_large_with_all_its_parts(runs, visit):
    page = visit(runs["split"] / "report.html")
    page.locator("#w0 .tiles:visible i").nth(3).click()
    assert page.locator("dialog h2").inner_text() == "Reconstructions: image 4 of 48"
    assert page.locator("dialog figcaption").all_inner_texts() == ["y", "x", "y1", "y2", "sigma"]
    first = page.locator("dialog .big").screenshot()
    page.keyboard.press("ArrowRight")
    assert page.locator("dialog h2").inner_text() == "Reconstructions: image 5 of 48"
    assert page.locator("dialog .big").screenshot() != first
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()


def test_walls_answer_to_the_keyboard(runs, visit):
    page = visit(runs["faces"] / "report.html", width=380)
    page.locator("#w0 .tiles:visible").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.locator("dialog h2").inner_text() == "Reconstructions: image 2 of 6"
    box = page.locator("dialog").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 380
