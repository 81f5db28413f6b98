import gzip
import io
import subprocess
import sys
import tarfile
import textwrap
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genzoo.data.tar import BadTar, members, unpacked

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=300).filter(
    lambda name: name.strip("/") and not name.endswith("/")
)


def packed(contents, kind):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
        for name, content in contents:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1.5
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def found(data, stream):
    return [(member.name, read()) for member, read in members(io.BytesIO(data), None if stream else len(data))]


@given(
    contents=st.lists(st.tuples(NAMES, st.binary(max_size=2000)), max_size=5),
    kind=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    stream=st.booleans(),
)
def test_reads_what_pythons_tarfile_wrote(contents, kind, stream):
    data = packed(contents, kind)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        expected = [(info.name, info.size, info.offset_data) for info in archive]
    assert [content for _, content in found(data, stream)] == [content for _, content in contents]
    assert [(m.name, m.size, m.offset_data) for m, _ in members(io.BytesIO(data), None)] == expected


def test_what_is_no_file_has_no_content():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo("x")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    data = file.getvalue()
    assert [m.kind for m, _ in members(io.BytesIO(data), None)] == ["folder", "link", "link", "pipe", "device"]
    assert all(read() == b"" for _, read in members(io.BytesIO(data), None))


def test_a_tar_of_the_system(tmp_path):
    """GNU tar's own long names and sparse files."""
    (tmp_path / ("n" * 150)).write_bytes(b"long")
    with (tmp_path / "sparse").open("wb") as file:
        for place in range(0, 40 << 20, 1 << 20):
            file.seek(place)
            file.write(b"x")
        file.truncate(1 << 30)
    for kind in ("gnu", "posix", "oldgnu"):
        done = subprocess.run(
            ["tar", "--sparse", f"--format={kind}", "-cf", tmp_path / "x.tar", "-C", tmp_path, "sparse", "n" * 150],
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
        data = (tmp_path / "x.tar").read_bytes()
        kinds = {m.name[-10:]: (m.kind, read()) for m, read in members(io.BytesIO(data), len(data)) if m.size < 100}
        assert kinds["n" * 10] == ("file", b"long")
        assert "sparse file" in [m.kind for m, _ in members(io.BytesIO(data), None)]


@given(
    data=st.binary(min_size=1, max_size=8), place=st.integers(0, 2600), cut=st.integers(0, 3000), stream=st.booleans()
)
def test_damage_is_noticed_or_harmless(data, place, cut, stream):
    whole = packed([("a" * 120 + ".png", b"1" * 600), ("b.png", b"2" * 10)], tarfile.PAX_FORMAT)
    for damaged in (whole[:place] + data + whole[place + len(data) :], whole[:cut]):
        try:
            assert all(len(content) <= len(whole) for _, content in found(damaged, stream))
        except BadTar as error:
            assert "at byte" in str(error)


def header(**changes):
    info = tarfile.TarInfo("x.png")
    for key, value in changes.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.GNU_FORMAT)


HOSTILE = {
    "attributes of 3 GB": (header(type=tarfile.XHDTYPE, size=3 << 30), "bytes of attributes of one member"),
    "a name of 3 GB": (header(type=tarfile.GNUTYPE_LONGNAME, size=3 << 30), "bytes of attributes of one member"),
    "a member of 8 EB": (header(size=8 << 60), "the archive ends before"),
    "a negative size": (header(size=-512), "is no size"),
    "attributes without an end": (header(type=tarfile.XHDTYPE, size=512) + b"9" * 512, "attributes of a member"),
    "attributes longer than themselves": (
        header(type=tarfile.XHDTYPE, size=20) + b"900 path=x\n".ljust(512, b"\0"),
        "attributes of a member",
    ),
    "a negative size in attributes": (
        header(type=tarfile.XHDTYPE, size=13) + b"13 size=-512\n".ljust(512, b"\0") + header(),
        "is no size",
    ),
    "no end": (header(), "the archive ends before 'a header'"),
    "no tar": (b"<html>" * 200, "is no size|no header of a tar"),
    "nothing": (b"", "the archive ends before 'a header'"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", HOSTILE)
def test_headers_lie(name, stream, less_than):
    data, message = HOSTILE[name]
    began = time.process_time()
    with less_than(10), pytest.raises(BadTar, match=message):
        found(data, stream)
    assert time.process_time() - began < 1


def test_a_packed_archive_unpacks_in_proportion():
    """A 3 GB tar of zeros in 3 MB."""
    data = gzip.compress(header(size=3 << 30)) + gzip.compress(bytes(64 << 20), 1) * 48
    with pytest.raises(BadTar, match="more than 100 times its size"), unpacked(io.BytesIO(data)) as (file, was_packed):
        assert was_packed
        list(members(file))


def test_two_hundred_sparse_members(tmp_path):
    """Of 255 MB each, in a tar of some kilobytes: refused, in less memory than one of them takes."""
    with (tmp_path / "0.png").open("wb") as file:
        file.truncate(255 << 20)
    for i in range(1, 200):
        (tmp_path / f"{i}.png").hardlink_to(tmp_path / "0.png")
    tar = ["tar", "--sparse", "--hard-dereference", "-cf", tmp_path / "x.tar", "-C", tmp_path]
    subprocess.run([*tar, *(f"{i}.png" for i in range(200))], check=True)
    assert (tmp_path / "x.tar").stat().st_size < 300_000
    script = textwrap.dedent("""
        import resource, sys
        from genzoo.data.webdataset import WebDataset
        from genzoo.errors import UserError
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        dataset = WebDataset(WebDataset.Config(root=sys.argv[1], size=8))
        dataset.locate()
        try:
            list(dataset.read("train"))
        except UserError as error:
            print("is a sparse file" in str(error), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000)
    """)
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "x.tar"], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "True"], done.stderr
