"""A dataset is read into the prepared store (genzoo.data.store)."""

import errno
import hashlib
import inspect
import json
import logging
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import PIL

from genzoo.data.prepared import stamp
from genzoo.data.store import Layout
from genzoo.errors import UserError
from genzoo.files import check_space, sha256, write_json
from genzoo.parts import Dataset
from genzoo.progress import Progress

log = logging.getLogger(__name__)

MARK_BYTES = 64 << 20  # an interrupted preparation loses at most this much of its work


def build(dataset: Dataset, card: dict, folder: Path, progress: Progress) -> None:
    """Read every split into `<folder>.partial`, check what was written, and rename. The caller holds the lock."""
    partial = folder.with_name(folder.name + ".partial")
    expected = card["source"].get("num_images", {})
    try:
        partial.mkdir(exist_ok=True)
        layout = Layout.of(card)
        there = sum(file.stat().st_size for file in partial.iterdir())
        check_space(
            partial,
            sum(expected.values()) * layout.num_bytes - there,
            f"preparing this dataset takes {{need}} in {folder.parent}, where {{free}} are free; free some space, or "
            "set GENZOO_CACHE to a folder on a larger disk",
        )
        card["splits"] = {
            split: _write(dataset, split, partial, layout, expected.get(split), progress) for split in dataset.splits
        }
        card["files"] = {split: stamp(partial / f"{split}.{layout.suffix}") for split in card["splits"]}
        card["versions"] = {"numpy": np.__version__, "pillow": PIL.__version__}
        card["created"] = datetime.now(UTC).isoformat(timespec="seconds")
        for mark in partial.glob("*.mark"):
            mark.unlink()
        write_json(partial / "card.json", card)
        if folder.exists():
            log.warning("%s was damaged and is replaced", folder)  # or _open would have returned it
            shutil.rmtree(folder)
        partial.rename(folder)
    except Exception as error:  # not KeyboardInterrupt: what is interrupted goes on next time
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"the disk is full: {card['dataset']} could not be prepared in {folder.parent}; "
                "free some space, or set GENZOO_CACHE to a folder on a larger disk"
            ) from error
        raise


def _write(
    dataset: Dataset, split: str, partial: Path, layout: Layout, expected: int | None, progress: Progress
) -> dict:
    """Read one split into its file, going on from its last mark if any; returns its entry of the card."""
    path, mark = partial / f"{split}.{layout.suffix}", partial / f"{split}.mark"
    num_done, digest = 0, hashlib.sha256()
    if path.exists() and mark.exists():
        entry = json.loads(mark.read_text())
        if entry.pop("complete", False):
            return entry
        found = _hash(path, entry["num_images"] * layout.num_bytes)
        if found.hexdigest() == entry["sha256"] and "start" in inspect.signature(dataset.read).parameters:
            num_done, digest = entry["num_images"], found
            log.info("%s: going on after %d images", path, num_done)

    def save_mark(**more) -> dict:
        file.flush()
        os.fsync(file.fileno())
        entry = {"num_images": num_done, "sha256": digest.hexdigest()}
        write_json(mark, entry | more)
        return entry

    with path.open("r+b" if num_done else "wb") as file:
        marked = file.truncate(num_done * layout.num_bytes)
        file.seek(marked)
        for images in dataset.read(split, start=num_done) if num_done else dataset.read(split):
            layout.check(images, f"{type(dataset).__name__}, split '{split}'")
            stored = np.ascontiguousarray(images).view(np.uint8)
            file.write(stored)
            digest.update(stored)
            num_done += len(images)
            progress(split, num_done, expected)
            if file.tell() - marked >= MARK_BYTES:
                marked = file.tell()
                save_mark()
        notes = getattr(dataset, "notes", {}).get(split, {})
        passed_over = ", ".join(f"{number:,} {reason}" for reason, number in notes.get("passed_over", {}).items())
        if not num_done:
            raise UserError(
                f"{type(dataset).__name__}, split '{split}': there are no images"
                + (f" in {root}" if (root := getattr(getattr(dataset, "config", None), "root", None)) else "")
                + (f"; passed over: {passed_over}" if passed_over else "")
            )
        entry = save_mark()
    if sha256(path) != entry["sha256"]:
        raise UserError(f"{path} does not read back as it was written: the disk may be failing")
    if passed_over:
        log.warning("%s, split '%s': %s images; passed over: %s", type(dataset).__name__, split, num_done, passed_over)
    entry |= notes
    write_json(mark, entry | {"complete": True})
    return entry


def _hash(path: Path, num_bytes: int) -> "hashlib._Hash":
    """sha256 of the file's first bytes, to be gone on with."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while num_bytes and (block := file.read(min(num_bytes, 1 << 20))):
            digest.update(block)
            num_bytes -= len(block)
    return digest
