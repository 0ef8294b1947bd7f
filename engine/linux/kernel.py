"""The kernel as seen from one network namespace: what exists there, and changes of it."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from dnet._core import ffi, lib
from dnet.errors import AS_ROOT, DnetError, KernelRefused, NeedsRoot, NotFound, StateError
from dnet.linux import builder, conntrack, files, netlink
from dnet.linux.builder import Builder, Progress
from dnet.linux.namespace_view import NamespaceView
from dnet.linux.netlink import NETLINK_NETFILTER, NETLINK_SOCK_DIAG, NLM_F_REQUEST, Sockets, new_batch, refusal
from dnet.linux.send import GONE, UNREACHABLE, Sender
from dnet.linux.sysctl import Sysctls
from dnet.objects import inverse, observed
from dnet.objects.host import Flows, Forwarding, OnForeignDevice
from dnet.objects.links import Bridge, MovedDevice, Veth
from dnet.objects.object import Absent, Object
from dnet.objects.observed import IFLA_INFO_DATA, IFLA_LINKINFO, pairs
from dnet.objects.sandbox import Sandbox

IFLA_BR_VLAN_DEFAULT_PVID = 39
PROBE_INDEX = 1 << 19  # below all that the store gives out
BOOT_ID_PATH = "/proc/sys/kernel/random/boot_id"
CAP_NET_ADMIN, CAP_SYS_ADMIN = 12, 21


class Kernel:
    """The kernel as seen from the network namespace that this was made in.

    `sysctls` are the settings in /proc/sys, `sender` applies objects of the host one by one.
    """

    def __init__(self, on_notice: Callable[[str], None]) -> None:
        self.sysctls = Sysctls(on_notice)
        self._sockets = Sockets()
        self.sender = Sender(self._sockets, self.sysctls)

    def close(self) -> None:
        """Close the sockets; a later call opens them again."""
        self._sockets.close()

    # Looking

    def device_index(self, name: str) -> int | None:
        """Return the ifindex of a device of the host, or None."""
        return netlink.device_index(name)

    def device_name(self, index: int) -> str:
        """Return the name of a device of the host, empty when there is none of that index."""
        return netlink.device_name(index)

    def is_device(self, index: int, name: str) -> bool:
        """Whether the host's device `index` exists and is called `name`."""
        return bool(name) and self.device_name(index) == name

    def link(self, name: str) -> observed.ObservedLink | None:
        """Return a device of the host, or None; the others are not read."""
        message = self._sockets.ask(name)
        return observed.link(message) if message else None

    def look(self) -> NamespaceView:
        """Return what the host has; a look costs as much as it has."""
        return NamespaceView(self._sockets.open())

    @contextmanager
    def looking_into(self, sandbox: Sandbox) -> Iterator[NamespaceView]:
        """Yield what a sandbox has; NotFound when there is none, or another one than is meant."""
        with netlink.entered(sandbox) as (_, fd):
            yield NamespaceView(fd)

    def boot_id(self) -> str:
        """Return the id of the running system, another one after each boot."""
        return files.read(BOOT_ID_PATH).strip()

    def ruleset_generation(self, epoch: str) -> int:
        """Return a number for nftables' rules, another one after each change, boot or new `epoch`; 0 for unknown."""
        found = netlink.generation(self._sockets.open(NETLINK_NETFILTER))
        place = f"{epoch} {self.boot_id()} {os.fstat(self._sockets.namespace()).st_ino}"
        return zlib.crc32(place.encode()) >> 1 << 32 | found if found else 0

    def is_wireless(self, name: str) -> bool:
        """Whether a device of the host is a wireless one."""
        directory = f"/sys/class/net/{name}"
        # /sys may be that of another network namespace.
        is_ours = files.read_number(f"{directory}/ifindex") == (self.device_index(name) or 0)
        return is_ours and os.path.exists(f"{directory}/phy80211")

    def has_bridge_vlans(self) -> bool:
        """Whether bridges of this kernel can filter VLANs; a bridge that is made for the question tells.

        It always has the attribute vlan_filtering, but that of the default VLAN only where it can (br_fill_info).
        """
        batch, _data = new_batch(1)
        index, name = PROBE_INDEX + os.getpid() % PROBE_INDEX, f"dnet-{os.getpid() % PROBE_INDEX:x}"
        lib.dnet_put_bridge(batch, index, name.encode(), ffi.NULL, 0)
        codes, text = self._sockets.transact(batch)
        if codes[0]:
            raise refusal("make a bridge", -codes[0], text)
        try:
            info = dict(pairs(dict(pairs(self._sockets.ask(name), 32)).get(IFLA_LINKINFO, b"")))
            return IFLA_BR_VLAN_DEFAULT_PVID in dict(pairs(info.get(IFLA_INFO_DATA, b"")))
        finally:
            batch, _data = new_batch(1)
            lib.dnet_put_delete(batch, index)
            self._sockets.transact(batch)

    def has_offloads(self, device: str) -> bool:
        """Whether a device of the host takes frames without checksums, and longer than its MTU."""
        return netlink.has_offloads(self._sockets, device)

    def receive_offloads(self, device: str) -> int:
        """Return a device's receive offloads, in the bits of ReceiveOffloads."""
        result = ffi.new("uint32_t *")
        code = lib.dnet_get_merging(self._sockets.open(), device.encode(), result)
        if code not in {0, -errno.EOPNOTSUPP}:
            raise refusal(f"ask for the offloads of {device}", -code, "")
        return int(result[0])

    def dump_sockets(self, kind: int, body: bytes) -> Iterator[bytes]:
        """Yield the answers of the kernel's socket diagnosis to one request."""
        request = struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST, 0, 0) + body
        try:
            yield from netlink.dump_raw(self._sockets.open(NETLINK_SOCK_DIAG), request)
        except KernelRefused as error:
            # A kernel without the diagnosis of this protocol; the port may still be refused when it is used.
            if error.errno != errno.ENOENT:
                raise

    # Preparing

    def require_privilege(self) -> None:
        """Raise NeedsRoot unless this process may make namespaces and devices."""
        with open("/proc/self/status", encoding="ascii") as status:
            effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff"))
        wanted = (1 << CAP_NET_ADMIN) | (1 << CAP_SYS_ADMIN)
        if effective & wanted != wanted:
            raise NeedsRoot("root is needed to make network namespaces and devices", hint=AS_ROOT)

    def prepare_directory(self, path: str) -> None:
        """Make `path` a directory fit to pin namespaces in."""
        try:
            os.makedirs(path, mode=0o755, exist_ok=True)
        except OSError as error:
            raise StateError(f"cannot make directory {path}: {error.strerror}", object=path) from error
        code = lib.dnet_pin_directory(path.encode())
        if code:
            raise refusal(f"mount a tmpfs on {path}", -code, "")

    def prepare_shared_directory(self, path: str) -> None:
        """Make `path` exist; in a mount namespace of our own, as a tmpfs that others do not see."""
        if _mount_namespace("self") == _mount_namespace("1"):
            os.makedirs(path, mode=0o755, exist_ok=True)
        else:
            self.prepare_directory(path)

    # Changing

    def create(
        self, groups: Sequence[Sequence[Object]], *, keep_going: bool = False, on_progress: Progress | None = None
    ) -> list[DnetError | None]:
        """Create every group and return an error or None for each; stop soon after the first unless `keep_going`.

        Nothing is undone here. Deleting the groups does that, however far they came.
        """
        with self.builder(keep_going=keep_going, on_progress=on_progress) as build:
            build.put(groups)
            return build.errors()

    def builder(self, *, keep_going: bool = False, on_progress: Progress | None = None) -> Builder:
        """Return what creates groups as `create` does, in several lots."""
        return Builder(self.sender, keep_going=keep_going, on_progress=on_progress)

    def remove_inside(self, groups: Sequence[Sequence[Object]]) -> None:
        """Remove what each group, a sandbox with `Absent` objects, says; ignore what is missing already."""
        wanted = [group for group in groups if len(group) > 1]  # beside the sandbox
        for error in self.create(wanted, keep_going=True) if wanted else ():
            # A route that is put back may have lost its way meanwhile: then it would be gone without dnet, too.
            if error and not isinstance(error, NotFound) and getattr(error, "errno", 0) not in GONE | UNREACHABLE:
                raise error

    def drop_flows(self, items: Sequence[Flows], *, is_new: bool) -> None:
        """Drop connection tracking entries: all of the containers', or those in the way of new UDP ports."""
        conntrack.drop_flows(self._sockets, items, is_new=is_new)

    def delete(
        self,
        groups: Sequence[Sequence[Object]],
        *,
        is_rollback: bool = False,
        on_progress: Progress | None = None,
    ) -> None:
        """Delete the un-owned objects of every group; return when the kernel shows none of them any more.

        What is missing already counts as deleted, and a device of the same index but another name is left alone.
        """
        items = [item for group in groups for item in group]
        builder.delete_devices(self._sockets, [item for item in items if isinstance(item, (Veth, Bridge))])
        self.remove_inside([inverse.of_group(group) for group in groups])
        additions = [item for item in items if isinstance(item, OnForeignDevice)]
        self.sender.put_back([Absent(one.item) for one in additions if self.is_device(one.item.index, one.item.device)])
        self.sender.restore([item for item in items if isinstance(item, MovedDevice)])
        builder.unpin([item for item in items if isinstance(item, Sandbox) and not item.owned], on_progress)
        if is_rollback and any(isinstance(item, Forwarding) for item in items):
            self.sysctls.restore()


def _mount_namespace(process: str) -> int:
    """Return the inode of a process's mount namespace, or 0 where it cannot be seen."""
    try:
        return os.stat(f"/proc/{process}/ns/mnt").st_ino
    except OSError:
        return 0
