"""The things dnet makes in the kernel, as frozen values. Rank 3, pure.

A driver says what exists because a network or an endpoint exists, as a tuple of these in creation order;
`apply` creates such tuples and deletes them in reverse. An object belongs to one backend (`files`, `nft`,
`flows`, `bpf`, `kernel`, `ovs`), and within the kernel to the host's side or to the inside of a sandbox. `owned`
objects vanish with the one they belong to, so nothing deletes them. One object of the kernel's is one netlink message
(Sandbox, Forwarding, Offloads, Sysctl and AdvertisedRoute excepted), which is how a refusal finds its object.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from dnet.model import EVERY_VLAN, IPAddress, IPInterface, IPNetwork, PortVlans
from dnet.values import Value, frozen

# VLANs, each pair the first and the last of some that follow each other.
VlanRanges = tuple[tuple[int, int], ...]
ALL_VLANS: VlanRanges = ((0, 4095),)
SILENT: VlanRanges = ((4095, 4095),)  # the trunk that passes nothing: no frame is in that VLAN


@frozen
class Object(Value):
    """Base of all. `str(object)` is the phrase used in plans and errors."""

    backend: ClassVar[str]
    owned: ClassVar[bool] = False


@frozen
class Directory(Object):
    """A directory, deleted with all that is in it."""

    backend: ClassVar[str] = "files"
    path: str

    def __str__(self) -> str:
        return f"directory {self.path}"


@frozen
class File(Object):
    """A text file in a Directory."""

    backend: ClassVar[str] = "files"
    owned: ClassVar[bool] = True
    path: str
    text: str

    def __str__(self) -> str:
        return f"file {self.path}"


@frozen
class Symlink(Object):
    """A symbolic link."""

    backend: ClassVar[str] = "files"
    path: str
    target: str

    def __str__(self) -> str:
        return f"link {self.path} to {self.target}"


@frozen
class NftTable(Object):
    """The table `inet dnet` with its fixed chains, sets and maps; made again, in place, when it exists."""

    backend: ClassVar[str] = "nft"

    def __str__(self) -> str:
        return "table inet dnet"


@frozen
class NatElement(Object):
    """An element of one of the table's sets or maps. `key` and `value` are in nft's own syntax."""

    backend: ClassVar[str] = "nft"
    set_name: str
    key: str
    value: str = ""

    def __str__(self) -> str:
        return f"element {self.key}{' : ' if self.value else ''}{self.value} of {self.set_name}"


@frozen
class Forwarding(Object):
    """Forwarding of IP `version` between the host's interfaces; only the undoing of a failed create switches it off."""

    backend: ClassVar[str] = "kernel"
    owned: ClassVar[bool] = True
    version: int

    def __str__(self) -> str:
        return f"forwarding of IPv{self.version}"


@frozen
class Flows(Object):
    """The host's connection tracking entries of a container.

    Created, entries from before that would keep a UDP peer away from the ports now published are dropped; deleted,
    all entries of the addresses are. `udp_ports` are the host's addresses and ports.
    """

    backend: ClassVar[str] = "flows"
    addresses: tuple[IPAddress, ...]
    udp_ports: tuple[tuple[IPAddress, int], ...]

    def __str__(self) -> str:
        return f"connection tracking of {', '.join(map(str, self.addresses))}"


@frozen
class Device(Object):
    """An object that is about one device, on the host or, with `sandbox`, inside the sandbox of that name.

    `index` 0 is a device of the host's whose index somebody else has chosen, and which goes by its name.
    """

    backend: ClassVar[str] = "kernel"
    device: str
    index: int
    sandbox: str

    @property
    def place(self) -> str:
        """Where the device is, for people."""
        return f"{self.device} in sandbox {self.sandbox}" if self.sandbox else self.device


@frozen
class Sandbox(Object):
    """A network namespace, pinned at `path`, with a name in `ip netns` at `name_path`."""

    backend: ClassVar[str] = "kernel"
    sandbox: str
    path: str
    name_path: str

    def __str__(self) -> str:
        return f"sandbox {self.sandbox} at {self.path}"


