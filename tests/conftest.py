import os

# One thread a test: the suite's tensors are small, and threads that wait for each other cost more than they bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys

import pytest
from hypothesis import settings

settings.register_profile("quick", max_examples=40, deadline=None)
settings.register_profile("long", max_examples=1000, deadline=None)  # pytest --hypothesis-profile=long
settings.load_profile("quick")


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
