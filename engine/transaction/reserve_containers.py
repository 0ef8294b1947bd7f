"""Chooses names, addresses, ports and indexes, and reserves them in the store.

All of it happens inside transactions of the store, one for each lot of a bulk, which decide between processes; nothing
of the kernel is touched, only looked at.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from itertools import chain, count

from dnet.drivers import nat_table
from dnet.drivers.desired import DRIVERS
from dnet.errors import Conflict, Exhausted, InvalidRequest
from dnet.linux import files, listeners
from dnet.linux.kernel import Kernel
from dnet.model.address import IPAddress, mac_of
from dnet.model.container import MODE_CONTAINER, MODE_HOST, Container, Endpoint, Link
from dnet.model.container_spec import ContainerSpec, EndpointSpec
from dnet.model.default_route import with_gateways
from dnet.model.network import Network, veth_name
from dnet.model.published_port import PortMapping, Publish
from dnet.model.values import replace
from dnet.state.store import Store
from dnet.transaction import ipam
from dnet.transaction.identity import new_id
from dnet.transaction.lots import Members

NAME_ATTEMPTS_MAX = 1000
_LAST_PORT = "last_automatic_port"


class Reservation:
    """Containers or endpoints that belong together, reserved inside one transaction or lot by lot in several."""

    def __init__(self, store: Store, kernel: Kernel, run_directory: str, places: Mapping[str, str]) -> None:
        """Reserve in `store`; `places` are where a container's name is a link: directory -> what it leads into."""
        self._store = store
        self._kernel = kernel
        self._run_directory = run_directory
        self._places = places
        self._listeners: listeners.Listeners = {}
        self._ports: ipam.HostPorts | None = None
        self._networks: dict[str, Network] = {}
        self._asked_names: set[str] = set()  # in any lot, and so not chosen for others, like addresses
        self._asked_addresses: dict[str, set[IPAddress]] = {}
        # Links under wanted names that lead to containers of ours which are gone, to be removed before they are used.
        self.stale_names: set[str] = set()

    def check(self, specs: Sequence[ContainerSpec]) -> None:
        """Raise where names are taken, or addresses do not suffice, for all that is to be reserved lot by lot."""
        wanted = [spec.endpoints for spec in specs]
        networks = self._networks_of(wanted)
        self.check_names_free([spec.name for spec in specs if spec.name])
        self._addresses(wanted, networks)
        self._asked_names.update(spec.name for spec in specs)
        for end in chain.from_iterable(wanted):
            asked = self._asked_addresses.setdefault(networks[end.network].id, set())
            asked.update(filter(None, (end.ip, end.ip6)))

    def reserve(self, specs: Sequence[ContainerSpec], owner: str) -> list[Container]:
        """Insert containers in phase `creating`."""
        wanted = [spec.endpoints for spec in specs]
        networks = self._networks_of(wanted)
        by_id = {net.id: net for net in networks.values()}
        chosen = self._choose_names([spec.name for spec in specs])
        ends = self._choose_endpoints(wanted, networks)
        are_wanted = any(spec.publish or spec.publish_all for spec in specs)
        ports = self._ports = self._ports or (self.host_ports() if are_wanted else None)
        links = self._links(dict(zip(chosen, specs, strict=True)), dict(zip(chosen, ends, strict=True)))
        linked_by = self._store.containers.links_to(chosen)
        for link in (link for members in links.values() for link in members):
            linked_by.setdefault(link.child, []).append(link)
        containers: dict[str, Container] = {}
        now = time.time()
        for name, spec, own in zip(chosen, specs, ends, strict=True):
            identity = new_id()
            shared = self._shared(spec, containers)
            settings = shared.settings if shared else spec.settings
            place = shared.id if shared else identity
            made = Container(
                id=identity,
                name=name,
                mode=f"{MODE_CONTAINER}{shared.id}" if shared else networks[spec.mode].name if own else spec.mode,
                sandbox=f"{self._run_directory}/netns/{place[:12]}",
                files=f"{self._run_directory}/etc/{place[:12]}",
                settings=settings
                if settings.hostname
                else replace(settings, hostname=os.uname().nodename if spec.mode == MODE_HOST else identity[:12]),
                created=now,
                status="created",
                mtu=spec.mtu,
                labels=spec.labels,
                publish_all=spec.publish_all,
                exposed=spec.exposed,
                ports=(),
                endpoints=with_gateways(own, by_id),
                shares=place if shared else "",
                links=links.get(name, ()),
                linked_by=tuple(linked_by.get(name, ())),
                process=spec.process,
            )
            if own and ports:
                made = replace(made, ports=self._publish(made, spec, by_id, ports))
            containers[name] = made
        if ports and ports.last_automatic:
            self._store.set_setting(_LAST_PORT, ports.last_automatic)
        made_now = list(containers.values())
        self._store.containers.insert(made_now, owner)
        return made_now

    def join(
        self,
        members: Sequence[Container],
        wanted: EndpointSpec,
        network: Network,
        present: Mapping[str, Collection[str]] | None = None,
    ) -> list[tuple[Container, Endpoint]]:
        """Choose an endpoint on one more network for each of some containers; nothing is inserted.

        `present` are names of further interfaces that are in the containers, by the containers' ids.
        """
        used = self._used_names(members, wanted, network, present)
        ends = self._choose_endpoints([(wanted,)] * len(members), {wanted.network: network}, used)
        return [(item, end) for item, (end,) in zip(members, ends, strict=True)]

    def check_joining(
        self,
        members: Members,
        wanted: EndpointSpec,
        network: Network,
        present: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        """Raise what speaks against `join` of all of these, lot by lot; without reading them, if need be."""
        joined = set(self._store.networks.member_names(network.id))
        for item in members.heads if joined else ():
            if item.name in joined:
                raise _joined(item.name, network)
        if wanted.interface:
            self._used_names(members, wanted, network, present)
        self._choose_addresses(network, [wanted] * len(members))

    @staticmethod
    def _used_names(
        members: Sequence[Container],
        wanted: EndpointSpec,
        network: Network,
        present: Mapping[str, Collection[str]] | None,
    ) -> list[set[str]]:
        """Return the names of each container's interfaces; raise where there is one of the name or network wanted."""
        for item in members:
            if any(end.network_id == network.id for end in item.endpoints):
                raise _joined(item.name, network)
        used = [
            {end.interface for end in item.endpoints}
            | {wire.interface for wire in item.attachments}
            | set((present or {}).get(item.id, ()))
            for item in members
        ]
        for item, names_used in zip(members, used, strict=True):
            if wanted.interface in names_used:
                sentence = f"container {item.name} has an interface {wanted.interface} already"
                raise Conflict(sentence, object=item.name, hint="choose another name")
        return used

    def _shared(self, spec: ContainerSpec, others: Mapping[str, Container]) -> Container | None:
        """Return the container whose sandbox a specification is to share; a sharer's is that of its own."""
        if not spec.shares:
            return None
        found = others.get(spec.shares) or self._store.containers.get(spec.shares)
        return self._store.containers.get(found.shares) if found.shares else found

    # Links

    def _links(
        self, specs: Mapping[str, ContainerSpec], ends: Mapping[str, Sequence[Endpoint]]
    ) -> dict[str, tuple[Link, ...]]:
        """Return the links of each container, checked: the other one exists, and is on a network of this one's."""
        found: dict[str, tuple[Link, ...]] = {}
        known: dict[str, tuple[str, set[str]]] = {}
        for parent, spec in specs.items():
            links = []
            for reference, alias in spec.links:
                if reference not in known:
                    known[reference] = self._linkable(reference, ends)
                child, networks = known[reference]
                if child == parent:
                    raise InvalidRequest(f"container {parent} cannot be linked to itself", object=parent)
                if networks.isdisjoint(end.network_id for end in ends[parent]):
                    raise InvalidRequest(
                        f"containers {parent} and {child} are on no network together",
                        object=child,
                        hint=f"put {parent} on a network of {child}'s with --network",
                    )
                links.append(Link(parent, child, alias))
            if links:
                found[parent] = tuple(links)
        return found

    def _linkable(self, reference: str, ends: Mapping[str, Sequence[Endpoint]]) -> tuple[str, set[str]]:
        """Return the name of the container that a link means, and the ids of its networks."""
        if reference in ends:
            return reference, {end.network_id for end in ends[reference]}
        child = self._store.containers.get(reference)
        return child.name, {end.network_id for end in child.endpoints}

    # Names

    def _choose_names(self, given: Sequence[str]) -> list[str]:
        """Return the given names, and new ones where none was given; raise when one is taken."""
        self.check_names_free([name for name in given if name])
        taken = {*given, *self._asked_names}
        chosen = []
        for name in given:
            chosen.append(name or self._random_name(taken))
            taken.add(chosen[-1])
        return chosen

    def check_names_free(self, wanted: Sequence[str]) -> None:
        """Raise when a container, or somebody's network namespace, has one of these names, or one is there twice."""
        twice = [name for name, count in Counter(wanted).items() if count > 1]
        if twice:
            raise InvalidRequest(f"name {twice[0]} is given twice", object=twice[0], hint="names are unique")
        for name, holder in self._store.containers.held_names(wanted).items():
            hint = f"remove it with `dnet rm {name}`, or choose another name"
            raise Conflict(f"name {name} is in use by container {holder[:12]}", object=name, hint=hint)
        for directory, target in self._places.items():
            for name in files.present(directory, wanted):
                self._check_stale(name, os.path.join(directory, name), target)

    def _random_name(self, taken: set[str]) -> str:
        from dnet.transaction import identity

        for attempt in range(NAME_ATTEMPTS_MAX):
            name = identity.readable(int.from_bytes(os.urandom(4)) % (identity.COUNT * (1 + attempt)))
            is_free = name not in taken and not self._store.containers.held_names([name])
            if is_free and not any(files.present(directory, [name]) for directory in self._places):
                return name
        raise Exhausted("no free random name was found", hint="give names")

    def _check_stale(self, name: str, path: str, directory: str) -> None:
        """Note a link that leads to something of ours which is gone; raise when it is somebody else's."""
        target = os.path.realpath(path)
        if os.path.islink(path) and os.path.dirname(target) == directory and not os.path.exists(target):
            self.stale_names.add(path)
            return
        hint = f"remove it (`ip netns delete {name}`, if it is a namespace) if nothing needs it, or choose another name"
        raise Conflict(f"{path} exists and is not this engine's", object=name, hint=hint)

    # Addresses

    def _choose_endpoints(
        self,
        wanted: Sequence[Sequence[EndpointSpec]],
        networks: Mapping[str, Network],
        used: Sequence[set[str]] | None = None,
    ) -> list[list[Endpoint]]:
        """Return the endpoints of each container; `networks` are by the references, `used` names of interfaces."""
        addresses = self._addresses(wanted, networks)
        indexes = iter(self._store.take_indexes(sum(map(len, wanted))))
        chosen = []
        for position, specs in enumerate(wanted):
            names_used = set(used[position]) if used else set()
            names_used |= {spec.interface for spec in specs if spec.interface}
            ends = []
            for spec in specs:
                net = networks[spec.network]
                interface = spec.interface or next(
                    name for name in map("eth{}".format, count()) if name not in names_used
                )
                names_used.add(interface)
                ends.append(_endpoint(net, spec, interface, next(addresses[net.id]), next(indexes)))
            if len({end.network_id for end in ends}) < len(ends):
                raise InvalidRequest("a container joins a network once", object=specs[0].network)
            if len({end.interface for end in ends}) < len(ends):
                raise InvalidRequest("two interfaces have the same name", object=specs[0].interface)
            chosen.append(ends)
        return chosen

    def _networks_of(self, wanted: Sequence[Sequence[EndpointSpec]]) -> dict[str, Network]:
        """Return the networks that endpoints are wanted on, and others, by the name or id they use."""
        for reference in {end.network for ends in wanted for end in ends}:
            known = self._networks.get(reference)  # one that the first lot has made is not ready yet
            if known is None or not self._store.networks.phase(known.name):
                self._networks[reference] = self._store.networks.get(reference)
        return self._networks

    def _addresses(
        self, wanted: Sequence[Sequence[EndpointSpec]], networks: Mapping[str, Network]
    ) -> dict[str, Iterator[tuple[IPv4Address, IPv6Address | None]]]:
        """Return the addresses for endpoints on each network, by its id, in the order of the endpoints."""
        by_network: dict[str, list[EndpointSpec]] = {}
        for specs in wanted:
            for spec in specs:
                by_network.setdefault(networks[spec.network].id, []).append(spec)
        known = {net.id: net for net in networks.values()}
        return {identity: self._choose_addresses(known[identity], ends) for identity, ends in by_network.items()}

    def _choose_addresses(
        self, net: Network, members: Sequence[EndpointSpec]
    ) -> Iterator[tuple[IPv4Address, IPv6Address | None]]:
        """Return the addresses of endpoints of one network, in their order: those asked for, else the lowest free."""
        taken = self._store.networks.taken_addresses(net.id)
        ports_max = DRIVERS[net.driver].ports_max
        room = ports_max - len(taken) if ports_max else len(members)
        if len(members) > room:
            raise Exhausted(
                f"{len(members)} containers do not fit on network {net.name}: its bridge has {room} "
                f"of {ports_max} ports left",
                object=net.name,
                hint="spread them over several networks",
            )
        fours = self._addresses_of_family(net, 4, [spec.ip for spec in members], taken)
        if not net.subnet6 and not any(spec.ip6 for spec in members):
            return ((four, None) for four in fours if isinstance(four, IPv4Address))
        taken6 = self._store.networks.taken_addresses6(net.id)
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
                holder = self._store.networks.address_holder(net.id, address) or "another of these containers"
                raise Conflict(
                    f"address {address} of network {net.name} is in use by {holder}",
                    object=str(address),
                    hint="choose another address, or none",
                )
            taken.add(int(address))
        asked = {int(item) for item in self._asked_addresses.get(net.id, ()) if item.version == version}
        free = iter(ipam.free_addresses(net, version, taken | asked, sum(address is None for address in wanted)))
        return [address or next(free) for address in wanted]

    # Ports

    def host_ports(self) -> ipam.HostPorts:
        """Return what gives out the host's ports, knowing those of containers and of listening processes."""
        local = self._kernel.look().local_addresses()
        self._listeners = listeners.listeners(self._kernel.dump_sockets)
        after = self._store.setting(_LAST_PORT)
        return ipam.HostPorts(self._port_holders, lambda: listeners.automatic_ports(after), local, listeners.owner_of)

    def _port_holders(self, protocol: str, port: int) -> dict[IPAddress, str | int]:
        held: dict[IPAddress, str | int] = {}
        held |= self._store.containers.port_holders(protocol, port)
        for address, inode in self._listeners.get((protocol, port), {}).items():
            held.setdefault(address, inode)
        return held

    def _publish(
        self, container: Container, spec: ContainerSpec, networks: Mapping[str, Network], ports: ipam.HostPorts
    ) -> tuple[PortMapping, ...]:
        wanted = list(spec.publish)
        if spec.publish_all:
            explicit = {(port, item.protocol) for item in spec.publish for port in item.container_ports}
            wanted += [
                Publish(None, range(0), range(port, port + 1), protocol)
                for port, protocol in spec.exposed
                if (port, protocol) not in explicit
            ]
        return publish(container, networks, wanted, ports)


def publish(
    container: Container, networks: Mapping[str, Network], wanted: Sequence[Publish], ports: ipam.HostPorts
) -> tuple[PortMapping, ...]:
    """Return the mappings of a container's `-p`s; each of them one for every address it is bound to."""
    found: list[PortMapping] = []
    for item in wanted:
        found += ports.assign(container.name, item, _bindings(container, networks, item))
    return tuple(sorted(found, key=PortMapping.order))


def _bindings(container: Container, networks: Mapping[str, Network], item: Publish) -> list[IPAddress]:
    """Return the host addresses that a `-p` is bound to; without one, all of each family that the container has."""
    outlet, outlet6 = nat_table.outlet(container, 4), nat_table.outlet(container, 6)
    binding = networks[outlet.network_id].host_binding if outlet else None
    address = item.host_ip or binding
    if address is None:
        return [ipam.ANY[4], *([ipam.ANY[6]] if outlet6 else [])]
    if address.version == 6 and outlet6 is None:
        name = outlet.network if outlet else "none"
        hint = "make the network with --ipv6, or publish on an IPv4 address"
        raise InvalidRequest(
            f"port cannot be published on {address}: network {name} has no IPv6", object=str(address), hint=hint
        )
    return [address]


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
        hint = "choose another, or leave it out"
        raise Conflict(
            f"MAC address {spec.mac} is that of the bridge of network {net.name}", object=spec.mac, hint=hint
        )
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
