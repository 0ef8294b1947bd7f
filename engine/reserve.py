"""Chooses names, addresses, ports and indexes, and reserves them in the store. Rank 6.

All of it happens inside one transaction of the store's, which decides between processes; nothing of the kernel is
touched, only looked at.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface

from dnet import hostports, ipam, names
from dnet.drivers import bridge
from dnet.errors import Conflict, Exhausted, InvalidRequest, Unsupported
from dnet.kernel import Kernel
from dnet.model import (
    DEFAULT_DEVICE,
    DEFAULT_NETWORK,
    MODE_NONE,
    Container,
    ContainerSpec,
    Endpoint,
    IPAddress,
    IPNetwork,
    Network,
    NetworkSpec,
)
from dnet.ports import PortMapping, Publish
from dnet.rows import veth_name
from dnet.store import Store

RESOLV_CONF = "/etc/resolv.conf"
NAME_ATTEMPTS_MAX = 1000
_LAST_PORT = "last_automatic_port"


def new_id() -> str:
    """Return 64 random hexadecimal digits."""
    return os.urandom(32).hex()


def busy_subnets(kernel: Kernel) -> list[IPNetwork]:
    """Return what an automatic subnet must not overlap: the host's routes and its nameservers."""
    return kernel.routed_subnets() + _nameservers()


def _nameservers() -> list[IPNetwork]:
    """Return the host's IPv4 nameservers, as networks of one address."""
    found: list[IPNetwork] = []
    try:
        with open(RESOLV_CONF, encoding="utf-8", errors="replace") as file:
            lines = [line.split() for line in file]
    except OSError:
        return []
    for words in lines:
        if len(words) > 1 and words[0] == "nameserver":
            try:
                found.append(IPv4Network(words[1]))
            except ValueError:
                continue
    return found


def network(store: Store, kernel: Kernel, spec: NetworkSpec, busy: Sequence[IPNetwork], owner: str) -> Network:
    """Insert the network that `spec` describes, in phase `creating`; inside a transaction."""
    if spec.driver != "bridge":
        raise Unsupported(f"there is no network driver {spec.driver!r}", object=spec.driver, hint="use bridge")
    if store.network_phase(spec.name):
        hint = "remove it first, or choose another name"
        raise Conflict(f"network {spec.name} exists already", object=spec.name, hint=hint)
    identity = new_id()
    others = store.reserved_subnets()
    subnet = spec.subnet or ipam.free_subnet([*busy, *(other for _, other in others)])
    subnet6 = spec.subnet6 or (ipam.unique_local_subnet(identity) if spec.ipv6 else None)
    own = {other for _, other in others}
    routes = [route for route in busy if route not in own and route.prefixlen < route.max_prefixlen]
    for given in (spec.subnet, spec.subnet6):
        if given:
            ipam.check_subnet(given, others, routes)
    ipam.check_gateways(spec, subnet, subnet6)
    _check_host_addresses(kernel, spec)
    device = DEFAULT_DEVICE if spec.name == DEFAULT_NETWORK else f"br-{identity[:12]}"
    if kernel.device_index(device):
        hint = f"remove it with `ip link delete {device}` if nothing needs it"
        raise Conflict(f"device {device} exists already and is not dnet's", object=device, hint=hint)
    made = Network(
        id=identity,
        name=spec.name,
        driver=spec.driver,
        subnet=subnet,
        gateway=spec.gateway or subnet[1],
        ip_range=spec.ip_range,
        subnet6=subnet6,
        gateway6=(spec.gateway6 or subnet6[1]) if subnet6 else None,
        aux_addresses=spec.aux_addresses,
        internal=spec.internal,
        icc=spec.icc,
        masquerade=spec.masquerade,
        host_binding=spec.host_binding,
        snat=spec.snat,
        snat6=spec.snat6,
        mtu=spec.mtu,
        device=device,
        device_index=store.take_indexes(1)[0],
        labels=spec.labels,
        options=spec.options,
        created=time.time(),
    )
    store.insert_network(made, owner)
    return made


def _check_host_addresses(kernel: Kernel, spec: NetworkSpec) -> None:
    """Raise unless the addresses that published ports and outgoing traffic shall use are the host's own."""
    wanted = [address for address in (spec.host_binding, spec.snat, spec.snat6) if address]
    local = kernel.local_addresses() if wanted else set()
    for address in wanted:
        if not address.is_unspecified and not address.is_loopback and address not in local:
            raise InvalidRequest(f"no interface of the host has address {address}", object=str(address))


