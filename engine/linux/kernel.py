"""The kernel as seen from one network namespace: what there is, and changes of it.

Knows objects, nothing of networks or state.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address, ip_network
from typing import Any

from dnet._core import ffi, lib
from dnet.errors import DnetError, KernelRefused, NeedsRoot, NotFound, StateError, Unsupported
from dnet.linux import files
from dnet.linux.builder import (
    DELETE_GROUP_BASE,
    DELETE_TOGETHER,
    TEXT_BYTES,
    Making,
    Progress,
    sandbox_array,
    supervise,
)
from dnet.linux.encode import ENCODERS, advertised_route, ends_segment, mapped
from dnet.linux.netlink import (
    AF_UNSPEC,
    DUMP_BYTES,
    FORWARDING_PATHS,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETROUTE,
    Sight,
    c_text,
    dump,
    dump_raw,
    entered,
    generation,
    new_batch,
    refusal,
    refused,
)
from dnet.model.address import IPAddress, IPNetwork
from dnet.model.values import replace
from dnet.objects import inverse, observed
from dnet.objects.host import Addition, Flows, Forwarding, Message, Sysctl
from dnet.objects.links import Bridge, Merging, MovedDevice, ReturnedDevice, Veth
from dnet.objects.object import Device, Object
from dnet.objects.observed import (
    IFA_ADDRESS,
    IFA_LOCAL,
    IFLA_INFO_DATA,
    IFLA_LINKINFO,
    IFLA_MASTER,
    RTA_DST,
    TABLE_LOCAL,
    UNICAST,
    number,
    pairs,
)
from dnet.objects.routes import AdvertisedRoute
from dnet.objects.sandbox import Sandbox
from dnet.objects.vlans import VlanProgram

# IN_CLOSE_WRITE, IN_MOVED_TO and IN_CREATE of inotify(7): a file that is being written is not looked at yet.
WATCHED_EVENTS = 0x8 | 0x80 | 0x100
EVENT_BYTES = 1 << 16
LINKS_MAX = 40  # the kernel's own limit (MAXSYMLINKS)

NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_NETFILTER = 0, 4, 12
NLM_F_REQUEST = 1
RTM_GETNEIGH, RTM_GETQDISC = 30, 38
AF_BRIDGE, NDA_LLADDR, NTF_STICKY = 7, 2, 0x40
TCA_KIND, TCA_INGRESS_BLOCK, TCA_EGRESS_BLOCK = 1, 13, 14
IFLA_BR_VLAN_DEFAULT_PVID = 39
PROBE_INDEX = 1 << 19  # below all that the store gives out
# What an absence or a putting back meets when it is made already, or what it is about has gone.
GONE = {errno.ESRCH, errno.ENODEV, errno.EEXIST}
ABSENT = {21: -errno.EADDRNOTAVAIL, 25: -errno.ESRCH}  # of an address (RTM_DELADDR), of a route (RTM_DELROUTE)
SO_ALREADY = {errno.EADDRNOTAVAIL, errno.ESRCH, errno.ENOENT, errno.EEXIST, errno.ENODEV}
NO_MESSAGES = (Forwarding, Sysctl, AdvertisedRoute, Merging)
UNREACHABLE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EINVAL}
BOOT_ID_PATH = "/proc/sys/kernel/random/boot_id"
SIOCADDRT = 0x890B
OWN_INDEX_MIN = 1 << 20  # the store gives out nothing below, the kernel next to nothing above
# Of this network namespace.
FLOW_COUNT = "/proc/sys/net/netfilter/nf_conntrack_count"
ACCEPT_RA_DIRECTORY = "/proc/sys/net/ipv6/conf"
CAP_NET_ADMIN, CAP_SYS_ADMIN = 12, 21


class Kernel:
    """The kernel as seen from the network namespace that this was made in."""

    def __init__(self, on_notice: Callable[[str], None]) -> None:
        self._on_notice = on_notice
        self._sockets: dict[tuple[int, bool], int] = {}
        self._namespace_fd = -1
        # What was switched on here: a file and what it held before.
        self._switched: dict[str, str] = {}
        self._programs: Mapping[str, int] = {}

    def close(self) -> None:
        """Close the sockets; a later call opens them again."""
        while self._sockets:
            os.close(self._sockets.popitem()[1])
        if self._namespace_fd >= 0:
            os.close(self._namespace_fd)
            self._namespace_fd = -1

    # Looking

    def device_index(self, name: str) -> int | None:
        """Return the ifindex of a device of the host, or None."""
        return lib.if_nametoindex(name.encode()) or None

    def device_name(self, index: int) -> str:
        """Return the name of a device of the host, empty when there is none of that index."""
        buffer = ffi.new("char[16]")
        is_there = index > 0 and lib.if_indextoname(index, buffer) != ffi.NULL
        return os.fsdecode(ffi.string(buffer)) if is_there else ""

    def is_device(self, index: int, name: str) -> bool:
        """Whether the host's device `index` exists and is called `name`."""
        return bool(name) and self.device_name(index) == name

    def link(self, name: str) -> observed.Link | None:
        """Return a device of the host, or None."""
        found = self.links([name])
        return found[0] if found else None

    def links(self, names: Sequence[str]) -> list[observed.Link]:
        """Return those of some devices of the host that exist, without a look at the others."""
        return [observed.link(message) for message in map(self._ask, names) if message]

    def _ask(self, name: str) -> bytes:
        """Return the kernel's message about a device of the host, nothing when there is none."""
        batch, data = new_batch(1)
        code = lib.dnet_put_ask(batch, 0, os.fsencode(name))
        request, buffer = ffi.buffer(data, batch.length)[:], ffi.new("uint8_t[]", DUMP_BYTES)
        length = ffi.new("size_t *")
        copy = ffi.new("uint8_t[]", request)
        code = code or lib.dnet_ask(self.host_fd(), copy, len(request), buffer, DUMP_BYTES, length)
        if code == -errno.ENODEV:
            return b""
        if code:
            raise refusal(f"look at {name}", -code, "")
        return bytes(ffi.buffer(buffer, length[0]))

    def look(self) -> Sight:
        """Return what the host has; a look costs as much as it has."""
        return Sight(self.host_fd())

    @contextmanager
    def looking_into(self, sandbox: Sandbox) -> Iterator[Sight]:
        """Yield what a sandbox has; NotFound when there is none, or another one than is meant."""
        with entered(sandbox) as (_, fd):
            yield Sight(fd)

    def report(self) -> observed.Report:
        """Return all that the host has, as the kernel reports it."""
        return self.look().report()

    def sysctls(self, device: str, keys: Sequence[str]) -> dict[str, str]:
        """Return those of net.ipv6.conf.DEVICE that there are."""
        paths = {key: f"{ACCEPT_RA_DIRECTORY}/{device}/{key}" for key in keys}
        return {key: files.read(path).strip() for key, path in paths.items() if os.path.exists(path)}

    def boot_id(self) -> str:
        """Return the id of the running system, another one after each boot."""
        return files.read(BOOT_ID_PATH).strip()

    def rules_mark(self, epoch: str) -> int:
        """Return a number for nftables' rules, another one after each change, boot or new `epoch`; 0 for unknown."""
        found = generation(self._socket(NETLINK_NETFILTER))
        place = f"{epoch} {self.boot_id()} {os.fstat(self._own_namespace()).st_ino}"
        return zlib.crc32(place.encode()) >> 1 << 32 | found if found else 0

    def is_wireless(self, name: str) -> bool:
        """Whether a device of the host is a wireless one."""
        directory = f"/sys/class/net/{name}"
        # /sys may be that of another network namespace.
        is_ours = files.read_number(f"{directory}/ifindex") == (self.device_index(name) or 0)
        return is_ours and os.path.exists(f"{directory}/phy80211")

    def masters(self) -> dict[int, int]:
        """Return the host's devices, each with the index of the bridge or bond that it is a port of, or 0."""
        found = {}
        for message in self._dump(RTM_GETLINK, AF_UNSPEC):
            found[_index_of(message)] = number(dict(pairs(message, 32)).get(IFLA_MASTER, b""))
        return found

    def filtered(self) -> set[tuple[int, int, int]]:
        """Return the host's devices with tc hooks: their index, and their blocks of ingress and egress, 0 for none."""
        found = set()
        for message in self._dump(RTM_GETQDISC, AF_UNSPEC):
            attributes = dict(pairs(message, 36))
            if attributes.get(TCA_KIND, b"").startswith((b"clsact", b"ingress")):
                ingress, egress = (number(attributes.get(key, b"")) for key in (TCA_INGRESS_BLOCK, TCA_EGRESS_BLOCK))
                found.add((_index_of(message), ingress, egress))
        return found

    def mac_entries(self) -> set[tuple[int, str]]:
        """Return the MACs in bridges' forwarding tables that stay at their ports: the port's index, and the MAC."""
        found = set()
        for message in self._dump(RTM_GETNEIGH, AF_BRIDGE):
            if message[26] & NTF_STICKY:  # ndm_flags
                mac = dict(pairs(message, 28)).get(NDA_LLADDR, b"")
                found.add((_index_of(message), mac.hex(":")))
        return found

    def has_bridge_vlans(self) -> bool:
        """Whether bridges of this kernel can filter VLANs; a bridge that is made for the question tells.

        It always has the attribute vlan_filtering, but that of the default VLAN only where it can (br_fill_info).
        """
        batch, _data = new_batch(1)
        index, name = PROBE_INDEX + os.getpid() % PROBE_INDEX, f"dnet-{os.getpid() % PROBE_INDEX:x}"
        lib.dnet_put_bridge(batch, index, name.encode(), ffi.NULL, 0)
        codes, text = self._transact(batch)
        if codes[0]:
            raise refusal("make a bridge", -codes[0], text)
        try:
            info = dict(pairs(dict(pairs(self._ask(name), 32)).get(IFLA_LINKINFO, b"")))
            return IFLA_BR_VLAN_DEFAULT_PVID in dict(pairs(info.get(IFLA_INFO_DATA, b"")))
        finally:
            batch, _data = new_batch(1)
            lib.dnet_put_delete(batch, index)
            self._transact(batch)

    def has_offloads(self, device: str) -> bool:
        """Whether frames may be handed to a device of the host's without checksums, and longer than its MTU."""
        result = ffi.new("int *")
        code = lib.dnet_has_offloads(self.host_fd(), device.encode(), result)
        if code:
            raise refusal(f"ask for the offloads of {device}", -code, "")
        return bool(result[0])

    def merging(self, device: str) -> int:
        """Return by what a device makes one long frame of several that it receives, as objects.Merging has it."""
        result = ffi.new("uint32_t *")
        code = lib.dnet_get_merging(self.host_fd(), device.encode(), result)
        if code not in {0, -errno.EOPNOTSUPP}:
            raise refusal(f"ask for the offloads of {device}", -code, "")
        return int(result[0])

    def routed_subnets(self) -> list[IPNetwork]:
        """Return the destinations of the host's unicast routes, default routes left out."""
        found = []
        for message in self._dump(RTM_GETROUTE, AF_UNSPEC):
            length, table, kind = message[17], message[20], message[23]
            if not length or table == TABLE_LOCAL or kind != UNICAST:
                continue
            for attribute, value in pairs(message, 28):
                if attribute == RTA_DST:
                    network = ip_network((value, length), strict=False)
                    if not network.is_link_local and not network.is_multicast:
                        found.append(network)
        return found

    def local_addresses(self) -> set[IPAddress]:
        """Return the addresses of the host's interfaces."""
        found = set()
        for message in self._dump(RTM_GETADDR, AF_UNSPEC):
            attributes = dict(pairs(message, 24))
            packed = attributes.get(IFA_LOCAL) or attributes.get(IFA_ADDRESS)
            if packed:
                found.add(ip_address(packed))
        return found

    def require_privilege(self) -> None:
        """Raise NeedsRoot unless this process may make namespaces and devices."""
        with open("/proc/self/status", encoding="ascii") as status:
            effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff"))
        wanted = (1 << CAP_NET_ADMIN) | (1 << CAP_SYS_ADMIN)
        if effective & wanted != wanted:
            raise NeedsRoot(
                "root is needed to make network namespaces and devices", hint="run it as root, with sudo say"
            )

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

    def changes_of(
        self,
        paths: Sequence[str],
        others: Callable[[], Sequence[int]] = tuple,
        pause_s: Callable[[], float | None] | None = None,
    ) -> Iterator[None]:
        """Yield once at the start, and then whenever one of the files may have changed; for ever.

        Watched are the files themselves, and every directory on the way to them through links, since editors and
        resolvers replace files by renaming; of a directory that is missing, the one it will appear in. It is also a
        change when one of the descriptors `others` can be read from, or `pause_s` is over; both are asked each time.
        """
        from dnet.linux.spawn import TIMEOUT_MAX_S

        fd = lib.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if fd < 0:
            raise refusal("watch files", ffi.errno, "")
        try:
            while True:
                for place in {place for path in paths for place in _way_to(path)}:
                    lib.inotify_add_watch(fd, os.fsencode(place), WATCHED_EVENTS)
                yield
                poll = select.poll()
                for descriptor in (fd, *others()):
                    poll.register(descriptor, select.POLLIN)
                pause = pause_s() if pause_s else None
                poll.poll(None if pause is None else min(max(0, pause), TIMEOUT_MAX_S) * 1000)
                with suppress(BlockingIOError):
                    os.read(fd, EVENT_BYTES)
        finally:
            os.close(fd)

    # Creating

    def create(
        self, groups: Sequence[Sequence[Object]], *, keep_going: bool = False, on_progress: Progress | None = None
    ) -> list[DnetError | None]:
        """Create every group and return an error or None for each; stop soon after the first unless `keep_going`.

        Nothing is undone here. Deleting the groups does that, however far they came.
        """
        with self.making(keep_going=keep_going, on_progress=on_progress) as making:
            making.put(groups)
            return making.errors()

    def making(self, *, keep_going: bool = False, on_progress: Progress | None = None) -> Making:
        """Return what creates groups as `create` does, in several lots."""
        return Making(self, keep_going=keep_going, on_progress=on_progress)

    def create_on_host(self, group: Sequence[Object]) -> DnetError | None:
        """Create a group that has no sandbox."""
        return next(filter(None, self._send(group)), None)

    def _send(self, group: Sequence[Object]) -> Iterator[DnetError | None]:
        """Make objects of the host so, and yield how each went; what follows a failure in its batch is done as well."""
        start = 0
        while start < len(group):
            first = group[start]
            if isinstance(first, NO_MESSAGES):
                yield self._set(first)
                start += 1
                continue
            end = start
            bodies = sum(len(item.body) for item in group[start:] if isinstance(item, Message))
            batch, _data = new_batch(len(group) - start, bodies)
            while end < len(group) and not isinstance(group[end], NO_MESSAGES):
                self.encode(group[end], batch)
                end += 1
                if ends_segment(group[end - 1]):
                    break
            codes, text = self._transact(batch)
            for item, code in zip(group[start:end], codes, strict=True):
                is_so = not code or (isinstance(item, Message) and code == ABSENT.get(item.kind))
                yield None if is_so else refused(item, -code, text)
            start = end

    def _set(self, item: Object) -> DnetError | None:
        if isinstance(item, Forwarding):
            self.switch_forwarding(item.version)
            return None
        try:
            self.perform(item)
        except OSError as error:
            return KernelRefused(f"set {item}", error.errno or 0, str(error.strerror))
        return None

    def perform(self, item: Object) -> None:
        """Make so what no message can: write a file of /proc/sys, or call an ioctl; raises OSError."""
        match item:
            case Sysctl():
                _write(f"{ACCEPT_RA_DIRECTORY}/{item.device}/{item.key}", item.value)
            case Merging():
                code = lib.dnet_set_merging(self.host_fd(), item.device.encode(), item.bits)
                if code:
                    raise OSError(-code, os.strerror(-code))
            case AdvertisedRoute():
                import socket

                with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                    fcntl.ioctl(sock, SIOCADDRT, advertised_route(item))
            case _:
                raise TypeError(item)

    def put_back(self, items: Sequence[Object]) -> None:
        """Make objects so, each by itself: what is so already is no failure, and a failure stops nothing behind it.

        Raises the first failure, when all of them have been tried.
        """
        found = [error for error in self._send(items) if error and getattr(error, "errno", 0) not in SO_ALREADY]
        if found:
            raise found[0]

    def remove_inside(self, groups: Sequence[Sequence[Object]]) -> None:
        """Make the absences of each group, a sandbox with what shall not be in it; what is missing already is fine."""
        wanted = [group for group in groups if len(group) > 1]  # beside the sandbox
        for error in self.create(wanted, keep_going=True) if wanted else ():
            # A route that is put back may have lost its way meanwhile: then it would be gone without dnet, too.
            if error and not isinstance(error, NotFound) and getattr(error, "errno", 0) not in GONE | UNREACHABLE:
                raise error

    def restore(self, devices: Sequence[MovedDevice]) -> None:
        """Give devices that are back on the host what they had there; those that have gone are left out."""
        for item in devices:
            name = item.device.encode()
            index = self.device_index(item.device)
            batch, _data = new_batch(len(item.before) + 1)
            if index is None and lib.if_indextoname(item.peer_index, ffi.new("char[16]")) != ffi.NULL:
                # It came back with the end of the namespace, under its name there or one that the kernel chose.
                index = item.peer_index
                lib.dnet_put_identity(batch, index, name, ffi.NULL, 0)
            if index is None:
                continue
            for before in item.before:
                self.encode(replace(before, index=index) if isinstance(before, Device) else before, batch)
            codes, text = self._transact(batch)
            for code in codes:
                if code and -code not in GONE | UNREACHABLE:
                    raise refusal(f"restore device {item.device}", -code, text)

    def encode(self, item: Object, batch: Any) -> None:
        """Append the one message that creates `item`."""
        if isinstance(item, Device) and item.device and not (item.index or item.sandbox):
            item = replace(item, index=self._index_by_name(item))
        match item:
            case ReturnedDevice():
                name = item.name.encode()
                code = int(lib.dnet_put_move(batch, item.index, self._own_namespace(), name, item.host_index))
            case VlanProgram():
                name = f"dnet_vlan_{item.direction}".encode()
                code = int(lib.dnet_put_program(batch, item.block, self._programs[item.direction], name))
            case _:
                code = ENCODERS[type(item)](item, batch)
        if code:
            raise refused(item, -code, "")

    def use_programs(self, programs: Mapping[str, int]) -> None:
        """Take the descriptors of the programs that VlanProgram objects put in place, by direction."""
        self._programs = programs

    def replace_programs(self, items: Sequence[VlanProgram]) -> None:
        """Put the programs in place of those that work now; bridges that do not exist, or filter nothing, are skipped.

        At no moment is a bridge without one.
        """
        if not items:
            return
        batch, _data = new_batch(len(items))
        for item in items:
            self.encode(item, batch)
        codes, text = self._transact(batch)
        for item, code in zip(items, codes, strict=True):
            # EINVAL is what the kernel says of a block that does not exist.
            if code not in (0, -errno.EINVAL):
                raise refused(item, -code, text)

    def _index_by_name(self, item: Device) -> int:
        index = self.device_index(item.device)
        if index is None:
            raise refused(item, errno.ENODEV, "")
        return index

    def switch_forwarding(self, version: int) -> None:
        """Switch on forwarding of IP `version`, and say so, where it is off."""
        path = FORWARDING_PATHS[version]
        if not os.path.exists(path):
            raise Unsupported(f"this host has no IPv{version}", object=path, hint="make the network without --ipv6")
        if files.read_number(path) != 0:
            return
        if version == 6:
            self._keep_accepting_routers()
        self._switch(path, "1")
        self._on_notice(f"turned on IPv{version} forwarding ({path.removeprefix('/proc/sys/').replace('/', '.')}=1)")

    def _keep_accepting_routers(self) -> None:
        """Set accept_ra 1 to 2: a host that forwards would otherwise lose routes it has by router advertisements."""
        changed = []
        for device in os.listdir(ACCEPT_RA_DIRECTORY):
            path = f"{ACCEPT_RA_DIRECTORY}/{device}/accept_ra"
            is_ours = (self.device_index(device) or 0) >= OWN_INDEX_MIN
            if device not in {"all", "default", "lo"} and not is_ours and files.read_number(path) == 1:
                self._switch(path, "2")
                changed.append(device)
        if changed:
            self._on_notice(f"set accept_ra=2 on {', '.join(sorted(changed))}, so that IPv6 routes learned there stay")

    def _switch(self, path: str, value: str) -> None:
        before = files.read(path).strip()
        try:
            _write(path, value)
        except OSError as error:
            raise KernelRefused(f"write {value} to {path}", error.errno or 0, str(error.strerror)) from error
        self._switched[path] = before

    def keep_switches(self) -> None:
        """Make what was switched on here stay, whatever is undone later."""
        self._switched.clear()

    def drop_flows(self, items: Sequence[Flows], *, is_new: bool) -> None:
        """Drop connection tracking entries: all of the containers', or those in the way of new UDP ports."""
        addresses = set() if is_new else {mapped(address) for item in items for address in item.addresses}
        published = {pair for item in items for pair in item.udp_ports} if is_new else set()
        local = self.local_addresses() if any(address.is_unspecified for address, _ in published) else set()
        targets = {
            mapped(target) + port.to_bytes(2)
            for address, port in published
            for target in (local if address.is_unspecified else (address,))
            if target.version == address.version
        }
        # The walk takes 8 ms where the table has 262,144 places, whatever is in them.
        if not (addresses or targets) or files.read_number(FLOW_COUNT) == 0:
            return
        flow_filter = ffi.new("struct dnet_flow_filter *")
        arrays = [ffi.new("uint8_t[]", b"".join(sorted(keys)) or b"\0") for keys in (addresses, targets)]
        flow_filter.addresses, flow_filter.address_count = arrays[0], len(addresses)
        flow_filter.udp_targets, flow_filter.udp_target_count = arrays[1], len(targets)
        code = lib.dnet_drop_flows(self._socket(NETLINK_NETFILTER), flow_filter, ffi.new("uint32_t *"))
        if code:
            raise refusal("drop connection tracking entries", -code, "")

    # Deleting

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
        self._delete_devices([item for item in items if isinstance(item, (Veth, Bridge))])
        self.remove_inside([inverse.of_group(group) for group in groups])
        additions = [item for item in items if isinstance(item, Addition)]
        self.put_back([one.removal for one in additions if self.is_device(one.item.index, one.item.device)])
        self.restore([item for item in items if isinstance(item, MovedDevice)])
        self._unpin([item for item in items if isinstance(item, Sandbox) and not item.owned], on_progress)
        if is_rollback and any(isinstance(item, Forwarding) for item in items):
            while self._switched:
                _write(*self._switched.popitem())

    def _unpin(self, sandboxes: Sequence[Sandbox], on_progress: Progress | None) -> None:
        array, _alive = sandbox_array(sandboxes)
        code = supervise(lambda control: lib.dnet_unpin(array, len(sandboxes), control), len(sandboxes), on_progress)
        if code:
            raise refusal("remove sandboxes", -code, "")
        for item, result in zip(sandboxes, array, strict=True):
            if result.error:
                raise refusal(f"remove {item}", -result.error, "")

    def _delete_devices(self, devices: Sequence[Device]) -> None:
        """Delete those that are still there: gathered into a group that the kernel deletes at one stroke.

        Explicitly, although a veth goes with its sandbox: that happens later and only when no process is left in it.
        """
        left = [item for item in devices if self.is_device(item.index, item.device)]

        def work(control: Any) -> int:
            for start in range(0, len(left), DELETE_TOGETHER):
                if control.cancel:
                    return -errno.ECANCELED
                self._delete_together(left[start : start + DELETE_TOGETHER])
            return 0

        supervise(work, len(left), None)

    def _delete_together(self, devices: Sequence[Device]) -> None:
        batch, _data = new_batch(len(devices) + 1)
        if len(devices) == 1:
            lib.dnet_put_delete(batch, devices[0].index)
        else:
            group = DELETE_GROUP_BASE + devices[0].index % DELETE_GROUP_BASE
            for item in devices:
                lib.dnet_put_group(batch, item.index, group)
            lib.dnet_put_delete_group(batch, group)
        codes, text = self._transact(batch)
        for index, code in enumerate(codes):
            if code not in (0, -errno.ENODEV):
                raise refusal(f"delete {devices[min(index, len(devices) - 1)]}", -code, text)

    # Talking

    def host_fd(self, *, is_for_makers: bool = False) -> int:
        """Return the host's rtnetlink socket, or a second one for what goes on beside."""
        return self._socket(NETLINK_ROUTE, is_for_makers=is_for_makers)

    def _socket(self, protocol: int, *, is_for_makers: bool = False) -> int:
        key = (protocol, is_for_makers)
        if key not in self._sockets:
            result = ffi.new("int *")
            code = lib.dnet_socket(-1, protocol, result)
            if code:
                raise refusal("open a netlink socket", -code, "")
            self._sockets[key] = int(result[0])
        return self._sockets[key]

    def _own_namespace(self) -> int:
        if self._namespace_fd < 0:
            self._namespace_fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        return self._namespace_fd

    def _transact(self, batch: Any) -> tuple[list[int], str]:
        codes = ffi.new("int32_t[]", batch.count)
        text = ffi.new("char[]", TEXT_BYTES)
        code = lib.dnet_transact(self.host_fd(), batch.data, batch.length, batch.count, codes, text, TEXT_BYTES)
        if code:
            raise refusal("talk to the kernel over netlink", -code, "")
        return list(codes), c_text(text)

    def dump_sockets(self, kind: int, body: bytes) -> Iterator[bytes]:
        """Yield the answers of the kernel's socket diagnosis to one request."""
        request = struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST, 0, 0) + body
        try:
            yield from self._dump_raw(NETLINK_SOCK_DIAG, request)
        except KernelRefused as error:
            # A kernel without the diagnosis of this protocol; the port may still be refused when it is used.
            if error.errno != errno.ENOENT:
                raise

    def _dump(self, kind: int, family: int) -> Iterator[bytes]:
        """Yield the messages of an rtnetlink dump, headers included."""
        return dump(self.host_fd(), kind, family)

    def _dump_raw(self, protocol: int, request: bytes) -> Iterator[bytes]:
        return dump_raw(self._socket(protocol), request)


def _way_to(path: str) -> Iterator[str]:
    """Yield a file and what has to change for it to change: each link's directory, or the nearest that exists."""
    for _ in range(LINKS_MAX):
        directory = os.path.dirname(path)
        while not os.path.isdir(directory):
            directory = os.path.dirname(directory)
        yield directory
        if not os.path.islink(path):
            yield path
            return
        path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))


def _mount_namespace(process: str) -> int:
    """Return the inode of a process's mount namespace, or 0 where it cannot be seen."""
    try:
        return os.stat(f"/proc/{process}/ns/mnt").st_ino
    except OSError:
        return 0


def _write(path: str, value: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(value)


def _index_of(message: bytes) -> int:
    """Return ifi_index of a message about a link; other kinds have theirs in the same place."""
    return number(message[20:24])
