"""Removing what a container's process leaves."""

import os

import pytest

from dnet.errors import KernelRefused
from dnet.linux import files


def test_all_goes(tmp_path):
    """Directories go with all that is in them; where a link leads, nothing is touched."""
    kept, gone = tmp_path / "kept", tmp_path / "gone"
    kept.mkdir()
    (kept / "file").touch()
    (gone / "a/b").mkdir(parents=True)
    (gone / "a/file").touch()
    (gone / "a/b/link").symlink_to(kept)
    files.remove(str(gone), str(tmp_path / "missing"))
    assert [path.name for path in tmp_path.rglob("*")] == ["kept", "file"]


@pytest.mark.parametrize(("name", "count"), [("deeper", 2000), ("\N{GRINNING FACE}" * 63, 40), (b"\xff" * 255, 40)])
def test_deeper_than_a_path(tmp_path, monkeypatch, name, count):
    """What a container has nested deeper than a path can say, and than Python recurses, goes as well."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    for _ in range(count):
        os.mkdir(name)
        os.chdir(name)
    monkeypatch.undo()
    files.remove(str(tmp_path / "gone"))
    assert list(tmp_path.iterdir()) == []


def test_not_a_directory(tmp_path):
    """What is none is left, and named."""
    (tmp_path / "file").touch()
    with pytest.raises(KernelRefused, match=f"cannot remove {tmp_path}/file"):
        files.remove(str(tmp_path / "file"))
