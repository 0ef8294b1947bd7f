"""Netlink dumps as values, and refusals of the kernel as errors."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dnet import errors
from dnet._core import ffi, lib
from dnet.errors import Conflict, DnetError, Exhausted, NotFound, Unsupported
from dnet.linux.files import legacy_tables
from dnet.objects import observed
from dnet.objects.host import Message
from dnet.objects.links import Bridge, Veth
from dnet.objects.object import Absent, Object
from dnet.objects.sandbox import JoinedSandbox, Sandbox
from dnet.objects.vlans import ClsactHooks, VlanProgram


def c_text(buffer: Any) -> str:
    """Return the text in a C buffer."""
    return bytes(ffi.string(buffer)).decode(errors="replace")


NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_NETFILTER = 0, 4, 12
AF_UNSPEC = 0
FAMILIES = {4: 2, 6: 10}  # AF_INET, AF_INET6
# linux/netfilter/nfnetlink.h and nf_tables.h. A message begins with its header, and family, version and resource.
NFNL_HEADER = struct.Struct("=IHHIIBBH")
NLM_F_REQUEST = 1
NFT_MSG_NEWGEN, NFT_MSG_GETGEN = 0x0A0F, 0x0A10
NFTA_GEN_ID = 1
ANSWER_BYTES = 4096
# Longest message: SETLINK with an alias of 255 bytes, or with 16 ranges of VLANs.
MESSAGE_BYTES_MAX = 448
DUMP_BYTES = 1 << 15
TEXT_BYTES = 256


def new_batch(messages: int, further_bytes: int = 0) -> tuple[Any, Any]:
    """Return a batch with room for so many messages of dnet's own, and the memory it writes to."""
    capacity = messages * MESSAGE_BYTES_MAX + further_bytes
    data = ffi.new("uint8_t[]", capacity)
    batch = ffi.new("struct dnet_batch *", {"data": data, "capacity": capacity})
    return batch, data


def device_index(name: str) -> int | None:
    """Return the ifindex of a device of the host, or None."""
    return lib.if_nametoindex(name.encode()) or None


def device_name(index: int) -> str:
    """Return the name of a device of the host; empty if none has that index."""
    buffer = ffi.new("char[16]")
    is_there = index > 0 and lib.if_indextoname(index, buffer) != ffi.NULL
    return os.fsdecode(ffi.string(buffer)) if is_there else ""


def has_offloads(sockets: Sockets, device: str) -> bool:
    """Whether a device of the host takes frames without checksums, and longer than its MTU."""
    result = ffi.new("int *")
    code = lib.dnet_has_offloads(sockets.open(), device.encode(), result)
    if code:
        raise refusal(f"ask for the offloads of {device}", -code, "")
    return bool(result[0])


# Dumps


def dump(fd: int, kind: int, family: int) -> Iterator[bytes]:
    """Yield the messages of an rtnetlink dump, headers included."""
    batch, data = new_batch(1)
    lib.dnet_put_dump(batch, kind, family)
    yield from dump_raw(fd, bytes(ffi.buffer(data, batch.length)))


def dump_raw(fd: int, request: bytes) -> Iterator[bytes]:
    """Yield the messages of the answer to a request for a dump, headers included."""
    data, length = ffi.new("uint8_t[]", request), ffi.new("size_t *")
    capacity = DUMP_BYTES
    while True:
        buffer = ffi.new("uint8_t[]", capacity)
        code = lib.dnet_dump(fd, data, len(request), buffer, capacity, length)
        if code == -errno.ENOBUFS:
            capacity *= 4
        elif code != -errno.EAGAIN:
            break
    if code:
        raise refusal("read the kernel's tables", -code, "")
    view = bytes(ffi.buffer(buffer, length[0]))
    offset = 0
    while offset < len(view):
        (size,) = struct.unpack_from("=I", view, offset)
        yield view[offset : offset + size]
        offset += (size + 3) & ~3


@contextmanager
def entered(sandbox: Sandbox) -> Iterator[tuple[int, int]]:
    """Yield a sandbox's namespace and a netlink socket in it."""
    inode, cookie = identity(sandbox)
    namespace, fd = ffi.new("int *"), ffi.new("int *")
    code = lib.dnet_enter(os.fsencode(sandbox.path), inode, cookie, namespace, fd)
    if code:
        raise refused(sandbox, -code, "")
    try:
        yield int(namespace[0]), int(fd[0])
    finally:
        os.close(namespace[0])
        os.close(fd[0])


def identity(sandbox: Sandbox) -> tuple[int, int]:
    """Return the inode and cookie that a namespace has to have, 0 for any."""
    return (sandbox.inode, sandbox.cookie) if isinstance(sandbox, JoinedSandbox) else (0, 0)


