"""Files appear whole or not at all."""

import os

import pytest

from fusionops.files import (
    atomic_file,
    remove_abandoned,
    replacing_file,
    write_atomically,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "folder" / "x.bin"
    write_atomically(target, b"old")
    with pytest.raises(TypeError):
        write_atomically(target, "no bytes")
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target]
    write_atomically(target, b"new")
    assert target.read_bytes() == b"new"


def test_only_abandoned_temporaries_are_removed(tmp_path):
    target = tmp_path / "x[1].bin"
    (tmp_path / ".x[1].bin.saving-dead").write_bytes(b"half")
    (tmp_path / ".x1.bin.saving-other").write_bytes(b"half")
    with atomic_file(target, ".x[1].bin.saving-") as file:
        file.write(b"new")
        remove_abandoned(tmp_path, ".x[1].bin.saving-")
    assert target.read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".x1.bin.saving-other", target.name]


def test_the_umask_decides_who_may_read(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "x", b"new")
        os.umask(0)
        write_atomically(tmp_path / "y", b"new")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "y").stat().st_mode & 0o777 == 0o666


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_written_through(tmp_path, exists):
    target, link = tmp_path / "far" / "x", tmp_path / "link"
    target.parent.mkdir()
    if exists:
        target.write_bytes(b"old")
    link.symlink_to(target)
    (target.parent / ".x.saving-dead").write_bytes(b"half")
    with replacing_file(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]
    assert set(tmp_path.iterdir()) == {target.parent, link}
