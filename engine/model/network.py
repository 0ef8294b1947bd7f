"""Networks and the host interfaces that are their uplinks."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from dnet.model.address import IPAddress
from dnet.model.values import Value, frozen
from dnet.model.vlan import EVERY_VLAN, PortVlans

DEFAULT_NETWORK = "bridge"
DEFAULT_DEVICE = "dnet0"
# Options of a network on Open vSwitch: the datapath of its bridge, and the address of the database.
DATAPATH_TYPE, DATABASE = "datapath_type", "ovsdb"


@frozen(kw_only=True)
class Uplink(Value):
    """An interface of the host's that is a port of a network's bridge, by its name and ifindex.

    `mac` is the MAC address that the bridge has from it, or empty. `vlans` are those asked for.
    """

    interface: str
    index: int
    mac: str = ""
    vlans: PortVlans | None = None

    def __str__(self) -> str:
        return self.interface

    def vlans_on(self, network: Network) -> PortVlans | None:
        """Return the VLANs of the port; None without VLANs.

        Unless others were asked for, all of them, the host's untagged, as its frames were before.
        """
        return (self.vlans or PortVlans(trunk=EVERY_VLAN, native=network.vlan)) if network.vlan else None


@frozen(kw_only=True)
class Network(Value):
    """Endpoints that can reach each other. `device` is the bridge, `device_index` its ifindex.

    `snat` and `snat6`, when set, replace masquerading's choice of the source address. `vlan` is the VLAN of the
    gateway, and of endpoints that ask for none; 0 where the network knows no VLANs, which `vlan_backend` keeps apart:
    `bpf`, `bridge` or `ovs`.

    A bridge that `owns_device` is False of was there before the network, and stays; what in `found` was there too is
    not dnet's to remove: `gateway`, `gateway6`, `link_local`, `route_localnet`, `loopback_route`; `device_mac` is its
    MAC address, which would otherwise follow those of its ports. `uplinks` are interfaces of the host's that have
    become ports of the bridge, by name.
    """

    id: str
    name: str
    driver: str
    subnet: IPv4Network
    gateway: IPv4Address
    ip_range: IPv4Network | None
    subnet6: IPv6Network | None
    gateway6: IPv6Address | None
    aux_addresses: Mapping[str, IPAddress]
    internal: bool
    icc: bool
    masquerade: bool
    host_binding: IPAddress | None
    snat: IPv4Address | None
    snat6: IPv6Address | None
    mtu: int
    device: str
    device_index: int
    labels: Mapping[str, str]
    options: Mapping[str, str]
    created: float
    vlan: int = 0
    vlan_backend: str = ""
    owns_device: bool = True
    device_mac: str = ""
    found: tuple[str, ...] = ()
    uplinks: tuple[Uplink, ...] = ()

    @property
    def is_enclosed(self) -> bool:
        """Whether nobody but the network's containers is on the bridge."""
        return self.owns_device and not self.uplinks

    @property
    def has_own_subnets(self) -> bool:
        """Whether nobody but the network's containers, and its gateway, is in the subnets."""
        return self.is_enclosed and not self.found


def veth_name(host_index: int) -> str:
    """Return the name of a host interface, derived from its index and as unique as that."""
    return f"veth{host_index:x}"