@frozen
class HostSandbox(Sandbox):
    """The host's own network namespace, pinned and named as a sandbox."""

    def __str__(self) -> str:
        return f"the host's network as sandbox {self.sandbox} at {self.path}"


@frozen
class JoinedSandbox(Sandbox):
    """A network namespace that exists already: what is in it can be made, itself is left alone.

    Where `inode` and `cookie` are given, it has to be the namespace that has these.
    """

    owned: ClassVar[bool] = True
    inode: int = 0
    cookie: int = 0

    @classmethod
    def of(cls, sandbox: Sandbox) -> JoinedSandbox:
        """Return a sandbox as one that is there already."""
        if isinstance(sandbox, JoinedSandbox):
            return sandbox
        return cls(sandbox.sandbox, sandbox.path, sandbox.name_path)

    def __str__(self) -> str:
        return f"sandbox {self.sandbox} at {self.path}"


@frozen
class Bridge(Device):
    """A Linux bridge, without multicast snooping and IPv6 autoconfiguration, still down."""

    mac: str
    mtu: int

    def __str__(self) -> str:
        return f"bridge {self.device}"


@frozen
class Veth(Device):
    """A veth pair: `device` on the host, a port of the bridge `master`; its peer born inside `peer_sandbox`.

    The kernel removes it with the sandbox, but deletion makes sure, since a foreign process may hold on to that.
    """

    master: str
    master_index: int
    peer: str
    peer_index: int
    peer_mac: str
    peer_sandbox: str
    mtu: int

    def __str__(self) -> str:
        return f"veth {self.device} on {self.master}, peer {self.peer} {self.peer_mac} in sandbox {self.peer_sandbox}"


@frozen
class Macvlan(Device):
    """A macvlan on the host's `device`, born as `peer` inside `peer_sandbox`."""

    peer: str
    peer_index: int
    peer_mac: str
    peer_sandbox: str
    mode: str
    mtu: int

    def __str__(self) -> str:
        return f"macvlan {self.peer} {self.peer_mac}".rstrip() + f" on {self.device} in sandbox {self.peer_sandbox}"


@frozen
class MovedDevice(Device):
    """The host's `device` itself, moved into `peer_sandbox` as `peer`; `before` is what it had on the host."""

    peer: str
    peer_index: int
    peer_sandbox: str
    before: tuple[Object, ...]

    def __str__(self) -> str:
        return f"device {self.device} as {self.peer} in sandbox {self.peer_sandbox}"


@frozen
class ReturnedDevice(Device):
    """The absence of a MovedDevice: it is back among the host's devices, by its old name and index."""

    owned: ClassVar[bool] = True
    name: str
    host_index: int

    def __str__(self) -> str:
        return f"device {self.place} back on the host as {self.name}"


@frozen
class Dummy(Device):
    """An interface that leads nowhere."""

    mac: str
    mtu: int

    def __str__(self) -> str:
        return f"dummy {self.place}"


@frozen
class NoDevice(Device):
    """The absence of a device that was born inside a sandbox."""

    owned: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"no {self.place}"


@frozen
class Identity(Device):
    """A device's MAC address and MTU; empty and 0 leave what it has."""

    owned: ClassVar[bool] = True
    mac: str
    mtu: int

    def __str__(self) -> str:
        return " ".join(filter(None, (self.mac, f"mtu {self.mtu}" if self.mtu else "", "on", self.place)))


@frozen
class Alias(Device):
    """A device's ifalias, which tells people what it is for."""

    owned: ClassVar[bool] = True
    alias: str

    def __str__(self) -> str:
        return f"alias {self.alias} on {self.place}"


@frozen
class ArpNotify(Device):
    """net.ipv4.conf.DEVICE.arp_notify: the neighbours are told when the device comes up, or Announced is made."""

    owned: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"arp_notify on {self.place}"


@frozen
class Settled(Device):
    """A device that has noticed its carrier: until then a bridge port does not forward, nor does a device send."""

    owned: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"carrier of {self.place}"


