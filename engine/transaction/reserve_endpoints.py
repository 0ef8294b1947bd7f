"""Endpoints of containers: their networks, addresses, interface names and indexes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from itertools import chain, count

from dnet.drivers import desired
from dnet.errors import Conflict, Exhausted, InvalidRequest
from dnet.model.address import IPAddress, mac_of
from dnet.model.container import Container, Endpoint
from dnet.model.container_spec import EndpointSpec
from dnet.model.network import Network, veth_name
from dnet.state.store import Store
from dnet.transaction import ipam
from dnet.transaction.identity import new_id
from dnet.transaction.lots import LazyContainers

Addresses = Iterator[tuple[IPv4Address, IPv6Address | None]]


class EndpointReservation:
    """Endpoints chosen inside transactions of one operation. Nothing is inserted."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._networks: dict[str, Network] = {}
        self._asked: dict[str, set[IPAddress]] = {}  # what later lots ask for, by the networks' ids

    def networks_of(self, wanted: Sequence[Sequence[EndpointSpec]]) -> Mapping[str, Network]:
        """Return the networks asked for so far by the references (name or id) that endpoints have; raise NotFound."""
        for reference in {spec.network for specs in wanted for spec in specs}:
            known = self._networks.get(reference)  # one that the first lot has made is not ready yet
            if known is None or not self._store.networks.phase(known.name):
                self._networks[reference] = self._store.networks.get(reference)
        return self._networks

    def check(self, wanted: Sequence[Sequence[EndpointSpec]], networks: Mapping[str, Network]) -> None:
        """Raise where addresses do not suffice for all lots together, and keep those asked for from being chosen."""
        self._addresses(wanted, networks)
        for spec in chain.from_iterable(wanted):
            asked = self._asked.setdefault(networks[spec.network].id, set())
            asked.update(filter(None, (spec.ip, spec.ip6)))

    def choose(
        self,
        wanted: Sequence[Sequence[EndpointSpec]],
        networks: Mapping[str, Network],
        used: Sequence[set[str]] | None = None,
    ) -> list[list[Endpoint]]:
        """Return the endpoints of each container.

        `networks` are by the references that the endpoints have; `used` are names of interfaces that each container
        has already. Raises Conflict, Exhausted and InvalidRequest.
        """
        addresses = self._addresses(wanted, networks)
        indexes = iter(self._store.take_indexes(sum(map(len, wanted))))
        chosen = []
        for position, specs in enumerate(wanted):
            names = set(used[position]) if used else set()
            names |= {spec.interface for spec in specs if spec.interface}
            endpoints = []
            for spec in specs:
                net = networks[spec.network]
                interface = spec.interface or next(name for name in map("eth{}".format, count()) if name not in names)
                names.add(interface)
                endpoints.append(_endpoint(net, spec, interface, next(addresses[net.id]), next(indexes)))
            if len({item.network_id for item in endpoints}) < len(endpoints):
                raise InvalidRequest("a container joins a network once", object=specs[0].network)
            if len({item.interface for item in endpoints}) < len(endpoints):
                raise InvalidRequest("two interfaces have the same name", object=specs[0].interface)
            chosen.append(endpoints)
        return chosen

    def join(
        self,
        members: Sequence[Container],
        wanted: EndpointSpec,
        network: Network,
        present: Mapping[str, Collection[str]] | None = None,
    ) -> list[tuple[Container, Endpoint]]:
        """Choose an endpoint on one more network for each of some containers.

        `present` are names of further interfaces in the containers, by the containers' ids. Raises as `choose` does.
        """
        used = _interface_names(members, wanted, network, present)
        endpoints = self.choose([(wanted,)] * len(members), {wanted.network: network}, used)
        return [(item, endpoint) for item, (endpoint,) in zip(members, endpoints, strict=True)]

    def check_joining(
        self,
        members: LazyContainers,
        wanted: EndpointSpec,
        network: Network,
        present: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        """Raise what `join` of all these containers would, without reading them where that is not needed."""
        joined = set(self._store.networks.member_names(network.id))
        for item in members.heads if joined else ():
            if item.name in joined:
                raise _joined(item.name, network)
        if wanted.interface:
            _interface_names(members, wanted, network, present)
        self._addresses_on(network, [wanted] * len(members))

    def _addresses(
        self, wanted: Sequence[Sequence[EndpointSpec]], networks: Mapping[str, Network]
    ) -> dict[str, Addresses]:
        """Return the addresses for endpoints on each network, by its id, in the order of the endpoints."""
        by_network: dict[str, list[EndpointSpec]] = {}
        for spec in chain.from_iterable(wanted):
            by_network.setdefault(networks[spec.network].id, []).append(spec)
        known = {net.id: net for net in networks.values()}
        return {network_id: self._addresses_on(known[network_id], specs) for network_id, specs in by_network.items()}

    def _addresses_on(self, net: Network, specs: Sequence[EndpointSpec]) -> Addresses:
        """Return the addresses of endpoints of one network, in their order: those asked for, else the lowest free."""
        taken = self._store.networks.taken_addresses(net.id)
        ports_max = desired.DRIVERS[net.driver].ports_max
        if ports_max is not None and len(specs) > ports_max - len(taken):
            raise Exhausted(
                f"{len(specs)} containers do not fit on network {net.name}: its bridge has {ports_max - len(taken)} "
                f"of {ports_max} ports left",
                object=net.name,
                hint="spread them over several networks",
            )
        fours = self._addresses_of_family(net, 4, [spec.ip for spec in specs], taken)
        if not net.subnet6 and not any(spec.ip6 for spec in specs):
            return ((four, None) for four in fours if isinstance(four, IPv4Address))
        taken6 = self._store.networks.taken_addresses6(net.id)
        sixes = self._addresses_of_family(net, 6, [spec.ip6 for spec in specs], taken6)
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
                holder = self._store.networks.address_holder(net.id, address) or "another of these containers"
                raise Conflict(
                    f"address {address} of network {net.name} is in use by {holder}",
                    object=str(address),
                    hint="choose another address, or none",
                )
            taken.add(int(address))
        asked = {int(item) for item in self._asked.get(net.id, ()) if item.version == version}
        free = iter(ipam.free_addresses(net, version, taken | asked, sum(address is None for address in wanted)))
        return [address or next(free) for address in wanted]


def _interface_names(
    members: Sequence[Container],
    wanted: EndpointSpec,
    network: Network,
    present: Mapping[str, Collection[str]] | None,
) -> list[set[str]]:
    """Return the names of each container's interfaces; raise where there is one of the name or network wanted."""
    for item in members:
        if any(endpoint.network_id == network.id for endpoint in item.endpoints):
            raise _joined(item.name, network)
    used = [
        {endpoint.interface for endpoint in item.endpoints}
        | {attachment.interface for attachment in item.attachments}
        | set((present or {}).get(item.id, ()))
        for item in members
    ]
    for item, names in zip(members, used, strict=True):
        if wanted.interface in names:
            sentence = f"container {item.name} has an interface {wanted.interface} already"
            raise Conflict(sentence, object=item.name, hint="choose another name")
    return used


def _joined(name: str, network: Network) -> Conflict:
    hint = f"`dnet network disconnect {network.name} {name}` takes it off"
    return Conflict(f"container {name} is on network {network.name} already", object=name, hint=hint)


def _endpoint(
    net: Network,
    spec: EndpointSpec,
    interface: str,
    addresses: tuple[IPv4Address, IPv6Address | None],
    host_index: int,
) -> Endpoint:
    address, address6 = addresses
    has_gateway = not net.internal
    if spec.mac and spec.mac in {net.device_mac or mac_of(net.gateway), *(item.mac for item in net.uplinks)}:
        sentence = f"MAC address {spec.mac} is that of the bridge of network {net.name}"
        raise Conflict(sentence, object=spec.mac, hint="choose another, or leave it out")
    return Endpoint(
        id=new_id(),
        network_id=net.id,
        network=net.name,
        interface=interface,
        address=IPv4Interface((int(address), net.subnet.prefixlen)),
        gateway=net.gateway if has_gateway else None,
        address6=IPv6Interface((address6, net.subnet6.prefixlen)) if address6 and net.subnet6 else None,
        gateway6=net.gateway6 if address6 and has_gateway else None,
        mac=spec.mac or mac_of(address),
        host_index=host_index,
        host_interface=veth_name(host_index),
        aliases=spec.aliases,
        gateway_priority=spec.gateway_priority,
        vlans=spec.vlans,
    )