class Containers:
    """One reservation of containers, inside one transaction."""

    def __init__(self, store: Store, kernel: Kernel, run_directory: str, places: Mapping[str, str]) -> None:
        """Reserve in `store`; `places` are where a container's name is a link: directory -> what it leads into."""
        self._store = store
        self._kernel = kernel
        self._run_directory = run_directory
        self._places = places
        self._local: set[IPAddress] | None = None
        self._listeners: hostports.Listeners = {}
        # Links under wanted names that lead to containers of ours which are gone, to be removed before they are used.
        self.stale_names: list[str] = []

    def reserve(self, specs: Sequence[ContainerSpec], networks: Mapping[str, Network], owner: str) -> list[Container]:
        """Insert containers in phase `creating`; `networks` holds those that the specs name, by that name."""
        chosen = self._choose_names([spec.name for spec in specs])
        by_id = {net.id: net for net in networks.values()}
        members = {
            identity: [spec for spec in specs if spec.network in networks and networks[spec.network].id == identity]
            for identity in by_id
        }
        addresses = {identity: self._choose_addresses(by_id[identity], members[identity]) for identity in by_id}
        indexes = iter(self._store.take_indexes(sum(spec.network != MODE_NONE for spec in specs)))
        ports = self.host_ports() if any(spec.publish or spec.publish_all for spec in specs) else None
        containers = []
        now = time.time()
        for name, spec in zip(chosen, specs, strict=True):
            ends: tuple[Endpoint, ...] = ()
            if spec.network != MODE_NONE:
                net = networks[spec.network]
                ends = (_endpoint(net, spec, next(addresses[net.id]), next(indexes)),)
            identity = new_id()
            containers.append(
                Container(
                    id=identity,
                    name=name,
                    mode=networks[spec.network].name if ends else spec.network,
                    sandbox=f"{self._run_directory}/netns/{identity[:12]}",
                    files=f"{self._run_directory}/etc/{identity[:12]}",
                    settings=spec.settings
                    if spec.settings.hostname
                    else replace(spec.settings, hostname=identity[:12]),
                    created=now,
                    status="created",
                    mtu=spec.mtu,
                    labels=spec.labels,
                    publish_all=spec.publish_all,
                    exposed=exposed_by(spec),
                    ports=self._publish(name, spec, networks[spec.network], ports) if ends and ports else (),
                    endpoints=ends,
                )
            )
        if ports and ports.last_automatic:
            self._store.set_setting(_LAST_PORT, ports.last_automatic)
        self._store.insert_containers(containers, owner)
        return containers

    # Names

    def _choose_names(self, given: Sequence[str]) -> list[str]:
        """Return the given names, and new ones where none was given; raise when one is taken."""
        wanted = [name for name in given if name]
        twice = [name for name, count in Counter(wanted).items() if count > 1]
        if twice:
            raise InvalidRequest(f"name {twice[0]} is given twice", object=twice[0], hint="names are unique")
        self.check_names_free(wanted)
        taken = set(wanted)
        chosen = []
        for name in given:
            chosen.append(name or self._random_name(taken))
            taken.add(chosen[-1])
        return chosen

    def check_names_free(self, wanted: Sequence[str]) -> None:
        """Raise when a container, or somebody's network namespace, has one of these names."""
        for name, holder in self._store.held_names(wanted).items():
            hint = f"remove it with `dnet rm {name}`, or choose another name"
            raise Conflict(f"name {name} is in use by container {holder[:12]}", object=name, hint=hint)
        for name in wanted:
            for directory, target in self._places.items():
                path = os.path.join(directory, name)
                if os.path.lexists(path):
                    self._check_stale(name, path, target)

    def _random_name(self, taken: set[str]) -> str:
        for attempt in range(NAME_ATTEMPTS_MAX):
            name = names.readable(random.randrange(names.COUNT * (1 + attempt)))  # noqa: S311
            is_free = name not in taken and not self._store.held_names([name])
            if is_free and not any(os.path.lexists(os.path.join(directory, name)) for directory in self._places):
                return name
        raise Exhausted("no free random name was found", hint="give names")

    def _check_stale(self, name: str, path: str, directory: str) -> None:
        """Note a link that leads to something of ours which is gone; raise when it is somebody else's."""
        target = os.path.realpath(path)
        if os.path.islink(path) and os.path.dirname(target) == directory and not os.path.exists(target):
            self.stale_names.append(path)
            return
        hint = f"remove it (`ip netns delete {name}`, if it is a namespace) if nothing needs it, or choose another name"
        raise Conflict(f"{path} exists and is not this engine's", object=name, hint=hint)

    # Addresses

    def _choose_addresses(
        self, net: Network, members: Sequence[ContainerSpec]
    ) -> Iterator[tuple[IPv4Address, IPv6Address | None]]:
        """Return the addresses of the specs on one network, in their order: those asked for, else the lowest free."""
        taken = self._store.taken_addresses(net.id)
        room = bridge.PORTS_MAX - len(taken)
        if len(members) > room:
            raise Exhausted(
                f"{len(members)} containers do not fit on network {net.name}: its bridge has {room} "
                f"of {bridge.PORTS_MAX} ports left",
                object=net.name,
                hint="spread them over several networks",
            )
        fours = self._addresses_of_family(net, 4, [spec.ip for spec in members], taken)
        if not net.subnet6 and not any(spec.ip6 for spec in members):
            return ((four, None) for four in fours if isinstance(four, IPv4Address))
        taken6 = self._store.taken_addresses6(net.id)
        sixes = self._addresses_of_family(net, 6, [spec.ip6 for spec in members], taken6)
        pairs = zip(fours, sixes, strict=True)
        return ((four, six) for four, six in pairs if isinstance(four, IPv4Address) and isinstance(six, IPv6Address))

    def _addresses_of_family(
        self, net: Network, version: int, wanted: Sequence[IPAddress | None], taken: set[int]
    ) -> list[IPAddress]:
        for address in wanted:
            if address is None:
                continue
            ipam.check_static(net, address)
            if int(address) in taken:
                holder = self._store.address_holder(net.id, address) or "another of these containers"
                raise Conflict(
                    f"address {address} of network {net.name} is in use by {holder}",
                    object=str(address),
                    hint="choose another address, or none",
                )
            taken.add(int(address))
        free = iter(ipam.free_addresses(net, version, taken, sum(address is None for address in wanted)))
        return [address or next(free) for address in wanted]

    # Ports

    def host_ports(self) -> ipam.HostPorts:
        """Return what gives out the host's ports, knowing those of containers and of listening processes."""
        self._local = self._kernel.local_addresses()
        self._listeners = hostports.listeners(self._kernel.dump_sockets)
        after = self._store.setting(_LAST_PORT)
        return ipam.HostPorts(
            self._port_holders, lambda: hostports.automatic_ports(after), self._local, hostports.owner_of
        )

    def _port_holders(self, protocol: str, port: int) -> dict[IPAddress, str | int]:
        held: dict[IPAddress, str | int] = {}
        held |= self._store.port_holders(protocol, port)
        for address, inode in self._listeners.get((protocol, port), {}).items():
            held.setdefault(address, inode)
        return held

    def _publish(self, name: str, spec: ContainerSpec, net: Network, ports: ipam.HostPorts) -> tuple[PortMapping, ...]:
        wanted = list(spec.publish)
        if spec.publish_all:
            explicit = {(port, item.protocol) for item in spec.publish for port in item.container_ports}
            wanted += [
                Publish(None, range(0), range(port, port + 1), protocol)
                for port, protocol in exposed_by(spec)
                if (port, protocol) not in explicit
            ]
        return publish(name, net, wanted, ports)