@frozen
class Announced(Device):
    """What neighbours know of a device's addresses: a gratuitous ARP, and advertisements of `addresses6`."""

    owned: ClassVar[bool] = True
    mac: str
    addresses6: tuple[IPAddress, ...] = ()

    def __str__(self) -> str:
        return f"announcement of {self.place}"


@frozen
class Quiet(Device):
    """No IPv6 autoconfiguration, so that the device sends nothing of its own accord; and its ifalias, if any.

    With an `mtu` below IPv6's least the kernel gives a device no IPv6 at all, and nothing has to be switched off.
    """

    owned: ClassVar[bool] = True
    alias: str = ""
    mtu: int = 0

    def __str__(self) -> str:
        return f"addr_gen_mode none{f', alias {self.alias}' if self.alias else ''} on {self.place}"


@frozen
class Membership(Device):
    """A device's being a port of the bridge `master`, for devices that exist already."""

    owned: ClassVar[bool] = True
    master: str
    master_index: int

    def __str__(self) -> str:
        return f"port {self.place} of {self.master}"


@frozen
class BridgePort(Device):
    """Settings of a bridge port.

    `hairpin`: frames may leave by the port they came in by, which br_netfilter needs where a container reaches a
    published port of its own through the host's address. `isolated`: the port exchanges no frames with other
    isolated ones, only with the bridge itself.
    """

    owned: ClassVar[bool] = True
    hairpin: bool
    isolated: bool

    def __str__(self) -> str:
        settings = [name for name in ("hairpin", "isolated") if getattr(self, name)]
        return f"port settings {', '.join(settings)} on {self.place}"


@frozen
class LocalRouting(Device):
    """net.ipv4.conf.DEVICE.route_localnet: replies to what came from 127.0.0.1 may arrive through the device."""

    owned: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"route_localnet on {self.place}"


@frozen
class LoopbackRoute(Device):
    """The route `local ::1 dev DEVICE`: what LocalRouting does for 127.0.0.1, for ::1."""

    owned: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"route local ::1 dev {self.place}"


@frozen
class Address(Device):
    """An address with its prefix length; a bare one brings no route to its subnet."""

    owned: ClassVar[bool] = True
    interface: IPInterface
    is_bare: bool = False

    def __str__(self) -> str:
        return f"address {self.interface} on {self.place}"


@frozen
class Up(Device):
    """The administrative state up."""

    owned: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"up {self.place}"


@frozen
class Route(Device):
    """A route through a device, or with index 0 the one that leads to `gateway`; None means directly connected.

    Metric 0 is the kernel's own choice: 0 for IPv4, 1024 for IPv6.
    """

    owned: ClassVar[bool] = True
    destination: IPNetwork
    gateway: IPAddress | None
    metric: int = 0

    def __str__(self) -> str:
        via = f" via {self.gateway}" if self.gateway else ""
        metric = f" metric {self.metric}" if self.metric else ""
        return f"route {_destination(self)}{via} {_through(self)}{metric}"


@frozen
class NoRoute(Route):
    """The absence of a route."""

    @classmethod
    def of(cls, route: Route) -> NoRoute:
        """Return the absence of this route."""
        return cls(route.device, route.index, route.sandbox, route.destination, route.gateway, route.metric)

    def __str__(self) -> str:
        return f"no route {_destination(self)} {_through(self)}"


@frozen
class Dumped(Device):
    """A route or address that is not dnet's, as the kernel told it: `message`, and in words `text`."""

    owned: ClassVar[bool] = True
    text: str
    message: bytes

    def __str__(self) -> str:
        return f"{self.text} on {self.place}"


@frozen
class DisplacedRoute(Dumped):
    """The absence of a route that another one has the place of. Deleted, the route is there again."""

    owned: ClassVar[bool] = False

    def __str__(self) -> str:
        return f"no {self.text} on {self.place}"


@frozen
class BridgeFiltering(Device):
    """A bridge's own filtering of VLANs, no port being in any by itself."""

    owned: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"VLAN filtering of {self.place}"


