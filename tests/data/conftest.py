import tracemalloc
from contextlib import contextmanager

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty user's cache for every test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("GENZOO_CACHE", str(folder))
    return folder


@pytest.fixture
def less_than():
    """`with less_than(megabytes):` fails when Python and NumPy allocate more than that inside."""

    @contextmanager
    def limit(megabytes):
        tracemalloc.start()
        try:
            yield
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < megabytes * 2**20

    return limit
