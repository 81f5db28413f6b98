"""What the system refuses is told in one sentence with the path and the remedy."""

import errno
import os

import pytest

from genzoo.errors import UserError, refusal
from genzoo.files import check_writable, replacing, write_text


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.ENOSPC, "make room"), (errno.EMFILE, "ulimit -n"), (errno.EACCES, "permissions"), (errno.ELOOP, "correct")],
)
def test_a_full_disk_is_told_with_the_file_that_was_to_be(tmp_path, number, remedy):
    wanted = tmp_path / "out.npz"
    with pytest.raises(OSError, match=r"out\.npz") as failed, replacing(wanted):
        raise OSError(number, os.strerror(number))
    assert str(wanted) in refusal(failed.value) and remedy in refusal(failed.value)
    assert not list(tmp_path.iterdir())


def test_a_refused_file_is_told_by_its_own_name(tmp_path):
    with pytest.raises(OSError, match="other") as failed, replacing(tmp_path / "out.npz"):
        open(tmp_path / "other")  # noqa: SIM115
    assert "other: there is no such file" in refusal(failed.value)


def test_the_command_line_tells_it_and_exits_with_2(call, monkeypatch, tmp_path):
    def full(path, text):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("genzoo.recipe.read", lambda *_, **__: full(tmp_path / "x\x1b[1m", ""))
    code, _, said = call("run", "svae_digits")
    assert code == 2 and said.startswith("genzoo: ") and "the disk is full; make room" in said
    assert said.count("\n") == 1 and "\x1b" not in said


@pytest.mark.parametrize("below", ["", "a/b.png"])
def test_a_link_that_leads_nowhere_is_no_place_to_write(tmp_path, below):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match=r"link is a link to .*gone, which is not there; make that folder"):
        check_writable(tmp_path / "link" / below)
    (tmp_path / "gone").mkdir()
    check_writable(tmp_path / "link" / below)
    write_text(tmp_path / "link" / "x", "y")
