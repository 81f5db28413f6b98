"""`genzoo cache`: reference statistics in the user's cache."""

import json
from pathlib import Path

import click

from genzoo.errors import UserError


@click.group()
def cache() -> None:
    """Reference statistics in the user's cache: list, remove."""


def _cached() -> list[Path]:
    from genzoo.cache import cache_dir

    return sorted((cache_dir() / "statistics").glob("*.npz"))


@cache.command("ls")
def cache_ls() -> None:
    """Cached statistics: key, images, features, size."""
    import numpy as np

    for path in _cached():
        try:
            size = f"{path.stat().st_size / 1e6:.1f} MB"
        except FileNotFoundError:  # files come and go
            continue
        try:
            with np.load(path, allow_pickle=False) as known:
                network = json.loads(str(known["protocol"])).get("network", "?")
                click.echo(f"{path.stem[:12]}  {int(known['num']):>9,} images  {network}  {size}")
        except FileNotFoundError:
            continue
        except Exception:  # of what is in a bad file zipfile, zlib, numpy and json have each their own errors
            click.echo(f"{path.stem[:12]}  damaged: the next comparison writes it anew  {size}")


@cache.command("rm")
@click.argument("keys", nargs=-1, required=True)
def cache_rm(keys: tuple[str, ...]) -> None:
    """Remove statistics by the keys that `genzoo cache ls` shows, or `all`."""
    for key in keys:
        paths = [path for path in _cached() if key == "all" or (key and path.stem.startswith(key))]
        if not paths and key != "all":
            raise UserError(f"no cached statistics start with '{key}' (`genzoo cache ls` lists them)")
        for path in paths:
            path.unlink(missing_ok=True)
        click.echo(f"{len(paths)} removed")
