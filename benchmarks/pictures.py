"""The pictures of the documentation, from finished runs of svae_digits and vae_digits.

    python benchmarks/pictures.py runs/svae_digits runs/vae_digits

panel.png: images, and what the split makes of them; report.png, comparison.png, explorer.png: the pages, as a browser
shows them. Needs playwright, and Debian's chromium.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from PIL import Image

OUT = Path(__file__).parent.parent / "docs" / "pictures"
LARGEST = 300_000  # bytes of a picture
SIZE = {"width": 1200, "height": 1000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("split", type=Path, metavar="SVAE_DIGITS")
    parser.add_argument("plain", type=Path, metavar="VAE_DIGITS")
    parser.add_argument("--browser", type=Path, default="/usr/bin/chromium")
    given = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(given.split / "panels" / "reconstruction.png", OUT / "panel.png")

    with tempfile.TemporaryDirectory() as folder:  # copies named as their recipes: pages show the folders' names
        split = shutil.copytree(given.split, Path(folder) / "svae_digits")
        plain = shutil.copytree(given.plain, Path(folder) / "vae_digits")
        genzoo = [sys.executable, "-m", "genzoo"]
        subprocess.run([*genzoo, "report", split.name], cwd=folder, check=True)
        words = [plain.name, split.name, "--html", "comparison.html"]
        subprocess.run([*genzoo, "compare", *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        os.chdir(folder)
        take(given.browser, split / "report.html", Path(folder) / "comparison.html", split)


def take(browser: Path, report: Path, comparison: Path, explored: Path) -> None:
    from playwright.sync_api import sync_playwright

    from genzoo.explore.server import Server
    from genzoo.explore.session import session

    server = Server(session(explored))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(browser), args=["--no-sandbox", "--disable-gpu"])
        page = chromium.new_page(viewport=SIZE)
        page.goto(report.as_uri())
        keep(page.screenshot(), "report")
        page.goto(comparison.as_uri())
        keep(page.screenshot(), "comparison")
        page.goto(server.url)
        page.wait_for_selector("body[data-ready]")
        keep(page.screenshot(), "explorer")
        chromium.close()
    server.stop()
    thread.join()


def keep(picture: bytes, name: str) -> None:
    """A PNG of at most 256 colours, which pages of text and grey pictures do not miss."""
    path = OUT / f"{name}.png"
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    assert path.stat().st_size < LARGEST, f"{path} has {path.stat().st_size:,} bytes"


if __name__ == "__main__":
    main()
