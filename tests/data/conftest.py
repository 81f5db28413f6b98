import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty user's cache for every test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("GENZOO_CACHE", str(folder))
    return folder
