"""Creates, edits and deletes files, directories and links. Text keeps all bytes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from dnet.errors import Conflict, KernelRefused
from dnet.objects.host import Directory, File, Symlink
from dnet.objects.object import Object

LEGACY_TABLES_PATH = "/proc/net/ip_tables_names"
EDITED_BYTES_MAX = 1 << 24
LOOKS_MAX = 100  # at single names: one at a directory with thousands takes as long


def create(items: Iterable[Object]) -> None:
    """Create files in their order; a link's place that is taken is a conflict, unless it leads there already."""
    for item in items:
        try:
            match item:
                case Directory():
                    os.mkdir(item.path)
                    os.chmod(item.path, 0o755)  # noqa: S103  whatever the umask: containers have other users than root
                case File():
                    _write(item.path, item.text)
                case Symlink():
                    _link(item)
                case _:
                    raise TypeError(item)
        except OSError as error:
            raise KernelRefused(f"create {item}", error.errno or 0, str(error.strerror)) from error


def delete(items: Sequence[Object]) -> None:
    """Delete links that still lead where they led, and directories with all that is in them."""
    for item in items:
        try:
            match item:
                case Symlink():
                    if os.path.islink(item.path) and os.readlink(item.path) == item.target:
                        os.unlink(item.path)
                case Directory():
                    remove(item.path)
        except OSError as error:
            raise KernelRefused(f"remove {item}", error.errno or 0, str(error.strerror)) from error


def edit(path: str, change: Callable[[str], str]) -> bool:
    """Make another text of a file's, in place, so that a mount of it shows it at once; return whether it has it.

    The new text goes over the old one before the rest is cut off: at no moment is the file empty. One that is not
    there, or that a container has filled beyond all measure, is left alone.
    """
    try:
        descriptor, refusal = _open(path)
    except FileNotFoundError:
        return False
    try:
        size = os.fstat(descriptor).st_size
        if size > EDITED_BYTES_MAX:
            return False
        before = os.read(descriptor, size)
        after = change(before.decode(errors="surrogateescape")).encode(errors="surrogateescape")
        if after != before:
            if refusal:
                raise refusal
            os.pwrite(descriptor, after, 0)
            os.ftruncate(descriptor, len(after))
    except OSError as error:
        raise KernelRefused(f"write {path}", error.errno or 0, str(error.strerror)) from error
    finally:
        os.close(descriptor)
    return True


def _open(path: str) -> tuple[int, OSError | None]:
    """Open a file for reading and writing, or, where it cannot be written, for reading; and why."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC), None
    except FileNotFoundError:
        raise
    except OSError as error:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC), error


def remove_links(paths: Iterable[str]) -> None:
    """Remove links, those that are gone already apart."""
    for path in paths:
        with suppress(FileNotFoundError):
            os.unlink(path)


def present(directory: str, names: Sequence[str]) -> list[str]:
    """Return which of some names a directory has; of many, by one look at all that it has."""
    if len(names) < LOOKS_MAX:
        return [name for name in names if os.path.lexists(os.path.join(directory, name))]
    try:
        there = set(os.listdir(directory))
    except FileNotFoundError:
        return []
    return [name for name in names if name in there]


def rename(before: str, after: str) -> None:
    """Move a link to another name, if it is there."""
    with suppress(FileNotFoundError):
        os.rename(before, after)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, text.encode(errors="surrogateescape"))
        os.fchmod(descriptor, 0o644)
    finally:
        os.close(descriptor)


def _link(item: Symlink) -> None:
    with suppress(FileExistsError):
        os.symlink(item.target, item.path)
        return
    if not os.path.islink(item.path) or os.readlink(item.path) != item.target:
        hint = "remove it if nothing needs it, or choose another name"
        raise Conflict(f"cannot create {item}: something else is there", object=item.path, hint=hint)


PATH_ENOUGH = 1000  # bytes, of the 4,096 that a path may have; 500 directories, of the 1,000 that Python recurses


def write(path: str, text: str) -> None:
    """Write a file such that nobody ever reads a part of it."""
    descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, text.encode(errors="surrogateescape"))
    finally:
        os.close(descriptor)
    os.rename(f"{path}.new", path)


def unlink(*paths: str) -> None:
    """Remove files, those that are gone already apart."""
    for path in paths:
        with suppress(FileNotFoundError):
            os.unlink(path)


def remove(*directories: str) -> None:
    """Remove directories with all that is in them, however deep; what is missing is no failure.

    Not shutil.rmtree: it gives up where a container has nested a thousand directories, and takes 3 ms to be imported.
    """
    for directory in directories:
        try:
            _remove(directory)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise KernelRefused(f"remove {directory}", error.errno or 0, str(error.strerror)) from error


def _remove(directory: str) -> None:
    while _empty(directory, directory):
        pass
    os.rmdir(directory)


def _empty(top: str, directory: str) -> bool:
    """Empty a directory, and move what lies too deep up to `top`; return whether there was such."""
    with os.scandir(directory) as found:
        entries = [*found]
    has_moved = False
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.path)
        elif len(os.fsencode(entry.path)) - len(os.fsencode(top)) > PATH_ENOUGH:
            os.rename(entry.path, f"{top}/{entry.inode()}.moved")
            has_moved = True
        else:
            has_moved |= _empty(top, entry.path)
            os.rmdir(entry.path)
    return has_moved


def read(path: str) -> str:
    """Return a file's text, nothing when it cannot be read.

    Bytes that are no UTF-8 become surrogates (PEP 383), which `encode(errors="surrogateescape")` makes bytes again.
    """
    try:
        with open(path, "rb", buffering=0) as file:  # half the time of a text file
            return (file.read() or b"").decode(errors="surrogateescape")
    except OSError:
        return ""


def legacy_tables() -> list[str]:
    """Return the tables that iptables-legacy has in this network namespace; nftables does not show them."""
    return read(LEGACY_TABLES_PATH).split()


def read_number(path: str) -> int | None:
    """Return the number that a file holds, or None."""
    text = read(path).strip()
    return int(text) if text.isdecimal() else None
