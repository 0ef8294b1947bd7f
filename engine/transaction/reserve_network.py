"""A new network with its subnets, device and index, reserved in the store.

That happens inside a transaction of the caller. The kernel is looked at, not changed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_interface
from typing import Any

from dnet.drivers import existing_bridge, host_files
from dnet.drivers.desired import DRIVERS
from dnet.drivers.existing_bridge import FoundBridge
from dnet.errors import Conflict, InvalidRequest, Unsupported
from dnet.linux import files
from dnet.linux.kernel import Kernel
from dnet.model.address import IPNetwork
from dnet.model.network import DEFAULT_DEVICE, DEFAULT_NETWORK, Network
from dnet.model.network_spec import NetworkSpec
from dnet.model.vlan import DEFAULT_VLAN
from dnet.state.store import Store
from dnet.transaction import ipam
from dnet.transaction.context import Context
from dnet.transaction.identity import new_id


def busy_subnets(kernel: Kernel) -> list[IPNetwork]:
    """Return the subnets that an automatic one must not overlap: the host's routes and its nameservers."""
    return kernel.look().routed_subnets() + _nameservers()


def _nameservers() -> list[IPNetwork]:
    """Return the host's IPv4 nameservers, as networks of one address."""
    found: list[IPNetwork] = []
    for words in map(str.split, files.read(host_files.RESOLV_CONF).splitlines()):
        if len(words) > 1 and words[0] == "nameserver":
            try:
                found.append(IPv4Network(words[1]))
            except ValueError:
                continue
    return found


def check_driver(spec: NetworkSpec) -> None:
    """Raise Unsupported unless there is such a driver."""
    if spec.driver not in DRIVERS:
        hint = f"use {' or '.join(DRIVERS)}"
        raise Unsupported(f"there is no network driver {spec.driver!r}", object=spec.driver, hint=hint)


def network(
    context: Context, spec: NetworkSpec, busy: Sequence[IPNetwork], owner: str, bridge: FoundBridge | None = None
) -> Network:
    """Insert the network that `spec` describes, in phase `creating`; inside a transaction.

    `bridge` is the one that the driver has found; without it, a Linux bridge is looked for. Raises Conflict, Exhausted,
    InvalidRequest or Unsupported.
    """
    store, kernel = context.store, context.kernel
    if store.networks.phase(spec.name):
        hint = "remove it first, or choose another name"
        raise Conflict(f"network {spec.name} exists already", object=spec.name, hint=hint)
    identity = new_id()
    device = spec.bridge or (DEFAULT_DEVICE if spec.name == DEFAULT_NETWORK else f"br-{identity[:12]}")
    if bridge is None:
        index, bridge = _find_bridge(store, kernel, spec, device)
    else:
        index = 0  # the kernel's own choice, which nothing goes by
        _check_unheld(store, device)
        if bridge.owns_device and kernel.device_index(device):
            raise _foreign_device(device)
    subnet, subnet6 = _choose_subnets(store, spec, busy, identity, bridge)
    ipam.check_gateways(spec, subnet, subnet6, (bridge.gateway, bridge.gateway6))
    _check_host_addresses(kernel, spec)
    vlan = bridge.vlan or spec.vlan or (DEFAULT_VLAN if spec.vlan_backend else 0)
    made = Network(
        id=identity,
        name=spec.name,
        driver=spec.driver,
        subnet=subnet,
        gateway=bridge.gateway or spec.gateway or subnet[1],
        ip_range=spec.ip_range,
        subnet6=subnet6,
        gateway6=(bridge.gateway6 or spec.gateway6 or subnet6[1]) if subnet6 else None,
        aux_addresses=spec.aux_addresses,
        internal=spec.internal,
        icc=spec.icc,
        masquerade=spec.masquerade,
        host_binding=spec.host_binding,
        snat=spec.snat,
        snat6=spec.snat6,
        mtu=spec.mtu or bridge.mtu,
        device=device,
        device_index=index or store.take_indexes(1)[0],
        labels=spec.labels,
        options=bridge.options,
        created=time.time(),
        vlan=vlan,
        vlan_backend=vlan_backend(kernel, spec.driver, spec.vlan_backend) if vlan else "",
        owns_device=bridge.owns_device,
        device_mac=bridge.mac,
        found=bridge.found,
    )
    store.networks.insert(made, owner)
    return made


