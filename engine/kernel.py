"""Creates and deletes kernel objects over netlink; the only module that touches the C extension. Rank 4, IO.

A group is the tuple of objects of one network or of one sandbox with its endpoints. A group without a sandbox goes
out on the host's socket; groups with one are built side by side by the C core, which makes namespaces on one
thread and links on another. Knows objects, nothing of networks or state.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from ipaddress import ip_address, ip_network
from typing import Any

from dnet._core import ffi, lib
from dnet.background import Background
from dnet.errors import Conflict, DnetError, Exhausted, KernelRefused, NeedsRoot, StateError, Unsupported
from dnet.model import IPAddress, IPNetwork
from dnet.objects import (
    Address,
    Bridge,
    BridgePort,
    Device,
    Flows,
    Forwarding,
    LocalRouting,
    LoopbackRoute,
    Object,
    Quiet,
    Route,
    Sandbox,
    Up,
    Veth,
)

Progress = Callable[[int], None]

# IN_CLOSE_WRITE, IN_MOVED_TO and IN_CREATE of inotify(7): a file that is being written is not looked at yet.
WATCHED_EVENTS = 0x8 | 0x80 | 0x100
EVENT_BYTES = 1 << 16
LINKS_MAX = 40  # the kernel's own limit (MAXSYMLINKS)

AF_UNSPEC = 0
FAMILIES = {4: 2, 6: 10}  # AF_INET, AF_INET6
NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_NETFILTER = 0, 4, 12
NLM_F_REQUEST = 1
RTM_GETADDR, RTM_GETROUTE = 22, 26
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_DST = 1
RT_TABLE_LOCAL = 255
RTN_UNICAST = 1

# Longest message: SETLINK with an alias of 255 bytes.
MESSAGE_BYTES_MAX = 384
TEXT_BYTES = 256
DUMP_BYTES = 1 << 15
# Calls longer than this many sandboxes run on a thread, so that the caller's can react to signals and report.
SUPERVISED_FROM = 9
PROGRESS_INTERVAL_S = 0.05
# Devices deleted in one message: many enough to share the kernel's grace period of some 17 ms, few enough (0.15 s)
# for Ctrl-C to be heard.
DELETE_TOGETHER = 256
DELETE_GROUP_BASE = 1 << 30
FORWARDING_PATHS = {4: "/proc/sys/net/ipv4/ip_forward", 6: "/proc/sys/net/ipv6/conf/all/forwarding"}
IPV6_MTU_MIN = 1280  # RFC 8200, section 5
OWN_INDEX_MIN = 1 << 20  # the store gives out nothing below, the kernel next to nothing above
ACCEPT_RA_DIRECTORY = "/proc/sys/net/ipv6/conf"
CAP_NET_ADMIN, CAP_SYS_ADMIN = 12, 21


class Kernel:
    """The kernel as seen from the network namespace that this was made in."""

    def __init__(self, on_notice: Callable[[str], None]) -> None:
        self._on_notice = on_notice
        self._sockets: dict[int, int] = {}
        # What was switched on here: a file and what it held before.
        self._switched: dict[str, str] = {}

    def close(self) -> None:
        """Close the sockets; a later call opens them again."""
        while self._sockets:
            os.close(self._sockets.popitem()[1])

    # Looking

    def device_index(self, name: str) -> int | None:
        """Return the ifindex of a device of the host, or None."""
        return lib.if_nametoindex(name.encode()) or None

    def is_device(self, index: int, name: str) -> bool:
        """Whether the host's device `index` exists and is called `name`."""
        buffer = ffi.new("char[16]")
        return bool(lib.if_indextoname(index, buffer) != ffi.NULL and ffi.string(buffer) == name.encode())

    def routed_subnets(self) -> list[IPNetwork]:
        """Return the destinations of the host's unicast routes, default routes left out."""
        found = []
        for message in self._dump(RTM_GETROUTE, AF_UNSPEC):
            length, table, kind = message[17], message[20], message[23]
            if not length or table == RT_TABLE_LOCAL or kind != RTN_UNICAST:
                continue
            for attribute, value in _attributes(message, 28):
                if attribute == RTA_DST:
                    network = ip_network((value, length), strict=False)
                    if not network.is_link_local and not network.is_multicast:
                        found.append(network)
        return found

    def local_addresses(self) -> set[IPAddress]:
        """Return the addresses of the host's interfaces."""
        found = set()
        for message in self._dump(RTM_GETADDR, AF_UNSPEC):
            attributes = dict(_attributes(message, 24))
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
            raise _refusal(f"mount a tmpfs on {path}", -code, "")

    def prepare_shared_directory(self, path: str) -> None:
        """Make `path` exist; in a mount namespace of our own, as a tmpfs that others do not see."""
        if _mount_namespace("self") == _mount_namespace("1"):
            os.makedirs(path, mode=0o755, exist_ok=True)
        else:
            self.prepare_directory(path)

    def changes_of(self, paths: Sequence[str]) -> Iterator[None]:
        """Yield once at the start, and then whenever one of the files may have changed; for ever.

        Watched are the files themselves, and every directory on the way to them through links, since editors and
        resolvers replace files by renaming; of a directory that is missing, the one it will appear in.
        """
        fd = lib.inotify_init1(os.O_CLOEXEC)
        if fd < 0:
            raise _refusal("watch files", ffi.errno, "")
        try:
            while True:
                for place in {place for path in paths for place in _way_to(path)}:
                    lib.inotify_add_watch(fd, os.fsencode(place), WATCHED_EVENTS)
                yield
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
        if groups and any(isinstance(item, Sandbox) for item in groups[0]):
            return _Build(self, groups).run(keep_going=keep_going, on_progress=on_progress)
        errors: list[DnetError | None] = []
        for group in groups:
            errors.append(self._create_on_host(group))
            if errors[-1] and not keep_going:
                break
        return errors

    def _create_on_host(self, group: Sequence[Object]) -> DnetError | None:
        start = 0
        while start < len(group):
            first = group[start]
            if isinstance(first, Forwarding):
                self.switch_forwarding(first.version)
                start += 1
                continue
            end = start
            batch, _data = _new_batch(len(group) - start)
            while end < len(group) and not isinstance(group[end], Forwarding):
                self.encode(group[end], batch)
                end += 1
                if _ends_segment(group[end - 1]):
                    break
            codes, text = self._transact(batch)
            for item, code in zip(group[start:end], codes, strict=True):
                if code:
                    return _refused(item, -code, text)
            start = end
        return None

    def encode(self, item: Object, batch: Any) -> None:
        """Append the one message that creates `item`."""
        code = _ENCODERS[type(item)](item, batch)
        if code:
            raise _refused(item, -code, "")

    def switch_forwarding(self, version: int) -> None:
        """Switch on forwarding of IP `version`, and say so, where it is off."""
        path = FORWARDING_PATHS[version]
        if not os.path.exists(path):
            raise Unsupported(f"this host has no IPv{version}", object=path, hint="make the network without --ipv6")
        if _read(path) != "0":
            return
        if version == 6:  # noqa: PLR2004
            self._keep_accepting_routers()
        self._switch(path, "1")
        self._on_notice(f"turned on IPv{version} forwarding ({path.removeprefix('/proc/sys/').replace('/', '.')}=1)")

    def _keep_accepting_routers(self) -> None:
        """Set accept_ra 1 to 2: a host that forwards would otherwise lose routes it has by router advertisements."""
        changed = []
        for device in os.listdir(ACCEPT_RA_DIRECTORY):
            path = f"{ACCEPT_RA_DIRECTORY}/{device}/accept_ra"
            is_ours = (self.device_index(device) or 0) >= OWN_INDEX_MIN
            if device not in {"all", "default", "lo"} and not is_ours and _read(path) == "1":
                self._switch(path, "2")
                changed.append(device)
        if changed:
            self._on_notice(f"set accept_ra=2 on {', '.join(sorted(changed))}, so that IPv6 routes learned there stay")

    def _switch(self, path: str, value: str) -> None:
        before = _read(path)
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
        addresses = set() if is_new else {_mapped(address) for item in items for address in item.addresses}
        published = {pair for item in items for pair in item.udp_ports} if is_new else set()
        local = self.local_addresses() if any(address.is_unspecified for address, _ in published) else set()
        targets = {
            _mapped(target) + port.to_bytes(2)
            for address, port in published
            for target in (local if address.is_unspecified else (address,))
            if target.version == address.version
        }
        if not addresses and not targets:
            return
        flow_filter = ffi.new("struct dnet_flow_filter *")
        arrays = [ffi.new("uint8_t[]", b"".join(sorted(keys)) or b"\0") for keys in (addresses, targets)]
        flow_filter.addresses, flow_filter.address_count = arrays[0], len(addresses)
        flow_filter.udp_targets, flow_filter.udp_target_count = arrays[1], len(targets)
        code = lib.dnet_drop_flows(self._socket(NETLINK_NETFILTER), flow_filter, ffi.new("uint32_t *"))
        if code:
            raise _refusal("drop connection tracking entries", -code, "")

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
        self._unpin([item for item in items if isinstance(item, Sandbox)], on_progress)
        if is_rollback and any(isinstance(item, Forwarding) for item in items):
            while self._switched:
                _write(*self._switched.popitem())

    def _unpin(self, sandboxes: Sequence[Sandbox], on_progress: Progress | None) -> None:
        array, _alive = _sandbox_array(sandboxes)
        control = ffi.new("struct dnet_control *")
        code = _supervise(lambda: lib.dnet_unpin(array, len(sandboxes), control), control, len(sandboxes), on_progress)
        if code:
            raise _refusal("remove sandboxes", -code, "")
        for item, result in zip(sandboxes, array, strict=True):
            if result.error:
                raise _refusal(f"remove {item}", -result.error, "")

    def _delete_devices(self, devices: Sequence[Device]) -> None:
        """Delete those that are still there: gathered into a group that the kernel deletes at one stroke.

        Explicitly, although a veth goes with its sandbox: that happens later and only when no process is left in it.
        """
        left = [item for item in devices if self.is_device(item.index, item.device)]
        control = ffi.new("struct dnet_control *")

        def work() -> int:
            for start in range(0, len(left), DELETE_TOGETHER):
                if control.cancel:
                    return -errno.ECANCELED
                self._delete_together(left[start : start + DELETE_TOGETHER])
            return 0

        _supervise(work, control, len(left), None)

    def _delete_together(self, devices: Sequence[Device]) -> None:
        batch, _data = _new_batch(len(devices) + 1)
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
                raise _refusal(f"delete {devices[min(index, len(devices) - 1)]}", -code, text)

    # Talking

    def host_fd(self) -> int:
        """Return the host's rtnetlink socket."""
        return self._socket(NETLINK_ROUTE)

    def _socket(self, protocol: int) -> int:
        if protocol not in self._sockets:
            result = ffi.new("int *")
            code = lib.dnet_socket(-1, protocol, result)
            if code:
                raise _refusal("open a netlink socket", -code, "")
            self._sockets[protocol] = int(result[0])
        return self._sockets[protocol]

    def _transact(self, batch: Any) -> tuple[list[int], str]:
        codes = ffi.new("int32_t[]", batch.count)
        text = ffi.new("char[]", TEXT_BYTES)
        code = lib.dnet_transact(self.host_fd(), batch.data, batch.length, batch.count, codes, text, TEXT_BYTES)
        if code:
            raise _refusal("talk to the kernel over netlink", -code, "")
        return list(codes), _text(text)

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
        batch, data = _new_batch(1)
        lib.dnet_put_dump(batch, kind, family)
        yield from self._dump_raw(NETLINK_ROUTE, bytes(ffi.buffer(data, batch.length)))

    def _dump_raw(self, protocol: int, request: bytes) -> Iterator[bytes]:
        fd, data = self._socket(protocol), ffi.new("uint8_t[]", request)
        capacity = DUMP_BYTES
        length = ffi.new("size_t *")
        while True:
            buffer = ffi.new("uint8_t[]", capacity)
            code = lib.dnet_dump(fd, data, len(request), buffer, capacity, length)
            if code == -errno.ENOBUFS:
                capacity *= 4
            elif code != -errno.EAGAIN:
                break
        if code:
            raise _refusal("read the kernel's tables", -code, "")
        view = bytes(ffi.buffer(buffer, length[0]))
        offset = 0
        while offset < len(view):
            (size,) = struct.unpack_from("=I", view, offset)
            yield view[offset : offset + size]
            offset += (size + 3) & ~3


