"""Images that stay in tar shards: an index says where each one lies, and they are read when they are asked for."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from genzoo.data.square import decode_all
from genzoo.errors import UserError
from genzoo.images.tree import Encoded
from genzoo.parts import Shape

ENTRY = np.dtype([("shard", "<i4"), ("offset", "<i8"), ("num_bytes", "<i4")])  # one image's place
GAP, BLOCK = 64 << 10, 16 << 20  # bytes: ranges no further apart are read as one, of at most so many
AHEAD = 128 << 20  # bytes of files that are held before they are decoded


class Stream:
    """Reads like an array uint8 n h w c: `len`, `shape`, `dtype`, and `[rows]` for a number, a slice or an array.

    entries: n places, of ENTRY, those of a shard together. urls: the shards. buffer: images shuffled together, and read
    ahead. Reading raises UserError for a shard that cannot be read, CorruptFile for an image that cannot.
    """

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(self, entries: np.ndarray, urls: Sequence[str], image_shape: Shape, max_pixels: int, buffer: int):
        from fsspec.core import url_to_fs

        self.entries, self.urls, self.image_shape = entries, urls, image_shape
        self.max_pixels, self.buffer = max_pixels, buffer
        self._files = url_to_fs(urls[0])[0]  # one pattern's addresses are all of one kind
        self._paths = [self._files._strip_protocol(url) for url in urls]

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        channels, height, width = self.image_shape
        return len(self), height, width, channels

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        rows = np.asarray(rows, dtype=int)
        if rows.size and not -len(self) <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)} images")
        wanted, places = np.unique(rows % max(len(self), 1), return_inverse=True)
        held = np.cumsum(self.entries["num_bytes"][wanted], dtype=np.int64)
        groups = np.split(wanted, 1 + np.flatnonzero(np.diff(held // AHEAD)))
        return np.concatenate([self._decode(self._read(group)) for group in groups])[places.reshape(rows.shape)]

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """An epoch: every row once. The shards in a random order, then `buffer` images after `buffer` images shuffled.

        So what is read in one stretch of training lies in a few shards, and is read in long pieces.
        """
        bounds = np.searchsorted(self.entries["shard"], np.arange(len(self.urls) + 1))
        kind = np.int32 if len(self) < 2**31 else np.int64
        shards = rng.permutation(len(self.urls))
        order = np.concatenate([np.arange(bounds[shard], bounds[shard + 1], dtype=kind) for shard in shards])
        for start in range(0, len(order), self.buffer):
            rng.shuffle(order[start : start + self.buffer])
        return order

    def batches(self, parts: Iterator[np.ndarray], num: int) -> Iterator[np.ndarray]:
        """The images of each of the `parts`, arrays of rows.

        The files of the next `num` parts are read meanwhile, or of as many as take AHEAD bytes.
        """

        def block() -> tuple[list[np.ndarray], np.ndarray, list[Encoded]]:
            some, held = [], 0
            while len(some) < num and held < AHEAD and (part := next(parts, None)) is not None:
                some.append(part)
                held += int(self.entries["num_bytes"][part].sum(dtype=np.int64))
            if held >= 2 * AHEAD:  # very large images: not ahead
                return some, np.empty(0, int), []
            rows = np.unique(np.concatenate(some)) if some else np.empty(0, int)
            return some, rows, self._read(rows)

        with ThreadPoolExecutor(1, "genzoo-stream") as thread:
            ahead = thread.submit(block)
            while (found := ahead.result())[0]:
                ahead = thread.submit(block)
                some, rows, files = found
                for part in some:
                    yield self._decode([files[i] for i in np.searchsorted(rows, part)]) if files else self[part]

    def _read(self, rows: np.ndarray) -> list[Encoded]:
        """The files of rows in ascending order, in few and long reads."""
        from fsspec.utils import merge_offset_ranges

        entries = self.entries[rows]
        starts = entries["offset"].tolist()
        ends = (entries["offset"] + entries["num_bytes"]).tolist()
        paths = [self._paths[shard] for shard in entries["shard"]]
        pieces = merge_offset_ranges(paths, starts, ends, max_gap=GAP, max_block=BLOCK, sort=False)
        try:
            contents = self._files.cat_ranges(*pieces, on_error="raise")
        except Exception as error:  # each kind of store raises its own
            raise UserError(f"{self.urls[0]} and the shards beside it cannot be read: {error}") from error
        piece, files, last = zip(*pieces, contents, strict=True), [], None
        for path, start, end, shard in zip(paths, starts, ends, entries["shard"], strict=True):
            while last is None or last[0] != path or last[2] < end:
                last = next(piece)
            content = memoryview(last[3])[start - last[1] : end - last[1]]
            files.append(Encoded(f"{self.urls[shard]}: the image at byte {start}", content))
        return files

    def _decode(self, files: list[Encoded]) -> np.ndarray:
        found = list(decode_all(files, self.image_shape, max_pixels=self.max_pixels))
        return np.concatenate(found) if found else np.empty((0, *self.shape[1:]), np.uint8)
