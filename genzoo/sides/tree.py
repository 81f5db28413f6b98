"""A side that is files of images, in a folder or a zip."""

from collections import Counter
from collections.abc import Iterator
from functools import partial

import numpy as np

from genzoo.errors import UserError
from genzoo.evaluation.images import Images, digest_of, spread
from genzoo.images.decode import look_at, stored_of
from genzoo.images.pool import each
from genzoo.images.tree import Tree

LOSSY = ("JPEG", "MPO", "WEBP")


def from_tree(name: str, tree: Tree, num: int | None = None) -> Images:
    """Image files, each decoded as it is (`decode.stored`).

    UserError for an empty tree, and for files that are no images (all of them counted, the first named).
    """
    tree.refuse_empty()
    names = [tree.names[k] for k in spread(len(tree.names), num)]
    seen = list(each(partial(look_at, tree), names, tree.num_bytes, in_processes=True))
    bad = [(file, fault) for file, fault in zip(names, seen, strict=True) if isinstance(fault, str)]
    if bad:
        raise UserError(
            f"{len(bad)} of {len(names)} files cannot be used, the first: {tree.place(bad[0][0])}: {bad[0][1]}"
        )
    digests = [header.sha256 for header in seen]
    found = {
        "count": len(names),
        "folders": tree.folders(names),
        "sizes": Counter(f"{w}x{h}" for w, h in (header.size for header in seen)),
        "modes": Counter(header.mode for header in seen),
        "formats": Counter(header.format for header in seen),
        "lossy": sum(header.format in LOSSY for header in seen),
        "duplicates": len(names) - len(set(digests)),
        "sideways": sum(header.sideways for header in seen),
        "alpha": sum(header.alpha for header in seen),
        "passed over": tree.passed_over.counts,
    }
    num_bytes = {file: header.num_bytes for file, header in zip(names, seen, strict=True)}

    def read(index: np.ndarray) -> Iterator[np.ndarray]:
        return each(partial(stored_of, tree), [names[k] for k in index], num_bytes.__getitem__, in_processes=True)

    return Images(name, len(names), digest_of(digests, {}), read, found)