class _Build:
    """One call of the C core's maker: groups encoded into segments, and results mapped back to objects."""

    def __init__(self, kernel: Kernel, groups: Sequence[Sequence[Object]]) -> None:
        self._kernel = kernel
        self._groups = groups
        self._sandboxes = [next(item for item in group if isinstance(item, Sandbox)) for group in groups]
        self._array, self._alive = _sandbox_array(self._sandboxes)
        # For each group, the positions in it of the objects of each segment.
        self._positions: list[list[list[int]]] = []
        batch, self._data = _new_batch(sum(map(len, groups)))
        for index, group in enumerate(groups):
            self._encode_group(index, group, batch)

    def _encode_group(self, index: int, group: Sequence[Object], batch: Any) -> None:
        segments: list[tuple[bool, int, int]] = []  # inside, first byte, messages
        positions: list[list[int]] = []
        is_open = False
        for position, item in enumerate(group):
            if isinstance(item, Sandbox):
                continue
            inside = isinstance(item, Device) and bool(item.sandbox)
            if not is_open or segments[-1][0] != inside:
                segments.append((inside, batch.length, 0))
                positions.append([])
            self._kernel.encode(item, batch)
            positions[-1].append(position)
            is_open = not _ends_segment(item)
        self._positions.append(positions)
        array = ffi.new("struct dnet_segment[]", len(segments))
        ends = [start for _, start, _ in segments[1:]] + [batch.length]
        for target, (inside, start, _), end, members in zip(array, segments, ends, positions, strict=True):
            target.data = self._data + start
            target.length = end - start
            target.count = len(members)
            target.inside = inside
        self._alive.append(array)
        sandbox = self._array[index]
        sandbox.make = 1
        sandbox.segments = array
        sandbox.segment_count = len(segments)

    def run(self, *, keep_going: bool, on_progress: Progress | None) -> list[DnetError | None]:
        """Build, and return an error or None for each group; those not reached have None."""
        control = ffi.new("struct dnet_control *")
        text = ffi.new("char[]", TEXT_BYTES)
        fd, count = self._kernel.host_fd(), len(self._groups)
        call = lambda: lib.dnet_build(fd, self._array, count, keep_going, control, text, TEXT_BYTES)  # noqa: E731
        code = _supervise(call, control, count, on_progress)
        if code:
            raise _refusal("build sandboxes", -code, "")
        words = _text(text)
        return [self._error(index, words) if self._array[index].error else None for index in range(count)]

    def _error(self, index: int, text: str) -> DnetError:
        sandbox = self._array[index]
        if sandbox.failed_segment < 0:
            return _refused(self._sandboxes[index], -sandbox.error, text)
        position = self._positions[index][sandbox.failed_segment][sandbox.failed_message]
        return _refused(self._groups[index][position], -sandbox.error, text)