@frozen
class NoBridgeFiltering(BridgeFiltering):
    """The absence of that filtering."""

    @classmethod
    def instead(cls, item: BridgeFiltering) -> NoBridgeFiltering:
        """Return the absence of this filtering."""
        return cls(item.device, item.index, item.sandbox)

    def __str__(self) -> str:
        return f"no {BridgeFiltering.__str__(self)}"


@frozen
class BridgeVlans(Device):
    """VLANs that a filtering bridge lets through a port, or lets its own device have; both kinds of `ranges` ascend."""

    owned: ClassVar[bool] = True
    is_bridge: bool
    ranges: tuple[tuple[int, int], ...]
    untagged: int

    @classmethod
    def of(cls, device: str, index: int, vlans: PortVlans, *, is_bridge: bool) -> tuple[BridgeVlans, ...]:
        """Return the VLANs of a device, in as many objects as messages are needed."""
        untagged = vlans.untagged
        ranges = [part for first, last in vlans.trunk for part in _without(first, last, untagged)]
        parts = [tuple(ranges[at : at + RANGES_TOGETHER]) for at in range(0, len(ranges), RANGES_TOGETHER)] or [()]
        return tuple(
            cls(device, index, "", is_bridge, part, 0 if number else untagged) for number, part in enumerate(parts)
        )

    def __str__(self) -> str:
        words = [f"{first}-{last}" if last > first else str(first) for first, last in self.ranges]
        words += [f"{self.untagged} untagged"] if self.untagged else []
        return f"VLANs {', '.join(words) or 'none'} on {self.place}"


@frozen
class NoBridgeVlans(BridgeVlans):
    """The absence of VLANs of a port."""

    @classmethod
    def instead(cls, item: BridgeVlans) -> NoBridgeVlans:
        """Return the absence of these VLANs."""
        return cls(item.device, item.index, item.sandbox, item.is_bridge, item.ranges, item.untagged)

    def __str__(self) -> str:
        return f"no {BridgeVlans.__str__(self)}"


# As many ranges as surely fit into one message.
RANGES_TOGETHER = 16


def _without(first: int, last: int, vid: int) -> list[tuple[int, int]]:
    """Return a range without one of its numbers."""
    if not first <= vid <= last:
        return [(first, last)]
    return [part for part in ((first, vid - 1), (vid + 1, last)) if part[0] <= part[1]]


@frozen
class MacEntry(Device):
    """The entry of a MAC in the forwarding table of a port's bridge; it stays, whoever else sends from that MAC.

    The table of a bridge whose VLANs are tc programs is one for all VLANs: without it, a container in another VLAN that
    claims to have the MAC gets its traffic sent there, where it is dropped.
    """

    owned: ClassVar[bool] = True
    mac: str

    def __str__(self) -> str:
        return f"MAC {self.mac} at {self.place}"


@frozen
class NoMacEntry(MacEntry):
    """The absence of a MAC's entry, at a port whose bridge no longer keeps VLANs apart."""

    @classmethod
    def instead(cls, item: MacEntry) -> NoMacEntry:
        """Return the absence of this entry."""
        return cls(item.device, item.index, item.sandbox, item.mac)

    def __str__(self) -> str:
        return f"no {MacEntry.__str__(self)}"


@frozen
class Message(Device):
    """A message of rtnetlink about a device, as it is sent: for what has been read from the kernel (see `messages`).

    `kind` and `flags` are the header's, `body` is all behind it, `text` what it makes so.
    """

    owned: ClassVar[bool] = True
    kind: int
    flags: int
    body: bytes
    text: str

    def __str__(self) -> str:
        return self.text


@frozen
class LinkMessage(Message):
    """Settings of a device."""


@frozen
class AddressMessage(Message):
    """An address of a device, or its absence."""


@frozen
class RouteMessage(Message):
    """A route through a device, or its absence."""


@frozen
class Sysctl(Device):
    """net.ipv6.conf.DEVICE.`key`, of which netlink has none."""

    owned: ClassVar[bool] = True
    key: str
    value: str

    def __str__(self) -> str:
        return f"{self.key}={self.value} on {self.place}"


