"""Root directories of containers: their programs and users, and the layers over the host's files."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress

from dnet.errors import InvalidRequest, RuntimeFailed, Unsupported
from dnet.linux import files
from dnet.runtime import bundle
from dnet.runtime.bundle import Layer, User
from dnet.runtime.oci import EXIT_MISSING, EXIT_UNFIT

LINKS_MAX = 40  # the kernel's own limit (MAXSYMLINKS)
EXECUTABLE_BITS = 0o111
PERMISSION_BITS = 0o7777
# elf(5): the first bytes of e_ident, and how many there are to the end of e_machine.
ELF, ELF_64_BITS, ELF_BYTES = b"\x7fELF", b"\2", 20
HANDLERS = "/proc/sys/fs/binfmt_misc"


def check_root(rootfs: str, state_dir: str) -> None:
    """Raise an error unless a container can have this root directory, or, with none, the host's files."""
    if rootfs and not os.path.isdir(rootfs):
        hint = "unpack an image there, or leave out --rootfs"
        raise InvalidRequest(f"the root directory {rootfs} is not a directory", object=rootfs, hint=hint)
    if rootfs and os.path.samefile(rootfs, "/"):
        hint = "leave out --rootfs: the container then sees the host's files, and writes to a layer of its own"
        raise InvalidRequest(f"the root directory {rootfs} is the host's own", object=rootfs, hint=hint)
    kind = "" if rootfs else bundle.type_at(state_dir, _mounted())
    if kind in bundle.UPPERLESS:
        sentence = f"what containers write cannot be kept in {state_dir}, which is on a file system of type {kind}"
        hint = "use --rootfs, or a --state-dir on ext4, xfs or tmpfs"
        raise Unsupported(sentence, object=state_dir, hint=hint)


def find_program(root: str, program: str, path: str, workdir: str) -> str:
    """Find a program's file below `root` in the directories `path`, as execvp(3) does, or raise RuntimeFailed."""
    is_there = False
    for directory in [workdir] if "/" in program else path.split(":"):
        with suppress(OSError):
            file = inside(root, f"{directory}/{program}" if program[0] != "/" else program)
            found = os.stat(file)
            is_there = True
            if stat.S_ISREG(found.st_mode) and found.st_mode & EXECUTABLE_BITS:
                return file
    if is_there:
        sentence = f"the program {program} cannot be executed"
        raise RuntimeFailed(sentence, object=program, hint="see its permissions", exit_code=EXIT_UNFIT)
    hint = "give its path, or a rootfs that has it" if "/" in program else f"it is looked for in {path}"
    raise RuntimeFailed(f"there is no program {program}", object=program, hint=hint, exit_code=EXIT_MISSING)


def is_fit(file: str) -> bool:
    """Whether the kernel can execute a file, judged by its first bytes."""
    try:
        with open(file, "rb") as opened, open("/proc/self/exe", "rb") as own:
            head, ours = opened.read(ELF_BYTES), own.read(ELF_BYTES)
    except OSError:
        return True
    if head[:4] == ELF:
        # A 64-bit kernel may run 32-bit programs, too. Compared are byte order and machine.
        is_foreign = head[4:5] == ours[4:5] == ELF_64_BITS and (head[5:6], head[18:20]) != (ours[5:6], ours[18:20])
    else:
        is_foreign = head[:2] != b"#!"
    return not is_foreign or _has_handlers()


def _has_handlers() -> bool:
    """Whether binfmt_misc has handlers, so that the kernel may execute further formats."""
    with suppress(OSError):
        return not {"register", "status"}.issuperset(os.listdir(HANDLERS))
    return False


def find_user(root: str, text: str) -> User:
    """Return the user that `user[:group]` means below `root`."""
    return bundle.find_user(text, *(files.read(inside(root, path)) for path in ("/etc/passwd", "/etc/group")))


def inside(root: str, path: str) -> str:
    """Return where a container's path is on the host; links cannot leave `root`, which has no slash at its end."""
    done: list[str] = []
    todo = path.split("/")[::-1]
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            del done[-1:]
        elif part not in {"", "."}:
            file = "/".join((root, *done, part))
            if os.path.islink(file) and links < LINKS_MAX:
                links += 1
                target = os.readlink(file)
                done = [] if target.startswith("/") else done
                todo += target.split("/")[::-1]
            else:
                done.append(part)
    return "/".join((root, *done)) or "/"


def lay_out(directory: str, hidden: Sequence[str]) -> list[Layer]:
    """Make `rootfs/` for mounts of the host's files, and overlayfs's `upper/` and `work/`; return the layers to mount.

    What the container wrote in earlier runs is kept.
    """
    root = f"{directory}/rootfs"
    if os.path.isdir(f"{directory}/work"):
        # It is marked by the last volatile mount, so overlayfs would refuse it.
        files.remove(f"{directory}/work")
    for path in (root, f"{directory}/upper", f"{directory}/work"):
        os.makedirs(path, exist_ok=True)
    os.chmod(root, 0o755)  # noqa: S103  it is the container's /
    found = []
    for layer in bundle.layers(_show_root(root), _mounted(), hidden):
        if os.path.isdir(layer.path):
            found.append(layer)
            if layer.is_overlaid:
                _make_like(layer.path, f"{directory}/upper/{layer.name}")
                os.mkdir(f"{directory}/work/{layer.name}")
        elif os.path.isfile(layer.path):
            found.append(Layer(layer.path, is_overlaid=False))
    _make_files(f"{directory}/upper/etc")
    return found


def _show_root(root: str) -> list[str]:
    """Copy links and empty directories of the host's root; return the paths of everything else there."""
    rest = []
    for entry in os.scandir("/"):
        if entry.is_symlink():
            with suppress(FileExistsError):
                os.symlink(os.readlink(entry.path), f"{root}/{entry.name}")
        elif entry.is_dir() and next(os.scandir(entry.path), None) is None:
            _make_like(entry.path, f"{root}/{entry.name}")
        elif entry.is_dir() or entry.is_file():
            rest.append(entry.path)
    return rest


def _make_like(original: str, path: str) -> None:
    """Make a directory with another's owner and permissions; overlayfs shows those of the upper one."""
    with suppress(FileExistsError):
        os.mkdir(path)
        found = os.stat(original)
        os.chown(path, found.st_uid, found.st_gid)
        os.chmod(path, found.st_mode & PERMISSION_BITS)


def _make_files(upper_etc: str) -> None:
    """Make files to mount on where the host has links, such as /etc/resolv.conf, that lead nowhere inside."""
    for name in bundle.FILES:
        if os.path.islink(f"/etc/{name}") and os.path.isdir(upper_etc):
            with suppress(FileExistsError):
                os.close(os.open(f"{upper_etc}/{name}", os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))


def _mounted() -> dict[str, str]:
    return bundle.mounted(files.read("/proc/self/mountinfo"))
