"""What a file is that is neither a zip nor an array, by its first bytes, and what to do with it."""

from pathlib import Path

TORCH = "a torch file, which is never loaded: save its images with numpy.save, and give the .npy"
KINDS = (  # by the first bytes, and what to do
    (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P", TORCH),
    (b"\x80", "a Python pickle, which is never loaded: save its images with numpy.save, and give the .npy"),
    (b"\x93NUMPY", "a NumPy array: give it the suffix .npy"),
    (b"\x89HDF", "an HDF5 file: save its images with numpy.save"),
    (b"PAR1", "a Parquet table: data.name=hf reads its folder"),
    (b"\x1f\x8b", "a gzip file: unpack it"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it"),
    (b"Rar!", "a RAR archive: unpack it"),
    (b"\x89PNG", "one image: give the folder that it is in"),
    (b"\xff\xd8\xff", "one image: give the folder that it is in"),
)


def kind(path: Path) -> str:
    """What a file is that is no zip, as far as its first bytes tell, with the remedy; or ""."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:  # such as of what only looks like a file
        return f"a file that cannot be read ({error.strerror})"
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it, or train on it with data.name=webdataset"
    return next((what for start, what in KINDS if head.startswith(start)), "")
