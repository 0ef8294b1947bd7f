"""Text files are read whole, with all of their bytes."""

import pytest

from dnet.linux import files


@pytest.mark.parametrize(
    "data", [b"", b"plain\n", "w\u00e9b\n".encode(), b"latin \xe9\xff\n", b"cut off \xf0\x9f\n", b"\0\x80"]
)
def test_bytes_are_kept(tmp_path, data):
    """Whatever bytes a file has, its text made bytes again is those."""
    path = tmp_path / "file"
    path.write_bytes(data)
    assert files.read(str(path)).encode(errors="surrogateescape") == data


def test_nothing_to_read(tmp_path):
    """What is no file, or cannot be read, has no text and no number."""
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path, tmp_path / "missing", tmp_path / "missing" / "file", tmp_path / "loop"):
        assert files.read(str(path)) == ""
        assert files.read_number(str(path)) is None


@pytest.mark.parametrize(
    ("text", "number"), [("7", 7), ("0\n", 0), (" 12 \n", 12), ("", None), ("-1", None), ("0x1", None), ("1 2", None)]
)
def test_numbers(tmp_path, text, number):
    """A file that holds one decimal number, and nothing else but space, is that number."""
    path = tmp_path / "file"
    path.write_text(text)
    assert files.read_number(str(path)) == number
