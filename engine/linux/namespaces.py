"""Network namespaces that somebody else made: opened by path, told apart, entered.

An inode number does not tell namespaces apart over time. The kernel gives a freed one to the next namespace: a Docker
container that is restarted usually gets the number it had. The cookie does; it counts up since boot (Linux 5.14).
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from dnet.errors import AS_ROOT, DnetError, InvalidRequest, KernelRefused, NeedsRoot, NotFound
from dnet.linux.threads import Background
from dnet.model.values import Value, frozen

T = TypeVar("T")

NS_GET_NSTYPE = 0xB703  # linux/nsfs.h
CLONE_NEWNET = 0x40000000
SO_NETNS_COOKIE = 71  # asm-generic/socket.h
COOKIE_BYTES = 8
# How often a caller who waits looks around; signals wake it at once.
LOOK_S = 60.0
OWN_PATHS = ("/proc/thread-self/ns/net", "/proc/1/ns/net")


@frozen
class NamespaceIdentity(Value):
    """Which namespace it is; `cookie` is 0 on kernels without."""

    inode: int
    cookie: int


def open_namespace(path: str) -> int:
    """Return a descriptor of the network namespace at `path`, which the caller closes.

    NotFound when nothing is there, InvalidRequest when it is something else; neither opens what could block or act.
    """
    what = f"network namespace {path}"
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise _no_namespace(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _refusal(what, error) from error
    try:
        _require_network(path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def identify(descriptor: int) -> NamespaceIdentity:
    """Return which namespace an open one is."""
    return NamespaceIdentity(os.fstat(descriptor).st_ino, call(descriptor, _cookie))


def is_own(inode: int) -> bool:
    """Whether a namespace is the one that the caller is in, or that of process 1."""
    return inode in _own_inodes()


def call(descriptor: int, function: Callable[[], T], *, interrupt: Callable[[], None] | None = None) -> T:
    """Call a function inside a network namespace, on a thread of its own that ends with it; return its value.

    Mounts, /sys among them, stay the caller's. An exception here, from a signal say, calls `interrupt`, waits for the
    function's end and goes on.
    """

    def inside() -> T:
        _enter(descriptor)
        return function()

    work = Background(inside)
    try:
        work.start()
        while not work.wait(LOOK_S):
            pass
    except BaseException:
        if interrupt:
            interrupt()
        work.wait_uninterrupted()
        raise
    return work.result()


def _enter(descriptor: int) -> None:
    import ctypes

    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
        code = ctypes.get_errno()
        raise _refusal("network namespace", OSError(code, os.strerror(code)), verb="enter")


def _cookie() -> int:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as any_socket:
        try:
            packed = any_socket.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, COOKIE_BYTES)
            return int.from_bytes(packed, sys.byteorder)
        except OSError as error:
            if error.errno == errno.ENOPROTOOPT:
                return 0
            raise


def _require_network(path: str, descriptor: int) -> None:
    import fcntl

    try:
        kind = fcntl.ioctl(descriptor, NS_GET_NSTYPE)
    except OSError as error:
        raise _no_namespace(path) from error
    if kind != CLONE_NEWNET:
        raise InvalidRequest(f"{path} is a namespace, but not a network namespace", object=path, hint="use its ns/net")


def _no_namespace(path: str) -> InvalidRequest:
    hint = "give the path of one, such as /run/netns/NAME or /proc/PID/ns/net"
    return InvalidRequest(f"{path} is not a network namespace", object=path, hint=hint)


def _own_inodes() -> set[int]:
    found = set()
    for path in OWN_PATHS:
        # Process 1 may be out of sight, in a container say.
        with suppress(OSError):
            found.add(os.stat(path).st_ino)
    return found


def _refusal(what: str, error: OSError, verb: str = "open") -> DnetError:
    if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ESRCH}:
        return NotFound(f"there is no {what}", object=what)
    if error.errno in {errno.EACCES, errno.EPERM}:
        return NeedsRoot(f"cannot {verb} {what}: {error.strerror}", object=what, hint=AS_ROOT)
    return KernelRefused(f"{verb} {what}", error.errno or 0, str(error.strerror))
