"""Networks and their uplinks."""

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
    """An interface of the host that is a port of a network's bridge.

    interface, index: its name and ifindex
    mac: MAC address that the bridge has taken over from it, or empty
    vlans: those asked for
    """

    interface: str
    index: int
    mac: str = ""
    vlans: PortVlans | None = None

    def __str__(self) -> str:
        return self.interface

    def vlans_on(self, network: Network) -> PortVlans | None:
        """Return the VLANs of the port, or None on a network without VLANs.

        Unless others were asked for, these are all VLANs, and that of the network is untagged as before adoption.
        """
        return (self.vlans or PortVlans(trunk=EVERY_VLAN, native=network.vlan)) if network.vlan else None


@frozen(kw_only=True)
class Network(Value):
    """Endpoints that can reach each other. Fields that are not listed here are as asked for in NetworkSpec.

    id: 64 hexadecimal digits
    snat, snat6: source addresses outside, in place of masquerading's choice
    device, device_index: name and ifindex of the bridge
    created: seconds since the epoch
    vlan: VLAN of the gateway, and of endpoints that ask for none; 0 on a network without VLANs
    vlan_backend: what keeps VLANs apart: `bpf`, `bridge` or `ovs`
    owns_device: whether dnet created the bridge, and removes it with the network
    device_mac: MAC address to keep on a bridge of somebody else's, which would otherwise follow that of its ports
    found: what existed on such a bridge, so that dnet does not remove it: `gateway`, `gateway6`, `link_local`,
        `route_localnet`, `loopback_route`
    uplinks: interfaces of the host that are ports of the bridge, in the order of their names
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
        """Whether only containers of the network are on the bridge."""
        return self.owns_device and not self.uplinks

    @property
    def has_own_subnets(self) -> bool:
        """Whether only the gateway and containers of the network are in its subnets."""
        return self.is_enclosed and not self.found


def veth_name(host_index: int) -> str:
    """Return the name of a veth on the host: unique, because it is made from the ifindex."""
    return f"veth{host_index:x}"
