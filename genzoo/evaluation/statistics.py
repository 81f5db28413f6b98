"""Reference statistics on disk: our own .npz files, others' layouts, and the cache by content and protocol."""

import hashlib
import json
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from genzoo.cache import cache_dir
from genzoo.errors import UserError
from genzoo.files import replacing
from genzoo.frechet import Statistics

KEYS = ("mu", "sigma", "num", "protocol", "features")
MAX_BYTES = 8 * 8192**2 + 4096  # of a covariance: features have at most a few thousand dimensions


@dataclass
class Known:
    """Statistics that somebody has made. num: of images, None where the file does not say."""

    name: str
    statistics: Statistics
    num: int | None
    protocol: dict | None  # of the features, None where the file does not say
    digest: str


def read_statistics(path: Path, names: Container[str]) -> Known | None:
    """Ours (mu, sigma, num, protocol), pytorch-fid's and clean-fid's (mu, sigma), ADM's (also arr_0, mu_s, sigma_s).

    names: of the arrays in the file, of which no others are read. None when there are none of these. UserError when
    they are not a mean and a covariance.
    """
    if "mu" not in names or "sigma" not in names:
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            for member in archive.zip.infolist():  # before any of it is unpacked
                if member.filename.removesuffix(".npy") in KEYS and member.file_size > MAX_BYTES:
                    raise ValueError(f"{member.filename} has {member.file_size >> 20} MB")
            mu, sigma = archive["mu"], archive["sigma"]
            num = int(archive["num"]) if "num" in archive else None
            protocol = json.loads(str(archive["protocol"])) if "protocol" in archive else None
            features = archive["features"] if protocol and "features" in archive else None
            numbers = all(array.dtype.kind in "fiu" for array in (mu, sigma))
            if not isinstance(protocol, dict | None):
                raise ValueError("its protocol is not a table")
    except Exception as error:  # a damaged member, pickled objects, text that is no JSON: each has its own
        raise UserError(f"{path} is not a readable .npz file of statistics: {error}") from error
    square = mu.ndim == 1 and len(mu) and sigma.shape == (len(mu), len(mu))
    if not (numbers and square and np.isfinite(mu).all() and np.isfinite(sigma).all() and (num is None or num > 1)):
        raise UserError(f"{path}: mu {mu.shape} and sigma {sigma.shape} are not a finite mean and its covariance")
    mu, sigma = mu.astype(np.float64), sigma.astype(np.float64)
    if features is None:
        statistics = Statistics.known(num or 2**31, torch.from_numpy(mu), torch.from_numpy(sigma))
    elif features.dtype == np.float32 and features.shape == (num, len(mu)) and np.allclose(features.mean(0), mu, 1e-3):
        statistics = Statistics.of(torch.from_numpy(features))
    else:
        raise UserError(f"{path}: features {features.shape} are not those that mu {mu.shape} is the mean of")
    digest = hashlib.sha256(mu.tobytes() + sigma.tobytes()).hexdigest()
    return Known(str(path), statistics, num, protocol, digest)


def write_statistics(path: Path, statistics: Statistics, protocol: dict) -> None:
    """An .npz that pytorch-fid and clean-fid read too (mu, sigma), with the number of images and the protocol.

    Of fewer images than dimensions also with their features, so that what is read gives the very numbers of what was
    written.
    """
    with replacing(path) as file:
        np.savez(
            file,
            mu=statistics.mean.numpy(),
            sigma=statistics.cov.numpy(),
            num=np.int64(statistics.n),
            protocol=json.dumps(protocol, sort_keys=True),
            **({"features": statistics.rows.float().numpy()} if statistics.is_thin else {}),
        )


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
        known = read_statistics(path, KEYS)
    except UserError:
        return None  # made anew, and written over it
    made = known.statistics
    whole = made.n >= made.dim or made.is_thin  # of few images, a covariance alone would give other last digits
    return made if known.protocol == protocol and whole else None
