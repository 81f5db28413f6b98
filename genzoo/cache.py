"""The user's cache: where prepared data, downloads and statistics are kept between runs."""

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from genzoo.errors import UserError
from genzoo.files import replacing

log = logging.getLogger(__name__)


def cache_dir() -> Path:
    """`$GENZOO_CACHE` when it is set, else the operating system's cache folder for genzoo. Not created here."""
    import platformdirs

    return Path(os.environ.get("GENZOO_CACHE") or platformdirs.user_cache_dir("genzoo")).expanduser().absolute()


def download(urls: Sequence[str], target: Path, checksum: str) -> None:
    """Fetch `target` from the first of `urls` that delivers it; `checksum` reads "md5:<hex>" or "sha256:<hex>".

    The file appears under its name only when it is complete and its checksum is right. Raises OSError saying what each
    address answered.
    """
    import urllib.request

    algorithm, _, expected = checksum.partition(":")
    failures = []
    for url in urls:
        try:
            log.info("downloading %s", url)
            digest = hashlib.new(algorithm, usedforsecurity=False)
            with replacing(target) as file, urllib.request.urlopen(url, timeout=30) as response:
                while block := response.read(1 << 20):
                    file.write(block)
                    digest.update(block)
                if digest.hexdigest() != expected:
                    raise OSError(f"its {algorithm} is {digest.hexdigest()}, not {expected}")
            return
        except OSError as error:
            failures.append(f"{url}: {getattr(error, 'reason', error)}")
    raise OSError("; ".join(failures))


def fetch(root: Path | None, urls: Sequence[str], target: Path, checksum: str) -> Path:
    """A dataset's file, downloaded into the user's cache; in a root of the user's own it has to be (UserError)."""
    where = f"{target.name} is not in {target.parent}"
    if root is not None:
        raise UserError(f"{where}: fetch {urls[0]} and put it there, or leave data.root null to have it downloaded")
    try:
        download(urls, target, checksum)
    except OSError as error:
        raise UserError(
            f"{where} and cannot be downloaded ({error}); fetch {urls[0]} on another machine and put it there, "
            "or set data.root to a folder that has it; data.name=digits needs no download"
        ) from error
    return target
