"""From a slider to its picture in the browser: `python benchmarks/explorer.py RUN... [--out FILE.json]`.

`genzoo explore` serves each run, headless Chromium moves the first slider, and what is counted is the page's own time
from the move to the drawn image, with its parts. Needs playwright, and Debian's chromium.
"""

import argparse
import json
import os
import statistics
import threading
from pathlib import Path

from genzoo.allocator import keep_freed_memory

WARM_UP, MOVES = 10, 100
MOVE = """([value, before]) => new Promise(done => {
  const slider = document.querySelector("#sliders input");
  slider.value = +slider.min + value * (slider.max - slider.min);
  slider.dispatchEvent(new Event("input"));
  const said = document.body.dataset;
  const wait = () => Number(said.drawn || 0) > before ? done(Number(said.took)) : setTimeout(wait, 1);
  wait();
})"""


def took(run: Path, browser: Path) -> dict:
    from playwright.sync_api import sync_playwright

    from genzoo.explore.server import Server
    from genzoo.explore.session import session

    server = Server(session(run))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(browser), args=["--no-sandbox", "--disable-gpu"])
        page = chromium.new_page()
        page.goto(server.url)
        page.wait_for_selector("body[data-ready]")
        count = "Number(document.body.dataset.drawn || 0)"
        ms = [page.evaluate(MOVE, [k * 7 % 10 / 10, page.evaluate(count)]) for k in range(WARM_UP + MOVES)][WARM_UP:]
        shape = page.evaluate("[about.height, about.width, about.parts.length]")
        chromium.close()
    server.stop()
    thread.join()
    cuts = statistics.quantiles(ms, n=20)
    return {"run": run.name, "height": shape[0], "width": shape[1], "images": shape[2], "cores": os.cpu_count(),
            "median_ms": statistics.median(ms), "p95_ms": cuts[-1], "moves": MOVES}  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--browser", type=Path, default="/usr/bin/chromium")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    keep_freed_memory()
    found = [took(run, given.browser) for run in given.runs]
    text = json.dumps(found, indent=1) + "\n"
    print(text, end="")
    if given.out:
        given.out.write_text(text, encoding="utf-8")