def _choose_subnets(
    store: Store, spec: NetworkSpec, busy: Sequence[IPNetwork], identity: str, bridge: FoundBridge
) -> tuple[IPv4Network, IPv6Network | None]:
    """Return the subnets of a new network: the bridge's, those that are asked for, or free ones."""
    others = store.networks.subnets()
    subnet = bridge.subnet or spec.subnet or ipam.free_subnet([*busy, *(other for _, other in others)])
    subnet6 = bridge.subnet6 or spec.subnet6 or (ipam.unique_local_subnet(identity) if spec.ipv6 else None)
    own = {other for _, other in others} | {net for net in (bridge.subnet, bridge.subnet6) if net}
    routes = [route for route in busy if route not in own and route.prefixlen < route.max_prefixlen]
    for net, is_chosen in ((subnet, spec.subnet or bridge.subnet), (subnet6, spec.subnet6 or bridge.subnet6)):
        if net and is_chosen:
            ipam.check_subnet(net, others, routes)
    return subnet, subnet6


def _find_bridge(store: Store, kernel: Kernel, spec: NetworkSpec, device: str) -> tuple[int, FoundBridge]:
    """Return the user's own bridge with its index, or what the network takes from the host, with 0."""
    index = kernel.device_index(device)
    if index and not spec.bridge:
        raise _foreign_device(device)
    _check_unheld(store, device)
    if not index:
        spec.check_subnets()
        return 0, _gateways_on_host(kernel, spec)
    report = kernel.look().report()
    return index, existing_bridge.examine(spec, next(item for item in report.links if item.index == index), report)


def _gateways_on_host(kernel: Kernel, spec: NetworkSpec) -> FoundBridge:
    """Return the subnets whose gateway's address the host has already, on an interface to be adopted."""
    taken: dict[str, Any] = {}
    found = []
    hosts = {item.interface for item in kernel.look().report().addresses} if spec.gateway or spec.gateway6 else set()
    for suffix, subnet, gateway in (("", spec.subnet, spec.gateway), ("6", spec.subnet6, spec.gateway6)):
        if subnet and gateway and ip_interface((gateway, subnet.prefixlen)) in hosts:
            taken |= {f"subnet{suffix}": subnet, f"gateway{suffix}": gateway}
            found.append(f"gateway{suffix}")
    return FoundBridge(**taken, found=tuple(found), options=spec.options)


def _foreign_device(device: str) -> Conflict:
    hint = f"remove it with `ip link delete {device}` if nothing needs it"
    return Conflict(f"device {device} exists already and is not dnet's", object=device, hint=hint)


def _check_unheld(store: Store, device: str) -> None:
    holder = store.networks.name_on(device)
    if holder:
        hint = f"put containers on that network, or remove it with `dnet network rm {holder}`"
        raise Conflict(f"bridge {device} is that of network {holder} already", object=device, hint=hint)


def vlan_backend(kernel: Kernel, driver: str, wanted: str) -> str:
    """Return what separates a network's VLANs: the bridge where the kernel can, else programs at its ports.

    Raises InvalidRequest or Unsupported for a backend `wanted` that the driver or the kernel has not.
    """
    able = DRIVERS[driver].vlan_backends
    if wanted and wanted not in able:
        raise InvalidRequest(
            f"networks of driver {driver} cannot keep VLANs apart by {wanted}",
            object=wanted,
            hint=f"leave vlan_backend out, or choose {' or '.join(sorted(able))}",
        )
    backend = wanted or able[0]
    if backend != "bridge" or kernel.has_bridge_vlans():
        return backend
    if wanted:
        raise Unsupported(
            "this kernel's bridges do not filter VLANs",
            object=wanted,
            hint="it lacks CONFIG_BRIDGE_VLAN_FILTERING; use vlan_backend=bpf, or leave it out",
        )
    return able[-1]


def _check_host_addresses(kernel: Kernel, spec: NetworkSpec) -> None:
    """Raise unless the addresses for published ports and outgoing traffic are the host's own."""
    wanted = [address for address in (spec.host_binding, spec.snat, spec.snat6) if address]
    local = kernel.look().local_addresses() if wanted else set()
    for address in wanted:
        if not address.is_unspecified and not address.is_loopback and address not in local:
            raise InvalidRequest(f"no interface of the host has address {address}", object=str(address))
