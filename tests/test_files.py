"""Files appear whole or not at all."""

import pytest

from fusionops.files import atomic_file, remove_abandoned, write_atomically


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
