"""Network devices and their settings, as objects."""

from __future__ import annotations

from dnet.model.address import IPAddress
from dnet.model.values import frozen
from dnet.objects.object import Device, Object, Setting


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
class ReturnedDevice(Setting):
    """Moves a MovedDevice back to the host, with its old name and index."""

    name: str
    host_index: int

    def __str__(self) -> str:
        return f"device {self.place} back on the host as {self.name}"


@frozen
class Dummy(Device):
    """A dummy interface, which drops what is sent to it."""

    mac: str
    mtu: int

    def __str__(self) -> str:
        return f"dummy {self.place}"


@frozen
class Identity(Setting):
    """A device's MAC address and MTU; empty and 0 leave what it has."""

    mac: str
    mtu: int

    def __str__(self) -> str:
        return " ".join(filter(None, (self.mac, f"mtu {self.mtu}" if self.mtu else "", "on", self.place)))


@frozen
class Alias(Setting):
    """A device's ifalias, which tells people what it is for."""

    alias: str

    def __str__(self) -> str:
        return f"alias {self.alias} on {self.place}"


@frozen
class ArpNotify(Setting):
    """net.ipv4.conf.DEVICE.arp_notify: the neighbours are told when the device comes up, or an Announcement is made."""

    def __str__(self) -> str:
        return f"arp_notify on {self.place}"


@frozen
class CarrierSeen(Setting, kind="Settled"):
    """A device that has noticed its carrier: until then a bridge port does not forward, nor does a device send."""

    def __str__(self) -> str:
        return f"carrier of {self.place}"


@frozen
class Announcement(Setting, kind="Announced"):
    """What neighbours know of a device's addresses: a gratuitous ARP, and advertisements of `addresses6`."""

    mac: str
    addresses6: tuple[IPAddress, ...] = ()

    def __str__(self) -> str:
        return f"announcement of {self.place}"


@frozen
class NoAutoconf(Setting, kind="Quiet"):
    """No IPv6 autoconfiguration, so that the device sends nothing of its own accord; and its ifalias, if any.

    With an `mtu` below IPv6's least the kernel gives a device no IPv6 at all, and nothing has to be switched off.
    """

    alias: str = ""
    mtu: int = 0

    def __str__(self) -> str:
        return f"addr_gen_mode none{f', alias {self.alias}' if self.alias else ''} on {self.place}"


@frozen
class PortOf(Setting, kind="Membership"):
    """Makes an existing device a port of the bridge `master`."""

    master: str
    master_index: int

    def __str__(self) -> str:
        return f"port {self.place} of {self.master}"


@frozen
class BridgePort(Setting):
    """Settings of a bridge port.

    `hairpin`: frames may leave by the port they came in by, which br_netfilter needs where a container reaches a
    published port of its own through the host's address. `isolated`: the port exchanges no frames with other
    isolated ones, only with the bridge itself.
    """

    hairpin: bool
    isolated: bool

    def __str__(self) -> str:
        settings = [name for name in ("hairpin", "isolated") if getattr(self, name)]
        return f"port settings {', '.join(settings)} on {self.place}"


@frozen
class LinkUp(Setting, kind="Up"):
    """The administrative state up."""

    def __str__(self) -> str:
        return f"up {self.place}"


@frozen
class NoTransmitOffloads(Setting, kind="Offloads"):
    """Frames leave the device as they go on a wire: with checksums, and no longer than its MTU.

    A veth leaves both to the receiver, which a switch that is a process does not know (in software then, 1 Gbit/s).
    Where the device of the bridge `switch` takes frames as they are, so does the switch, and nothing is made of it.
    """

    switch: str

    def __str__(self) -> str:
        return f"complete frames from {self.place}, unless {self.switch} takes others"


@frozen
class ReceiveOffloads(Setting, kind="Merging"):
    """Receive offloads of a device (GRO, LRO) as a bit mask; 0 if none is on.

    A switch that is a process drops what is longer than the MTU.
    """

    bits: int

    def __str__(self) -> str:
        words = [name for bit, name in ((1, "GRO"), (2, "LRO")) if self.bits & bit]
        return f"{' and '.join(words) or 'no GRO and LRO'} on {self.place}"
