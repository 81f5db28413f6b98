"""Reference statistics on disk: our own .npz files, others' layouts, and the cache by content and protocol."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from genzoo.cache import cache_dir
from genzoo.errors import UserError
from genzoo.evaluation.frechet import Statistics


@dataclass
class Known:
    """Statistics that somebody has made. num: of images, None where the file does not say."""

    name: str
    statistics: Statistics
    num: int | None
    protocol: dict | None  # of the features, None where the file does not say
    digest: str


def read_statistics(path: Path, arrays: dict[str, np.ndarray]) -> Known | None:
    """Ours (mu, sigma, num, protocol), pytorch-fid's and clean-fid's (mu, sigma), ADM's (also arr_0, mu_s, sigma_s).

    None when there are none. UserError when they are not a mean and a covariance.
    """
    if "mu" not in arrays or "sigma" not in arrays:
        return None
    mu, sigma = arrays["mu"], arrays["sigma"]
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)) or not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise UserError(f"{path}: mu {mu.shape} and sigma {sigma.shape} are not a finite mean and its covariance")
    num = int(arrays["num"]) if "num" in arrays else None
    statistics = Statistics.known(num or 2**31, torch.from_numpy(mu), torch.from_numpy(sigma))
    protocol = json.loads(str(arrays["protocol"])) if "protocol" in arrays else None
    digest = hashlib.sha256(mu.tobytes() + sigma.tobytes()).hexdigest()
    return Known(str(path), statistics, num, protocol, digest)


def write_statistics(path: Path, statistics: Statistics, protocol: dict) -> None:
    """An .npz that pytorch-fid and clean-fid read too (mu, sigma), with the number of images and the protocol."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(
                file,
                mu=statistics.mean.numpy(),
                sigma=statistics.cov.numpy(),
                num=np.int64(statistics.n),
                protocol=json.dumps(protocol, sort_keys=True),
            )
        os.chmod(part, 0o644)  # mkstemp gives 0600
        os.replace(part, path)
    finally:
        Path(part).unlink(missing_ok=True)


def cache_path(digest: str, protocol: dict) -> Path:
    """Where the statistics of these images on these features are kept."""
    key = hashlib.sha256(json.dumps([digest, protocol], sort_keys=True).encode()).hexdigest()
    return cache_dir() / "statistics" / f"{key}.npz"


def cached(digest: str, protocol: dict) -> Statistics | None:
    """From the user's cache; None when they are not there, or no longer readable."""
    path = cache_path(digest, protocol)
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            known = read_statistics(path, dict(arrays))
    except (OSError, ValueError, KeyError, UserError):
        return None  # made anew, and written over it
    return known.statistics if known else None
