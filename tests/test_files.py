"""Files appear whole or not at all."""

import pytest

from fusionops.files import write_atomically


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "folder" / "x.bin"
    write_atomically(target, b"old")
    with pytest.raises(TypeError):
        write_atomically(target, "no bytes")
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target]
    write_atomically(target, b"new")
    assert target.read_bytes() == b"new"
