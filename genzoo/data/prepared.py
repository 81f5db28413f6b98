"""A prepared file: mapped into memory, and compared with the checksum it was written with."""

import hashlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genzoo.errors import UserError
from genzoo.files import sha256

if TYPE_CHECKING:
    from genzoo.data.stream import Stream

log = logging.getLogger(__name__)
QUICK_SECONDS = 2.0  # what comparing may take before every run
TRIAL_BYTES = 32 << 20  # read to tell how long all of it would take


@dataclass(frozen=True)
class Split:
    """One split of a prepared dataset."""

    images: "np.memmap | Stream"  # n h w c, uint8, read-only
    path: Path
    sha256: str  # of the file's bytes
    card: dict  # of the whole dataset: source, options, image_shape, counts, digests, versions

    def __len__(self) -> int:
        return len(self.images)

    def verify(self) -> None:
        """Hash the file again. Raises UserError when it is no longer the one that was prepared."""
        if sha256(self.path) != self.sha256:
            raise UserError(
                f"{self.path} was changed or damaged after it was prepared; delete {self.path.parent} and run again"
            )


class Mapped(np.memmap):
    """A read-only memory-mapped array; UserError at the next look when another program has cut its file short.

    To touch what is missing ends the process without a word (SIGBUS).
    """

    def __getitem__(self, rows: Any) -> np.ndarray:
        self._refuse_short()
        return np.asarray(super().__getitem__(rows))

    def take(self, *arguments: Any, **options: Any) -> np.ndarray:
        self._refuse_short()
        return super().take(*arguments, **options)

    def _refuse_short(self) -> None:
        if self._mmap is not None and self._mmap.size() < len(self._mmap):
            raise UserError(
                f"{self.filename} was cut short while it was in use; delete {Path(self.filename).parent} and run again"
            )


def stamp(path: Path) -> list[int]:
    """Size, modification time, inode: what changes with a file."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def compare(splits: dict[str, Split], stamps: dict[str, list[int]]) -> dict[str, list[int]]:
    """Hash again the splits whose stamps are not those, and all where that is quick, else say that it was not done.

    Returns today's stamps. UserError for a file that is not the one that was prepared.
    """
    found = {name: stamp(split.path) for name, split in splits.items()}
    left = []
    for name, split in splits.items():
        if found[name] == stamps.get(name):
            left.append(split)
        else:
            split.verify()
    num_bytes = sum(split.path.stat().st_size for split in left)
    seconds = _seconds(left[0].path, num_bytes) if left else 0.0
    if seconds > QUICK_SECONDS:
        log.info(
            "%s: %.1f GB were not compared with their checksums, which would take about %.0f s; sizes, times and "
            "inodes are those of their preparation (`genzoo data prepare` compares)",
            left[0].path.parent, num_bytes / 1e9, seconds,
        )  # fmt: skip
    else:
        for split in left:
            split.verify()
    return found


def _seconds(path: Path, num_bytes: int) -> float:
    """About how long hashing so many bytes takes, by the first of them."""
    began, digest, num_read = time.perf_counter(), hashlib.sha256(), 0
    with path.open("rb") as file:
        while num_read < TRIAL_BYTES and (block := file.read(1 << 20)):
            digest.update(block)
            num_read += len(block)
    return (time.perf_counter() - began) * num_bytes / max(1, num_read)