@frozen
class AdvertisedRoute(Device):
    """An IPv6 route as the kernel makes it of a router's advertisement, which only an ioctl can make otherwise.

    One that netlink makes is not the router's: the kernel then ignores all that further advertisements say
    (ndisc_router_discovery). `preference` is RFC 4191's, `expires_s` None for never.
    """

    owned: ClassVar[bool] = True
    destination: IPNetwork
    gateway: IPAddress
    metric: int
    preference: int
    expires_s: int | None

    def __str__(self) -> str:
        destination = "default" if self.destination.prefixlen == 0 else str(self.destination)
        return f"route {destination} via {self.gateway} dev {self.place} metric {self.metric}, advertised"


@frozen
class Addition(Object):
    """Something of dnet's on a device of somebody else's, which therefore does not vanish with the device.

    Creating it is creating `item`, deleting it is sending `removal`.
    """

    backend: ClassVar[str] = "kernel"
    item: Device
    removal: Message

    def __str__(self) -> str:
        return str(self.item)


@frozen
class VlanEntry(Object):
    """What a port of a bridge passes, or the bridge itself: the entry of its index in the map of the VLAN programs."""

    backend: ClassVar[str] = "bpf"
    device: str
    index: int
    vlans: PortVlans

    def __str__(self) -> str:
        return f"{self.vlans} on {self.device}"


@frozen
class NoVlanEntry(VlanEntry):
    """The absence of the entry of a device's index."""

    @classmethod
    def instead(cls, item: VlanEntry) -> NoVlanEntry:
        """Return the absence of this entry."""
        return cls(item.device, item.index, item.vlans)

    def __str__(self) -> str:
        return f"no {VlanEntry.__str__(self)}"


@frozen
class VlanFilter(Device):
    """The tc hooks of a bridge's port, or of the bridge itself, at which the bridge's VlanPrograms work.

    A device with it and without a VlanEntry passes nothing. The bridge's own comes first, then the programs, then the
    ports': a bridge's devices share its two blocks of filters, which exist as long as one of them does.
    """

    owned: ClassVar[bool] = True
    bridge_index: int

    @property
    def blocks(self) -> tuple[int, int]:
        """The blocks of ingress and egress. What the bridge's own device sends is what enters the bridge."""
        into, out = vlan_block(self.bridge_index, "into"), vlan_block(self.bridge_index, "out")
        return (out, into) if self.index == self.bridge_index else (into, out)

    def __str__(self) -> str:
        return f"VLAN filter on {self.place}"


@frozen
class NoVlanFilter(VlanFilter):
    """The absence of tc hooks, on a device whose bridge no longer keeps VLANs apart."""

    @classmethod
    def instead(cls, item: VlanFilter) -> NoVlanFilter:
        """Return the absence of these hooks."""
        return cls(item.device, item.index, item.sandbox, item.bridge_index)

    def __str__(self) -> str:
        return f"no {VlanFilter.__str__(self)}"


@frozen
class VlanProgram(Device):
    """The program that tags and filters what goes `into` the bridge `device`, or `out` of it, at all of its ports."""

    owned: ClassVar[bool] = True
    direction: Literal["into", "out"]

    @property
    def block(self) -> int:
        """The block that it is in."""
        return vlan_block(self.index, self.direction)

    def __str__(self) -> str:
        return f"VLAN program {self.direction} of {self.place}"


def vlan_block(bridge_index: int, direction: Literal["into", "out"]) -> int:
    """Return the number of a bridge's block of tc filters; an index has 31 bits, a block's number 32."""
    return 2 * bridge_index + (direction == "out")


def _destination(route: Route) -> str:
    return "default" if route.destination.prefixlen == 0 else str(route.destination)


def _through(route: Route) -> str:
    return f"dev {route.place}" if route.device else f"in sandbox {route.sandbox}"


@frozen
class Offloads(Device):
    """Frames leave the device as they go on a wire: with checksums, and no longer than its MTU.

    A veth leaves both to the receiver, which a switch that is a process does not know (in software then, 1 Gbit/s).
    Where the device of the bridge `switch` takes frames as they are, so does the switch, and nothing is made of it.
    """

    owned: ClassVar[bool] = True
    switch: str

    def __str__(self) -> str:
        return f"complete frames from {self.place}, unless {self.switch} takes others"