def _ends_segment(item: Object) -> bool:
    """Whether what follows must wait until `item` is known to exist, since it goes by the index chosen for it.

    Were it sent along and `item` refused because somebody has that index, it would hit somebody's device.
    """
    return isinstance(item, (Bridge, Veth))


def _put_bridge(item: Bridge, batch: Any) -> int:
    return int(lib.dnet_put_bridge(batch, item.index, item.device.encode(), _mac(item.mac), item.mtu))


def _put_veth(item: Veth, batch: Any) -> int:
    peer = item.peer.encode()
    return int(
        lib.dnet_put_veth(
            batch,
            item.index,
            item.device.encode(),
            item.master_index,
            item.peer_index,
            peer,
            _mac(item.peer_mac),
            item.mtu,
        )
    )


def _put_quiet(item: Quiet, batch: Any) -> int:
    has_ipv6 = _host_has_ipv6() and not 0 < item.mtu < IPV6_MTU_MIN
    return int(lib.dnet_put_quiet(batch, item.index, item.alias.encode() if item.alias else ffi.NULL, has_ipv6))


def _put_up(item: Up, batch: Any) -> int:
    return int(lib.dnet_put_up(batch, item.index))


def _put_address(item: Address, batch: Any) -> int:
    interface = item.interface
    family, prefix = FAMILIES[interface.version], interface.network.prefixlen
    return int(lib.dnet_put_address(batch, 1, item.index, family, interface.packed, prefix))


