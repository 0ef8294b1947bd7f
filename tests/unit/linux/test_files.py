"""Files, directories and links on disk: made, rewritten, moved and removed."""

from __future__ import annotations

import ctypes
import errno
import os
import threading

import pytest

from dnet.errors import Conflict, KernelRefused
from dnet.linux import files
from dnet.objects.host import Directory, File, NftTable, Symlink

MS_RDONLY, MS_REMOUNT, MS_BIND = 1, 32, 4096


@pytest.fixture
def items(tmp_path) -> list[Directory | File | Symlink]:
    """Return a directory with two files, and a link to it."""
    box = tmp_path / "box"
    return [
        Directory(str(box)),
        File(f"{box}/hosts", "127.0.0.1\tlocalhost\n"),
        File(f"{box}/hostname", "wéb\n"),
        Symlink(str(tmp_path / "web"), str(box)),
    ]


def edit(path: str, text: str) -> bool:
    """Replace a file's text."""
    return files.edit(path, lambda _: text)


def names(path) -> list[str]:
    """Return what is in a directory."""
    return sorted(os.listdir(path))


def test_everything_is_made(items, tmp_path):
    """Directory, files and link exist, with their text in UTF-8."""
    files.create(items)
    assert (tmp_path / "web" / "hosts").read_text() == "127.0.0.1\tlocalhost\n"
    assert (tmp_path / "web" / "hostname").read_bytes() == b"w\xc3\xa9b\n"
    assert os.readlink(tmp_path / "web") == str(tmp_path / "box")


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o000])
def test_everybody_may_read(items, tmp_path, mask):
    """Everybody may read the files and nobody but root write them, whatever umask the caller has."""
    before = os.umask(mask)
    try:
        files.create(items)
    finally:
        os.umask(before)
    assert (tmp_path / "box").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "box" / "hosts").stat().st_mode & 0o777 == 0o644


def test_everything_is_removed(items, tmp_path):
    """Directory and link are gone, whatever somebody has put into the directory besides."""
    files.create(items)
    (tmp_path / "box" / "more").touch()
    (tmp_path / "box" / "leading-elsewhere").symlink_to("/nowhere")
    files.delete(items)
    assert names(tmp_path) == []


def test_removing_twice_is_no_failure(items, tmp_path):
    """What is missing already is no failure, nor what was never made, nor half of it."""
    files.delete(items)
    files.create(items[:2])
    files.delete(items)
    files.delete(items)
    assert names(tmp_path) == []


def test_directory_in_a_directory_is_removed(items, tmp_path):
    """A directory that somebody has made inside, as `ip netns exec` users do for nsswitch and the like, goes along."""
    files.create(items)
    (tmp_path / "box" / "resolver" / "deep").mkdir(parents=True)
    (tmp_path / "box" / "resolver" / "deep" / "file").touch()
    files.delete(items)
    assert names(tmp_path) == []


def test_link_that_is_there_already(items, tmp_path):
    """A link that leads where it should is as good as made."""
    (tmp_path / "web").symlink_to(tmp_path / "box")
    files.create(items)
    assert (tmp_path / "web" / "hosts").exists()


@pytest.mark.parametrize("kind", ["file", "directory", "link elsewhere", "link to nowhere"])
def test_foreign_link_place(items, tmp_path, kind):
    """What somebody else has where a link belongs is a Conflict that names the place; it stays, also when deleting."""
    place = tmp_path / "web"
    match kind:
        case "file":
            place.write_text("theirs")
        case "directory":
            place.mkdir()
            (place / "theirs").touch()
        case "link elsewhere":
            place.symlink_to("/proc")
        case "link to nowhere":
            place.symlink_to("/nowhere")
    before = os.lstat(place)
    with pytest.raises(Conflict, match="web") as caught:
        files.create(items)
    assert caught.value.hint
    files.delete(items)
    after = os.lstat(place)
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert names(tmp_path) == ["web"]


def test_refusal_names_the_object(tmp_path):
    """What the file system refuses names the object, in its words and with its errno."""
    with pytest.raises(KernelRefused, match="No such file or directory") as caught:
        files.create([File(str(tmp_path / "absent" / "hosts"), "x")])
    assert caught.value.errno == errno.ENOENT
    assert "absent/hosts" in str(caught.value)
    (tmp_path / "file").touch()
    with pytest.raises(KernelRefused, match="Not a directory"):
        files.create([Directory(str(tmp_path / "file" / "below"))])


def test_existing_file_is_not_overwritten(tmp_path):
    """A file that is there already is refused, and stays as it is."""
    path = tmp_path / "hosts"
    path.write_text("theirs")
    with pytest.raises(KernelRefused, match="File exists"):
        files.create([File(str(path), "ours")])
    assert path.read_text() == "theirs"