@frozen
class Merging(Device):
    """By what a device makes one long frame of several that it receives, in bits of the core's; 0 for nothing.

    A switch that is a process drops what is longer than the MTU.
    """

    owned: ClassVar[bool] = True
    bits: int

    def __str__(self) -> str:
        words = [name for bit, name in ((1, "GRO"), (2, "LRO")) if self.bits & bit]
        return f"{' and '.join(words) or 'no GRO and LRO'} on {self.place}"


@frozen
class OvsBridge(Object):
    """A bridge of Open vSwitch with its internal port, a device of the same name, in VLAN `tag` (0: untagged).

    `owner` marks it as dnet's. Without one the bridge is somebody's: it has to exist, with this `datapath_type` unless
    that is empty, and is left as it is. An `mtu` of 0 leaves Open vSwitch's choice, the least of the ports'.
    """

    backend: ClassVar[str] = "ovs"
    bridge: str
    owner: str
    datapath_type: str
    mac: str
    mtu: int
    tag: int

    def __str__(self) -> str:
        kind = f", datapath {self.datapath_type}" if self.datapath_type else ""
        vlan = f", VLAN {self.tag}" if self.tag else ""
        return f"Open vSwitch bridge {self.bridge}{kind}{vlan}"


@frozen
class OvsPort(Object):
    """A device that exists as a port of an Open vSwitch bridge.

    With `tag` it is an access port of that VLAN, with `trunks` a trunk of those, where untagged frames belong to VLAN
    `native` (0: to VLAN 0, if that is among them); with neither an access port for untagged frames only.
    `is_protected`: it exchanges no frames with other protected ports. `owner` marks it as dnet's.
    """

    backend: ClassVar[str] = "ovs"
    port: str
    bridge: str
    owner: str
    tag: int
    trunks: VlanRanges
    native: int
    is_protected: bool

    @classmethod
    def of(
        cls, port: str, bridge: str, owner: str, vlans: PortVlans | None, *, untagged: int = 0, is_protected: bool
    ) -> OvsPort:
        """Return the port that has some VLANs, where `untagged` is the VLAN that untagged frames count as being in.

        Without VLANs it takes and gives untagged frames only.
        """
        if vlans is None:
            return cls(port, bridge, owner, 0, (), 0, is_protected)
        tag, native = (0 if vid == untagged else vid for vid in (vlans.access, vlans.native))
        trunks = () if vlans.access else vlans.trunk or SILENT
        if vlans.native and vlans.trunk == EVERY_VLAN:  # what is untagged is in one of them
            trunks = ALL_VLANS
        elif vlans.native and not native:
            trunks = ((0, 0), *trunks)
        return cls(port, bridge, owner, tag, trunks, native, is_protected)

    def __str__(self) -> str:
        trunks = ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in self.trunks)
        parts = [
            f"port {self.port} on Open vSwitch bridge {self.bridge}",
            f"tag {self.tag}" if self.tag else "",
            f"trunks {trunks}" if trunks else "",
            f"native {self.native}" if self.native else "",
            "protected" if self.is_protected else "",
        ]
        return ", ".join(filter(None, parts))


@frozen
class NoOvsPort(OvsPort):
    """The absence of a port."""

    @classmethod
    def instead(cls, item: OvsPort) -> NoOvsPort:
        """Return the absence of this port."""
        return cls(item.port, item.bridge, item.owner, item.tag, item.trunks, item.native, item.is_protected)

    def __str__(self) -> str:
        return f"no port {self.port} on Open vSwitch bridge {self.bridge}"


@frozen
class OvsMac(Object):
    """The MAC address that Open vSwitch is told to give a bridge's own device; empty for one of its ports' choice."""

    backend: ClassVar[str] = "ovs"
    bridge: str
    mac: str

    def __str__(self) -> str:
        what = f"MAC address {self.mac}" if self.mac else "no MAC address of its own"
        return f"{what} on Open vSwitch bridge {self.bridge}"