def _put_route(item: Route, batch: Any) -> int:
    gateway = item.gateway.packed if item.gateway else ffi.NULL
    destination = item.destination
    family, packed = FAMILIES[destination.version], destination.network_address.packed
    return int(lib.dnet_put_route(batch, 1, item.index, family, packed, destination.prefixlen, gateway))


def _put_bridge_port(item: BridgePort, batch: Any) -> int:
    return int(lib.dnet_put_bridge_port(batch, item.index, item.hairpin, item.isolated))


def _put_loopback_route(item: LoopbackRoute, batch: Any) -> int:
    return int(lib.dnet_put_loopback_route(batch, item.index))


def _put_local_routing(item: LocalRouting, batch: Any) -> int:
    return int(lib.dnet_put_route_localnet(batch, item.index))


_ENCODERS: dict[type[Object], Callable[[Any, Any], int]] = {
    Bridge: _put_bridge,
    Veth: _put_veth,
    Quiet: _put_quiet,
    Up: _put_up,
    Address: _put_address,
    Route: _put_route,
    BridgePort: _put_bridge_port,
    LocalRouting: _put_local_routing,
    LoopbackRoute: _put_loopback_route,
}


@cache
def _host_has_ipv6() -> bool:
    """Whether the kernel has IPv6 (it may be built or booted without)."""
    return os.path.exists(FORWARDING_PATHS[6])


