"""The OCI bundle: config.json of a container's process.

Capabilities, mounts and masked paths follow Docker's defaults (moby's oci package); there are no seccomp and AppArmor
profiles. The host's files are shown as overlays, one for each directory of its root and for each file system mounted
below. The OCI runtime mounts them in the container's mount namespace, so the host gets no mounts that could be left.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dnet.errors import InvalidRequest
from dnet.model.container import Container, Process
from dnet.model.values import Value, frozen

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
FILES = ("hosts", "hostname", "resolv.conf")
# Directories of the root that are the container's own.
OWN_DIRECTORIES = ("/proc", "/sys", "/dev", "/run")
# Other programs' container stores: mounts below belong to those programs' containers.
STORES = ("/var/lib/docker", "/var/lib/containers", "/var/lib/containerd", "/var/lib/kubelet", "/snap", "/var/snap")
# File systems that can be a lower layer of overlayfs, and other file systems of disks: those are shown read-only.
_OVERLAID = "ext2 ext3 ext4 xfs btrfs f2fs zfs bcachefs tmpfs overlay nfs nfs4 9p virtiofs"
OVERLAID = frozenset(_OVERLAID.split())
READ_ONLY = frozenset({"vfat", "exfat", "ntfs3", "fuseblk", "iso9660", "udf", "squashfs", "erofs", "cifs"})
# File systems that cannot be an upper layer of overlayfs.
UPPERLESS = frozenset({"overlay", "nfs", "nfs4", "cifs", "vfat", "exfat", "9p", "virtiofs"})
_ESCAPES = str.maketrans({character: f"\\{character}" for character in "\\,:"})

_CAPABILITIES = """
    AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP SETUID
    SYS_CHROOT
"""
_MASKED = "acpi asound interrupts kcore keys latency_stats sched_debug scsi timer_list timer_stats"
CAPABILITIES = [f"CAP_{name}" for name in _CAPABILITIES.split()]
MASKED_PATHS = [
    *(f"/proc/{name}" for name in _MASKED.split()),
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
]
READ_ONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
UMASK = 0o022
USER_NUMBER_MAX = (1 << 31) - 1
SHM_BYTES = 64 << 20
NAME_BYTES_MAX = 200  # of the 255 that a file system takes

_CONFINED = ["nosuid", "noexec", "nodev"]
_SYSTEM_MOUNTS: list[dict[str, Any]] = [
    {"destination": "/proc", "type": "proc", "source": "proc", "options": _CONFINED},
    {
        "destination": "/dev",
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    {
        "destination": "/dev/shm",  # noqa: S108
        "type": "tmpfs",
        "source": "shm",
        "options": [*_CONFINED, "mode=1777", f"size={SHM_BYTES}"],
    },
    {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": _CONFINED},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*_CONFINED, "ro"]},
]
_OWN_RUN = {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=755"]}


@frozen
class User(Value):
    """A user's numbers and home directory."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


@frozen
class Layer(Value):
    """A directory of the host that a container sees: writable through an overlay, or read-only."""

    path: str
    is_overlaid: bool

    @property
    def name(self) -> str:
        """Name of the layer's directories in `upper/` and `work/`."""
        name = self.path[1:].replace("%", "%25").replace("/", "%2F")
        encoded = name.encode(errors="surrogateescape")
        return name if len(encoded) <= NAME_BYTES_MAX else f"{zlib.crc32(encoded):08x}%{len(encoded)}"


def find_user(text: str, passwd: str, group: str) -> User:
    """Return the user that `user[:group]` means; `passwd` and `group` are the texts of the container's files.

    An empty text means root. As with Docker, numbers need no entry, and naming a group drops the user's other groups.
    """
    name, _, group_name = text.partition(":")
    name = name or "0"
    users = [words for words in _records(passwd, 6) if name in (words[0], words[2])]
    groups = _records(group, 3)
    if users:
        login, _, uid, gid, _, home = users[0][:6]
    elif name.isdecimal():
        login, uid, gid, home = "", name, "0", ""
    else:
        raise _unknown("user", name, "passwd")
    others: list[str] = []
    if group_name:
        found = [words[2] for words in groups if group_name in (words[0], words[2])]
        if not found and not group_name.isdecimal():
            raise _unknown("group", group_name, "group")
        gid = found[0] if found else group_name
    elif login:
        others = [words[2] for words in groups if login in ",".join(words[3:4]).split(",")]
    return User(_number(uid), _number(gid), tuple(sorted({_number(other) for other in others})), home or "/")


def _records(text: str, fields: int) -> list[list[str]]:
    lines = [line.split(":") for line in text.splitlines()]
    return [words for words in lines if len(words) >= fields and words[2].isdecimal()]


def _unknown(what: str, name: str, file: str) -> InvalidRequest:
    hint = f"name one of the container's /etc/{file}, or a number"
    return InvalidRequest(f"there is no {what} {name} in the container", object=name, hint=hint)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) > USER_NUMBER_MAX:
        raise InvalidRequest(f"{text} is not the number of a user or group", object=text)
    return int(text)


def mounted(mountinfo: str) -> dict[str, str]:
    """Return the file system's type at each mount point, from the text of /proc/self/mountinfo (proc(5))."""
    found = {}
    for line in mountinfo.splitlines():
        # Namespaces are pinned by the thousand; containers do not see them.
        if " - nsfs " not in line:
            before, _, after = line.partition(" - ")
            found[_unescaped(before.split(" ", 5)[4])] = after.partition(" ")[0]
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), text) if "\\" in text else text


def type_at(path: str, types: Mapping[str, str]) -> str:
    """Return the type of the file system that a path is on; `types` are those of the mount points."""
    while path not in types and path:
        path = path.rpartition("/")[0]
    return types.get(path or "/", "")


