"""Pages in a real browser: quiet, self-contained, as wide as the screen, and switches that change what is shown."""

import pytest


def shot(page, wall="#w0"):
    return page.locator(wall).locator(".tiles:visible").screenshot()


@pytest.mark.parametrize("name", ["split", "faces", "plain", "codes"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_quiet_and_as_wide_as_the_screen(runs, visit, name, scheme):
    for width in (1280, 380):
        page = visit((runs[name] / "report.html").as_uri(), width, scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("h1").is_visible()


def test_the_switch_changes_what_is_shown(runs, visit):
    page = visit((runs["split"] / "report.html").as_uri())
    shots = {}
    for part in ("y", "x", "y1", "y2", "sigma"):
        page.locator("#w0 .switch label", has=page.get_by_text(part, exact=True)).click()
        assert page.locator("#w0 .tiles:visible").count() == 1
        assert page.locator("#w0 .tiles:visible").get_attribute("data-part") == part
        shots[part] = shot(page)
    assert len(set(shots.values())) == 5


def test_the_switch_answers_to_the_keyboard(runs, visit):
    page = visit((runs["split"] / "report.html").as_uri())
    page.locator("#w1 .switch input").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#w1 .tiles:visible").get_attribute("data-part") == "y1"
    assert page.locator("#w0 .tiles:visible").get_attribute("data-part") == "y", "other walls stay as they were"


def test_an_image_is_shown_large_with_all_its_parts(runs, visit):
    page = visit((runs["split"] / "report.html").as_uri())
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
    page = visit((runs["faces"] / "report.html").as_uri(), width=380)
    page.locator("#w0 .tiles:visible").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.locator("dialog h2").inner_text() == "Reconstructions: image 2 of 6"
    box = page.locator("dialog").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 380


def test_a_comparison_is_quiet_and_its_switch_works(runs, visit, call, tmp_path):
    code, _, err = call("compare", *runs.values(), "--html", "page.html")
    assert code == 0, err
    for width, scheme in ((1280, "light"), (380, "dark")):
        page = visit((tmp_path / "page.html").as_uri(), width, scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    before = shot(page)
    page.locator("#w0 .switch label", has=page.get_by_text("sigma", exact=True)).click()
    assert shot(page) != before