def _mapped(address: IPAddress) -> bytes:
    """Return 16 bytes, IPv4 mapped into IPv6."""
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed  # noqa: PLR2004


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


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def _write(path: str, value: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(value)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _text(buffer: Any) -> str:
    return bytes(ffi.string(buffer)).decode(errors="replace")


def _new_batch(messages: int) -> tuple[Any, Any]:
    """Return a batch with room for so many messages, and the memory it writes to."""
    capacity = messages * MESSAGE_BYTES_MAX
    data = ffi.new("uint8_t[]", capacity)
    batch = ffi.new("struct dnet_batch *", {"data": data, "capacity": capacity})
    return batch, data


def _sandbox_array(sandboxes: Sequence[Sandbox]) -> tuple[Any, list[Any]]:
    """Return the C array, and what must be kept alive with it."""
    array = ffi.new("struct dnet_sandbox[]", len(sandboxes))
    alive: list[Any] = []
    for target, item in zip(array, sandboxes, strict=True):
        pin = ffi.new("char[]", os.fsencode(item.path))
        name = ffi.new("char[]", os.fsencode(item.name_path)) if item.name_path else ffi.NULL
        target.pin = pin
        target.name = name
        alive += (pin, name)
    return array, alive


def _supervise(call: Callable[[], int], control: Any, count: int, on_progress: Progress | None) -> int:
    """Run a long C call such that signals are handled, and progress reported, while it runs.

    An exception here cancels the call, waits until it has come to rest and goes on to the caller.
    """
    if count < SUPERVISED_FROM and on_progress is None:
        return call()
    work = Background(call)
    try:
        work.start()
        while not work.wait(PROGRESS_INTERVAL_S):
            if on_progress:
                on_progress(int(control.done))
        if on_progress:
            on_progress(int(control.done))
    except BaseException:
        control.cancel = 1
        work.wait_uninterrupted()
        raise
    return work.result()


def _attributes(message: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    while offset + 4 <= len(message):
        size, kind = struct.unpack_from("=HH", message, offset)
        if size < 4:  # noqa: PLR2004  a header's own length
            return
        yield kind & 0x3FFF, message[offset + 4 : offset + size]
        offset += (size + 3) & ~3


def _refused(item: Object, code: int, text: str) -> DnetError:
    """Build the error of an object that the kernel refused."""
    what = f"create {item}"
    if code == errno.EEXIST and isinstance(item, (Bridge, Veth, Sandbox)):
        return Conflict(
            f"cannot {what}: it exists already, and is not dnet's",
            object=str(item),
            hint="remove or rename it",
        )
    if code == errno.EXFULL:
        return Exhausted(f"cannot {what}: the bridge has no port left (the kernel's limit is 1,023)", object=str(item))
    return _refusal(what, code, text)


def _refusal(what: str, code: int, text: str) -> DnetError:
    if code == errno.EOPNOTSUPP:
        reason = text or os.strerror(code)
        return Unsupported(
            f"cannot {what}: {reason}",
            object=what,
            hint="this kernel lacks the feature; `dnet doctor` lists them",
        )
    if code == errno.EPERM:
        return NeedsRoot(f"cannot {what}: {os.strerror(code)}", object=what, hint="run it as root, with sudo say")
    return KernelRefused(what, code, f"{os.strerror(code)} ({text})" if text else os.strerror(code))
