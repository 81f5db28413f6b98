import os

# One thread a test, before torch is imported: the suite's tensors are small, and processes (pytest-xdist) use the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# A suite in the background (nohup, a shell's &) inherits signals that are ignored, and so would what it starts.
for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, default)

settings.register_profile("quick", max_examples=40, deadline=None)
settings.register_profile("long", max_examples=1000, deadline=None)  # pytest --hypothesis-profile=long
settings.load_profile("quick")


def pytest_xdist_auto_num_workers(config):
    """`pytest` alone takes every core, up to eight; what is named, and the long forms, run in this process unless told."""
    told = any(word.startswith(("-n", "--numprocesses")) for word in config.invocation_params.args)
    whole = config.args_source is not pytest.Config.ArgsSource.ARGS and config.option.markexpr == "not long"
    if not (told or whole):
        return 0
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(), 8)


CHROMIUM = Path("/usr/bin/chromium")
OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("GENZOO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Call the command line in this process, in an empty folder: (exit code, stdout, stderr)."""
    from genzoo.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["genzoo", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return end.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture
def pixels():
    """Registers `features/pixels`; its class, which counts from 0."""
    from genzoo.registry import FEATURES
    from genzoo.testing.features import Pixels

    made = type("Pixels", (Pixels,), {"num_seen": 0})
    FEATURES.register("pixels")(made)
    yield made
    del FEATURES._by_code["pixels"]


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=str(CHROMIUM), args=OPTIONS)
        yield made
        made.close()


@pytest.fixture
def visit(browser):
    """visit(url, width, scheme): the opened page; in the end no message, and no request to another place, was seen.

    visit.expected: words of messages that are to come.
    """
    seen, contexts = [], []

    def open_page(url, width=1280, scheme="light"):
        contexts.append(context := browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme))
        page, own = context.new_page(), url.partition("?")[0]

        def asked(request):
            if not request.url.startswith(("data:", f"blob:{own}", own)):
                seen.append(request.url)

        page.on("console", lambda message: seen.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("request", asked)
        page.goto(url)
        return page

    open_page.expected = []
    yield open_page
    for context in contexts:
        context.close()
    assert [message for message in seen if not any(words in message for words in open_page.expected)] == []
