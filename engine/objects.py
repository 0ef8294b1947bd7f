"""The things dnet makes in the kernel, as frozen values. Rank 3, pure.

A driver says what exists because a network or an endpoint exists, as a tuple of these in creation order;
`apply` creates such tuples and deletes them in reverse. An object belongs to one backend (`files`, `nft`,
`flows`, `kernel`), and within the kernel to the host's side or to the inside of a sandbox. `owned` objects vanish with
the one they belong to, so nothing deletes them. One object of the kernel's is one netlink message (Sandbox and
Forwarding excepted), which is how a refusal finds its object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dnet.model import IPAddress, IPInterface, IPNetwork


@dataclass(frozen=True, slots=True)
class Object:
    """Base of all. `str(object)` is the phrase used in plans and errors."""

    backend: ClassVar[str]
    owned: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Directory(Object):
    """A directory, deleted with all that is in it."""

    backend: ClassVar[str] = "files"
    path: str

    def __str__(self) -> str:
        return f"directory {self.path}"


@dataclass(frozen=True, slots=True)
class File(Object):
    """A text file in a Directory."""

    backend: ClassVar[str] = "files"
    owned: ClassVar[bool] = True
    path: str
    text: str

    def __str__(self) -> str:
        return f"file {self.path}"


@dataclass(frozen=True, slots=True)
class Link(Object):
    """A symbolic link."""

    backend: ClassVar[str] = "files"
    path: str
    target: str

    def __str__(self) -> str:
        return f"link {self.path} to {self.target}"


@dataclass(frozen=True, slots=True)
class NftTable(Object):
    """The table `inet dnet` with its fixed chains, sets and maps; made again, in place, when it exists."""

    backend: ClassVar[str] = "nft"

    def __str__(self) -> str:
        return "table inet dnet"


@dataclass(frozen=True, slots=True)
class NatElement(Object):
    """An element of one of the table's sets or maps. `key` and `value` are in nft's own syntax."""

    backend: ClassVar[str] = "nft"
    set_name: str
    key: str
    value: str = ""

    def __str__(self) -> str:
        return f"element {self.key}{' : ' if self.value else ''}{self.value} of {self.set_name}"


@dataclass(frozen=True, slots=True)
class Forwarding(Object):
    """Forwarding of IP `version` between the host's interfaces; only the undoing of a failed create switches it off."""

    backend: ClassVar[str] = "kernel"
    owned: ClassVar[bool] = True
    version: int

    def __str__(self) -> str:
        return f"forwarding of IPv{self.version}"


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Device(Object):
    """An object that is about one device, on the host or, with `sandbox`, inside the sandbox of that name."""

    backend: ClassVar[str] = "kernel"
    device: str
    index: int
    sandbox: str

    @property
    def place(self) -> str:
        """Where the device is, for people."""
        return f"{self.device} in sandbox {self.sandbox}" if self.sandbox else self.device


@dataclass(frozen=True, slots=True)
class Sandbox(Object):
    """A network namespace, pinned at `path`, with a name in `ip netns` at `name_path`."""

    backend: ClassVar[str] = "kernel"
    sandbox: str
    path: str
    name_path: str

    def __str__(self) -> str:
        return f"sandbox {self.sandbox} at {self.path}"


@dataclass(frozen=True, slots=True)
class Bridge(Device):
    """A Linux bridge, without multicast snooping and IPv6 autoconfiguration, still down."""

    mac: str
    mtu: int

    def __str__(self) -> str:
        return f"bridge {self.device}"


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Quiet(Device):
    """No IPv6 autoconfiguration, so that the device sends nothing of its own accord; and its ifalias, if any.

    With an `mtu` below IPv6's least the kernel gives a device no IPv6 at all, and nothing has to be switched off.
    """

    owned: ClassVar[bool] = True
    alias: str = ""
    mtu: int = 0

    def __str__(self) -> str:
        return f"addr_gen_mode none{f', alias {self.alias}' if self.alias else ''} on {self.place}"


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class LocalRouting(Device):
    """net.ipv4.conf.DEVICE.route_localnet: replies to what came from 127.0.0.1 may arrive through the device."""

    owned: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"route_localnet on {self.place}"


@dataclass(frozen=True, slots=True)
class LoopbackRoute(Device):
    """The route `local ::1 dev DEVICE`: what LocalRouting does for 127.0.0.1, for ::1."""

    owned: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"route local ::1 dev {self.place}"


@dataclass(frozen=True, slots=True)
class Address(Device):
    """An address with its prefix length."""

    owned: ClassVar[bool] = True
    interface: IPInterface

    def __str__(self) -> str:
        return f"address {self.interface} on {self.place}"


@dataclass(frozen=True, slots=True)
class Up(Device):
    """The administrative state up."""

    owned: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"up {self.place}"


@dataclass(frozen=True, slots=True)
class Route(Device):
    """A route through a device; `gateway` None means directly connected."""

    owned: ClassVar[bool] = True
    destination: IPNetwork
    gateway: IPAddress | None

    def __str__(self) -> str:
        destination = "default" if self.destination.prefixlen == 0 else str(self.destination)
        via = f" via {self.gateway}" if self.gateway else ""
        return f"route {destination}{via} dev {self.place}"