def publish(name: str, net: Network, wanted: Sequence[Publish], ports: ipam.HostPorts) -> tuple[PortMapping, ...]:
    """Return the mappings of a container's `-p`s; each of them one for every address it is bound to."""
    found: list[PortMapping] = []
    for item in wanted:
        found += ports.assign(name, item, _bindings(net, item))
    return tuple(sorted(found, key=PortMapping.order))


def _bindings(net: Network, item: Publish) -> list[IPAddress]:
    """Return the host addresses that a `-p` is bound to; without one, all of each family that the network has."""
    address = item.host_ip or net.host_binding
    if address is None:
        return [ipam.ANY[4], *([ipam.ANY[6]] if net.subnet6 else [])]
    if address.version == 6 and net.subnet6 is None:  # noqa: PLR2004
        hint = "make the network with --ipv6, or publish on an IPv4 address"
        raise InvalidRequest(
            f"port cannot be published on {address}: network {net.name} has no IPv6", object=str(address), hint=hint
        )
    return [address]


def exposed_by(spec: ContainerSpec) -> tuple[tuple[int, str], ...]:
    """Return the exposed ports of a container, published ones included, in order."""
    pairs = {(port, item.protocol) for item in spec.publish for port in item.container_ports}
    return tuple(sorted(pairs | set(spec.expose)))


def _endpoint(
    net: Network, spec: ContainerSpec, addresses: tuple[IPv4Address, IPv6Address | None], host_index: int
) -> Endpoint:
    address, address6 = addresses
    has_gateway = not net.internal
    return Endpoint(
        id=new_id(),
        network_id=net.id,
        network=net.name,
        interface="eth0",
        address=IPv4Interface((address, net.subnet.prefixlen)),
        gateway=net.gateway if has_gateway else None,
        address6=IPv6Interface((address6, net.subnet6.prefixlen)) if address6 and net.subnet6 else None,
        gateway6=net.gateway6 if address6 and has_gateway else None,
        mac=spec.mac or ipam.mac_of(address),
        host_index=host_index,
        host_interface=veth_name(host_index),
    )


def networks_of(store: Store, specs: Sequence[ContainerSpec]) -> dict[str, Network]:
    """Return the networks that specs name, by the name or id they use."""
    return {reference: store.network(reference) for reference in {spec.network for spec in specs} - {MODE_NONE}}