def generation(fd: int) -> int:
    """Return the number of nftables' rules, one more after every change, by a NETLINK_NETFILTER socket; 0 for unknown.

    iptables-legacy's rules change without it: where there are any, it is 0.
    """
    if "filter" in legacy_tables():
        return 0
    os.write(fd, NFNL_HEADER.pack(NFNL_HEADER.size, NFT_MSG_GETGEN, NLM_F_REQUEST, 0, 0, AF_UNSPEC, 0, 0))
    answer = os.read(fd, ANSWER_BYTES)
    is_known = NFNL_HEADER.unpack_from(answer)[1] == NFT_MSG_NEWGEN
    return int.from_bytes(dict(observed.pairs(answer, NFNL_HEADER.size))[NFTA_GEN_ID], "big") if is_known else 0


class Sockets:
    """Netlink sockets in the network namespace of the caller, opened when they are needed."""

    def __init__(self) -> None:
        self._sockets: dict[tuple[int, bool], int] = {}
        self._namespace_fd = -1

    def close(self) -> None:
        """Close the sockets; a later call opens them again."""
        while self._sockets:
            os.close(self._sockets.popitem()[1])
        if self._namespace_fd >= 0:
            os.close(self._namespace_fd)
            self._namespace_fd = -1

    def open(self, protocol: int = NETLINK_ROUTE, *, is_for_builder: bool = False) -> int:
        """Return the socket of a protocol, or a second one for what a builder does at the same time."""
        key = (protocol, is_for_builder)
        if key not in self._sockets:
            result = ffi.new("int *")
            code = lib.dnet_socket(-1, protocol, result)
            if code:
                raise refusal("open a netlink socket", -code, "")
            self._sockets[key] = int(result[0])
        return self._sockets[key]

    def namespace(self) -> int:
        """Return a descriptor of the caller's network namespace."""
        if self._namespace_fd < 0:
            self._namespace_fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        return self._namespace_fd

    def transact(self, batch: Any) -> tuple[list[int], str]:
        """Send a batch; return the kernel's code for each message, and its words about the first refusal."""
        codes = ffi.new("int32_t[]", batch.count)
        text = ffi.new("char[]", TEXT_BYTES)
        code = lib.dnet_transact(self.open(), batch.data, batch.length, batch.count, codes, text, TEXT_BYTES)
        if code:
            raise refusal("talk to the kernel over netlink", -code, "")
        return list(codes), c_text(text)

    def ask(self, name: str) -> bytes:
        """Return the kernel's message about a device; empty if there is none."""
        batch, data = new_batch(1)
        code = lib.dnet_put_ask(batch, 0, os.fsencode(name))
        request, buffer = ffi.buffer(data, batch.length)[:], ffi.new("uint8_t[]", DUMP_BYTES)
        length = ffi.new("size_t *")
        copy = ffi.new("uint8_t[]", request)
        code = code or lib.dnet_ask(self.open(), copy, len(request), buffer, DUMP_BYTES, length)
        if code == -errno.ENODEV:
            return b""
        if code:
            raise refusal(f"look at {name}", -code, "")
        return bytes(ffi.buffer(buffer, length[0]))


# Refusals


def refused(item: Object, code: int, text: str) -> DnetError:
    """Build the error of an object that the kernel refused."""
    what = f"create {item}"
    if isinstance(item, Absent):
        what = f"remove {item.item}"
    elif isinstance(item, Message):
        what = f"remove {item.text.removeprefix('no ')}" if item.text.startswith("no ") else f"set {item}"
    if isinstance(item, JoinedSandbox) and code in {errno.ENOENT, errno.ESTALE}:
        now = "has another network namespace by now" if code == errno.ESTALE else "has no network namespace any more"
        return NotFound(f"{item.sandbox} {now}", object=item.sandbox, hint="`dnet reconcile` attaches to it again")
    if code == errno.EEXIST and isinstance(item, (Bridge, Veth, Sandbox)):
        return Conflict(
            f"cannot {what}: it exists already, and is not dnet's",
            object=str(item),
            hint="remove or rename it",
        )
    if code == errno.EEXIST and isinstance(item, ClsactHooks):
        return Conflict(
            f"cannot {what}: somebody else's tc hooks are there (a clsact or ingress qdisc)",
            object=str(item),
            hint=f"remove them: tc qdisc del dev {item.device} clsact",
        )
    if code == errno.ENOENT and isinstance(item, (ClsactHooks, VlanProgram)):
        return Unsupported(
            f"cannot {what}: {text or os.strerror(code)}",
            object=str(item),
            hint="this kernel lacks tc's hooks or BPF classifier (CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_BPF)",
        )
    if code == errno.EXFULL:
        return Exhausted(f"cannot {what}: the bridge has no port left (the kernel's limit is 1,023)", object=str(item))
    return refusal(what, code, text)


def refusal(what: str, code: int, text: str) -> DnetError:
    """Build the error of something that the kernel refused; `text` are its words, if any."""
    hint = "this kernel lacks the feature; `dnet doctor` lists them" if code == errno.EOPNOTSUPP else ""
    return errors.refused(what, code, os.strerror(code), words=text, unsupported=hint)