def test_link_is_not_followed(tmp_path):
    """A link where a file belongs is refused: nothing is written to where it leads."""
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "hosts").symlink_to(tmp_path / "theirs")
    with pytest.raises(KernelRefused):
        files.create([File(str(tmp_path / "hosts"), "ours")])
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_objects_of_others_are_a_mistake():
    """An object that is no file is a mistake of the caller's."""
    with pytest.raises(TypeError):
        files.create([NftTable()])


def test_bytes_are_kept(tmp_path):
    """What was no UTF-8 where a text came from is the same bytes in a file that is made, or rewritten, with it."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.write_bytes(b"192.0.2.1 caf\xe9\n")
    files.create([File(str(ours), files.read(str(theirs)))])
    assert ours.read_bytes() == theirs.read_bytes()
    assert edit(str(ours), files.read(str(ours)) + "more\n")
    assert ours.read_bytes() == b"192.0.2.1 caf\xe9\nmore\n"


@pytest.mark.parametrize("text", ["", "shorter\n", "longer " * 1000, "é" * 10])
def test_rewriting_keeps_the_file(tmp_path, text):
    """A file that is rewritten holds the new text and nothing else, and is still the same file, mounts included."""
    path = tmp_path / "resolv.conf"
    path.write_text("as it was before\n")
    with path.open() as reader:
        before = path.stat()
        edit(str(path), text)
        assert path.read_text() == text == reader.read()
    assert (path.stat().st_ino, path.stat().st_mode) == (before.st_ino, before.st_mode)


def test_editing(tmp_path):
    """A file gets what is made of its text; one that is not there, or has grown beyond all measure, is left."""
    path = tmp_path / "hosts"
    assert not files.edit(str(path), str.upper)
    path.write_text("host\n")
    assert files.edit(str(path), str.upper)
    assert path.read_text() == "HOST\n"
    for size in (files.EDITED_BYTES_MAX, files.EDITED_BYTES_MAX + 1):
        path.write_text("a" * size)
        assert files.edit(str(path), str.upper) == (size == files.EDITED_BYTES_MAX)
        assert (path.read_text() == "A" * size) == (size == files.EDITED_BYTES_MAX)
        assert path.stat().st_size == size


def test_editing_what_cannot_be_written(tmp_path):
    """A file that cannot be written is no failure where it stays as it is; else the error names it."""
    place = tmp_path / "read-only"
    place.mkdir()
    path = place / "hosts"
    path.write_text("HOST\n")
    libc = ctypes.CDLL(None, use_errno=True)

    def mount(flags: int) -> None:
        target = str(place).encode()
        if libc.mount(target, target, None, ctypes.c_ulong(flags), None):
            raise OSError(ctypes.get_errno(), "mount")

    mount(MS_BIND)
    try:
        mount(MS_BIND | MS_REMOUNT | MS_RDONLY)
        assert files.edit(str(path), str.upper)
        with pytest.raises(KernelRefused, match=f"write {path}: Read-only file system"):
            files.edit(str(path), str.lower)
    finally:
        assert libc.umount2(str(place).encode(), 2) == 0
    assert path.read_text() == "HOST\n"


def test_reader_never_sees_an_empty_file(tmp_path):
    """While a file is rewritten again and again, a reader never finds it empty."""
    path = tmp_path / "resolv.conf"
    texts = ["nameserver 192.0.2.1\n" * 3, "nameserver 192.0.2.2\n"]
    path.write_text(texts[0])
    is_over = threading.Event()

    def rewrite() -> None:
        for number in range(3000):
            edit(str(path), texts[number % 2])
        is_over.set()

    writer = threading.Thread(target=rewrite)
    writer.start()
    sizes = set()
    while not is_over.is_set():
        sizes.add(path.stat().st_size)
    writer.join()
    assert 0 not in sizes


def test_rename(tmp_path):
    """A link is moved as it is; one that is not there is no failure."""
    (tmp_path / "web").symlink_to("/nowhere")
    files.rename(str(tmp_path / "web"), str(tmp_path / "front"))
    files.rename(str(tmp_path / "absent"), str(tmp_path / "other"))
    assert names(tmp_path) == ["front"]
    assert os.readlink(tmp_path / "front") == "/nowhere"


def test_remove_links(tmp_path):
    """Links are removed, where they lead to stays, and one that is gone already is no failure."""
    (tmp_path / "target").touch()
    (tmp_path / "a").symlink_to(tmp_path / "target")
    files.remove_links([str(tmp_path / "a"), str(tmp_path / "absent")])
    assert names(tmp_path) == ["target"]