def layers(directories: Iterable[str], types: Mapping[str, str], hidden: Sequence[str]) -> list[Layer]:
    """Return the layers of the host's files: the `directories` of its root, and file systems mounted below them.

    `types` are the mount points' types; nothing below the `hidden` directories is shown.
    """
    left_out = (*OWN_DIRECTORIES, *STORES, *hidden)
    tops = {path for path in directories if not is_below(path, left_out)}
    below = {path for path in types if path != "/" and not is_below(path, left_out)}
    kinds = {path: type_at(path, types) for path in sorted(tops | below)}
    return [Layer(path, kind in OVERLAID) for path, kind in kinds.items() if kind in OVERLAID or kind in READ_ONLY]


def is_below(path: str, directories: Iterable[str]) -> bool:
    """Whether a path is one of some directories, or below one."""
    return any(path == directory or path.startswith(f"{directory}/") for directory in directories)


def config(
    container: Container,
    process: Process,
    user: User,
    *,
    root: str,
    cgroup: str,
    layers: Sequence[Layer] = (),
    directory: str = "",
    hidden: Sequence[str] = (),
    size: tuple[int, int] | None = None,
) -> str:
    """Return the text of config.json (OCI runtime specification 1.0).

    `root` is the root directory. `layers` of the host's files are mounted there; `directory` has their `upper/` and
    `work/`, and `hidden` directories are empty. `size` is the terminal's, in columns and lines.
    """
    namespaces: list[dict[str, str]] = [{"type": name} for name in ("pid", "mount", "uts", "ipc")]
    sysctl = {"kernel.domainname": container.settings.domainname} if container.settings.domainname else {}
    if container.sandbox:
        namespaces.append({"type": "network", "path": container.sandbox})
        # Users other than root may serve port 80, and ping.
        sysctl |= {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
    mounts = [_layer_mount(layer, directory, is_read_only=process.is_read_only) for layer in layers]
    mounts += [*_SYSTEM_MOUNTS, *([_OWN_RUN] if layers else [])]
    mounts += [
        {"destination": path, "type": "tmpfs", "source": "tmpfs", "options": [*_CONFINED, "ro", "size=4k"]}
        for path in hidden
    ]
    mounts += [_bind(f"{container.files}/{name}", f"/etc/{name}", is_read_only=process.is_read_only) for name in FILES]
    document = {
        "ociVersion": "1.0.2",
        "process": process_document(process, user, default_environment(container, process, user), size),
        "root": {"path": root, "readonly": process.is_read_only},
        "hostname": container.settings.hostname,
        "mounts": mounts,
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": namespaces,
            "sysctl": sysctl,
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "maskedPaths": MASKED_PATHS,
            "readonlyPaths": READ_ONLY_PATHS,
        },
    }
    return json.dumps(document)


def default_environment(container: Container, process: Process, user: User) -> dict[str, str]:
    """Return the variables of a container's first process that nobody asked for."""
    found = {"PATH": PATH, "HOSTNAME": container.settings.hostname, "HOME": user.home}
    return found | ({"TERM": "xterm"} if process.has_terminal else {})


def process_document(
    process: Process, user: User, environment: Mapping[str, str], size: tuple[int, int] | None
) -> dict[str, Any]:
    """Return config.json's `process`, which is also `exec`'s document; the process's own variables come last."""
    variables = {**environment, **dict(process.env)}
    own = CAPABILITIES if user.uid == 0 else []
    document = {
        "terminal": process.has_terminal,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups), "umask": UMASK},
        "args": list(process.args),
        "env": [f"{key}={value}" for key, value in variables.items()],
        "cwd": process.workdir or "/",
        # Users other than root have the bounding set alone, as after execve(2).
        "capabilities": {"bounding": CAPABILITIES, "effective": own, "permitted": own},
        "noNewPrivileges": False,
        "oomScoreAdj": 0,
    }
    if process.has_terminal and size:
        document["consoleSize"] = {"width": size[0], "height": size[1]}
    return document


def further_process(
    first: Mapping[str, Any], process: Process, user: User | None, size: tuple[int, int] | None
) -> dict[str, Any]:
    """Return the document of a further process in a container; `first` is its first's, `user` None means that one's."""
    environment = dict(text.split("=", 1) for text in first["env"])
    if user is None:
        numbers = first["user"]
        user = User(numbers["uid"], numbers["gid"], tuple(numbers["additionalGids"]), "")
    else:
        environment["HOME"] = user.home
    if process.has_terminal:
        environment.setdefault("TERM", "xterm")
    document = process_document(process, user, environment, size)
    return document | {"cwd": process.workdir or first["cwd"]}


def _layer_mount(layer: Layer, directory: str, *, is_read_only: bool) -> dict[str, Any]:
    if not layer.is_overlaid:
        return _bind(layer.path, layer.path, is_read_only=True)
    options = [
        f"lowerdir={_escaped(layer.path)}",
        f"upperdir={_escaped(f'{directory}/upper/{layer.name}')}",
        f"workdir={_escaped(f'{directory}/work/{layer.name}')}",
        "index=off",  # the lower directory may have changed since the upper one was made
        # Else each unmount writes back the upper directory's whole file system, 2 to 10 ms.
        "volatile",
        *(["ro"] if is_read_only else []),
    ]
    return {"destination": layer.path, "type": "overlay", "source": "overlay", "options": options}


def _escaped(path: str) -> str:
    """Escape a path for overlayfs, where commas separate options and colons layers."""
    return path.translate(_ESCAPES)


def _bind(source: str, destination: str, *, is_read_only: bool) -> dict[str, Any]:
    options = ["bind", "ro" if is_read_only else "rw"]
    return {"destination": destination, "type": "bind", "source": source, "options": options}
