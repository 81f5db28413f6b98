"""The explorer's page in a real browser: what is moved, painted and saved is what is shown."""

import time

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def opened(served, toy, visit):
    """opened(width, scheme, **options of the toy): its page, ready."""

    def make(width=1280, scheme="light", **options):
        page = visit(served(toy(**options)).url, width, scheme)
        page.wait_for_selector("body[data-ready]", timeout=15_000)
        return page

    return make


def drawn(page):
    return page.evaluate("Number(document.body.dataset.drawn)")


def after(page, act):
    """Do it, wait for the next picture, and return y's pixels."""
    before = drawn(page)
    act()
    deadline = time.monotonic() + 10
    while drawn(page) <= before:
        assert time.monotonic() < deadline, page.locator("#state").inner_text()
        page.wait_for_timeout(5)
    return pixels(page)


def pixels(page, canvas="y"):
    """What a canvas shows, read from a copy: reading the page's own would change how it is drawn."""
    code = """id => {
        const canvas = document.getElementById(id);
        const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
        copy.drawImage(canvas, 0, 0);
        return [...copy.getImageData(0, 0, canvas.width, canvas.height).data];
    }"""
    return np.array(page.evaluate(code, canvas)).reshape(16, 16, 4)[..., :3]


def slide(page, selector, share):
    code = "([s, t]) => { const i = document.querySelector(s); i.value = +i.min + (i.max - i.min) * t; i.dispatchEvent(new Event('input')); }"
    page.evaluate(code, [selector, share])


@pytest.mark.parametrize("options", [{}, {"branches": 1}, {"channels": 3, "latent": (3, 2, 2)}, {"branches": 3}])
def test_every_kind_of_model_moves(opened, options):
    page = opened(**options)
    first = pixels(page)
    low, high = (after(page, lambda t=t: slide(page, "#sliders input", t)) for t in (0.0, 1.0))
    assert (low != high).any() and not ((first == low).all() and (first == high).all())
    assert (after(page, lambda: page.locator("#draws button").click()) != high).any()
    assert (after(page, lambda: page.locator("#images button").nth(0).click()) == first).all()
    assert page.locator("#brush").is_visible() == (options.get("branches") != 1)
    assert page.locator("#name").inner_text() == "toy <b>&"


@pytest.mark.parametrize("width, scheme", [(1280, "dark"), (380, "light")])
def test_the_page_is_as_wide_as_the_screen(opened, width, scheme):
    assert opened(width, scheme).evaluate("document.documentElement.scrollWidth") <= width


def test_sliders_answer_to_the_keyboard(opened):
    page = opened()
    slider = page.locator("#sliders input").first
    slider.focus()
    before = float(page.locator("#sliders output").first.inner_text())
    shown = after(page, lambda: [page.keyboard.press("PageUp") for _ in range(3)])
    assert float(page.locator("#sliders output").first.inner_text()) > before and shown.any()


def test_the_page_says_how_long_a_picture_took(opened):
    page = opened()
    after(page, lambda: slide(page, "#sliders input", 0.7))
    took = page.evaluate("Number(document.body.dataset.took)")
    assert took > 0 and page.locator("#state").inner_text() == f"{took:.0f} ms"


def saved(page, button, tmp_path):
    with page.expect_download() as waiting:
        page.locator(button).click()
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


@pytest.mark.parametrize("how", ["mouse", "keyboard"])
def test_the_composition_follows_the_brush(opened, tmp_path, how):
    page = opened(channels=3)
    before = pixels(page)
    page.locator("#brush-value").evaluate("i => { i.value = 0; }")
    sigma = page.locator("#part-sigma")
    if how == "mouse":
        box = sigma.bounding_box()
        page.mouse.move(box["x"] + 10, box["y"] + 10)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=10)
        page.mouse.up()
    else:
        sigma.focus()
        for key in ("ArrowLeft", "ArrowUp", " ", "ArrowDown", " "):
            page.keyboard.press(key)
    assert (pixels(page) != before).any() and "painted" in page.locator("#changed").inner_text()
    with np.load(saved(page, "#save-npz", tmp_path)) as kept:
        parts = {name: kept[name][0].astype(float) for name in ("y", "sigma", "y1", "y2")}
        assert kept["z"].shape == (1, 4)
    assert (parts["sigma"] == 0).any(), "what was painted is saved"
    weight = parts["sigma"] / 255
    assert np.abs(weight * parts["y1"] + (1 - weight) * parts["y2"] - parts["y"]).max() <= 1
    assert (parts["y"] == pixels(page)).all()
    page.locator("#unpaint").click()
    assert (pixels(page) == before).all()


def test_of_several_maps_the_weights_go_on_adding_up_to_one(opened, tmp_path):
    page = opened(branches=3)
    page.locator("#part-w2").focus()
    page.keyboard.press(" ")
    with np.load(saved(page, "#save-npz", tmp_path)) as kept:
        total = sum(kept[f"w{k}"].astype(int) for k in (1, 2, 3))
        assert np.abs(total - 255).max() <= 2 and (kept["w2"] == 255).any()


def test_branches_swap(opened, tmp_path):
    page = opened()
    before = pixels(page)
    page.locator("#swap").check()
    assert (pixels(page) != before).any()
    with np.load(saved(page, "#save-npz", tmp_path)) as kept:
        weight, y1, y2 = kept["sigma"][0] / 255, kept["y1"][0], kept["y2"][0]
    assert np.abs(weight * y2 + (1 - weight) * y1 - pixels(page)[..., :1]).max() <= 1


def test_a_picture_of_all_parts_is_saved(opened, tmp_path):
    page = opened(channels=3)
    picture = np.asarray(Image.open(saved(page, "#save-png", tmp_path)).convert("RGB"))
    assert picture.shape == (16, 4 * 16 + 3 * 2, 3)
    assert (picture[:, :16] == pixels(page)).all() and (picture[:, 18:34] == pixels(page, "part-sigma")).all()


def test_the_way_between_two_latents_has_both_ends(opened):
    page = opened()
    page.locator("#set-a").click()
    a = pixels(page)
    assert page.locator("#way").is_disabled()
    b = after(page, lambda: page.locator("#draws button").click())
    page.locator("#set-b").click()
    ways = [after(page, lambda t=t: slide(page, "#way", t)) for t in (0.0, 0.5, 1.0)]
    assert (ways[0] == a).all() and (ways[2] == b).all() and (ways[1] != a).any() and (ways[1] != b).any()


def test_what_the_server_refuses_is_said(opened, visit):
    visit.expected.append("400 (Bad Request)")
    page = opened()
    page.evaluate("z[0] = NaN; refresh()")
    page.wait_for_timeout(300)
    assert "finite" in page.locator("#state").inner_text()


def test_the_command_says_which_package_is_missing(call, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "genzoo.explore.server", raising=False)
    code, _, err = call("explore", "anywhere")
    assert code == 2 and "pip install 'genzoo[explore]'" in err
