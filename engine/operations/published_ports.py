"""Published ports of containers: added, removed, and listed with their counters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from dnet.drivers import desired, nat_table
from dnet.drivers.nat_table import TABLE
from dnet.errors import InvalidRequest, KernelRefused, NotFound
from dnet.model.container import Container
from dnet.model.network import Network
from dnet.model.published_port import PortMapping, parse_publish
from dnet.model.values import replace
from dnet.objects.host import Flows, NatElement
from dnet.objects.object import Object
from dnet.operations.inside import changing_stored
from dnet.transaction.apply import delete_groups
from dnet.transaction.apply_rules import create_rules, delete_rules
from dnet.transaction.containers import link_peers
from dnet.transaction.context import Context
from dnet.transaction.recovery import prepare
from dnet.transaction.reserve_ports import HostPorts
from dnet.transaction.rollback import reverting


class NatRow(NamedTuple):
    """A line of `nat show`: a published port, a port that a link opens, or a subnet with source address translation."""

    kind: str
    network: str
    container: str
    source: str
    target: str
    packets: int
    bytes: int


def publish(context: Context, reference: str, texts: Sequence[str]) -> Container:
    """Publish further ports of a container, all or nothing."""
    prepare(context)
    items = [parse_publish(text) for text in texts]
    with changing_stored(context, reference) as container:
        if not container.endpoints:
            raise InvalidRequest(f"container {container.name} is on no network", object=container.name)
        networks = context.store.networks.by_id()
        ports = HostPorts(context.store, context.kernel).publish(container, networks, items)
        exposed = {(port, item.protocol) for item in items for port in item.container_ports}
        updated = replace(
            container,
            ports=tuple(sorted((*container.ports, *ports), key=PortMapping.order)),
            exposed=tuple(sorted({*container.exposed, *exposed})),
        )
        context.store.containers.insert_ports(container.id, ports)
        context.store.containers.update(updated, "exposed")
    made = _rules(context, replace(updated, ports=ports), networks)
    rules = [rule for rule in made if rule.backend == "nft"]

    def back() -> None:
        before = set(_rules(context, container, networks))
        delete_groups(context, [[rule for rule in rules if rule not in before]], is_rollback=True)

    with reverting(back, lambda: _forget_ports(context, container, ports)):
        create_rules(context, rules)
        context.kernel.drop_flows([rule for rule in made if isinstance(rule, Flows)], is_new=True)
        _set_ready(context, container)
    return updated


def _rules(context: Context, container: Container, networks: Mapping[str, Network]) -> tuple[Object, ...]:
    return desired.container_rules(container, networks, link_peers(context, [container]))


def _forget_ports(context: Context, container: Container, ports: Sequence[PortMapping]) -> None:
    with context.store.write():
        context.store.containers.delete_ports(ports)
        context.store.containers.update(container, "exposed")
        context.store.set_phase("container", [container.id], "ready")


def _set_ready(context: Context, container: Container) -> None:
    with context.store.write():
        context.store.set_phase("container", [container.id], "ready")


def unpublish(context: Context, reference: str, ports: Sequence[PortMapping]) -> Container:
    """Stop publishing ports of a container. Connections that are open through them go on."""
    prepare(context)
    doomed = set(ports)
    with context.store.write(is_intent=True):
        container = context.store.containers.get(reference)
        context.store.check_not_changing([container])
        for item in doomed - set(container.ports):
            raise NotFound(f"container {container.name} does not publish {item}", object=str(item))
        if not doomed:
            return container
        context.store.set_phase("container", [container.id], "changing", context.store.new_owner())
        networks = context.store.networks.by_id()
    updated = replace(container, ports=tuple(item for item in container.ports if item not in doomed))
    is_routed = any(not networks[end.network_id].masquerade for end in container.endpoints)
    kept = set(nat_table.container_objects(updated, networks)) if is_routed else set()
    rules = [
        rule
        for rule in nat_table.container_objects(replace(container, ports=tuple(ports)), networks)
        if rule.backend == "nft" and rule not in kept
    ]
    with reverting(lambda: create_rules(context, rules), lambda: _set_ready(context, container)):
        delete_rules(context, rules)
        with context.store.write():
            context.store.containers.delete_ports(ports)
            context.store.set_phase("container", [container.id], "ready")
    return updated


def rows(context: Context, reference: str) -> list[NatRow]:
    """Return translations with their counters, of one network or, without a reference, of all."""
    store = context.store
    networks = [store.networks.get(reference)] if reference else store.networks.all()
    counters = _counters(context)
    result: list[NatRow] = []
    containers = store.containers.all()
    peers = {item.name: item for item in containers}
    for network in networks:
        result += _source_rows(nat_table.network_objects(network), network, "", counters)
        for item in containers:
            for endpoint in item.endpoints:
                if endpoint.network_id == network.id:
                    rules = nat_table.guest_objects(network, endpoint)
                    result += _source_rows(rules, network, item.name, counters)
            outlet = nat_table.outlet(item, 4)
            if outlet and outlet.network_id == network.id:
                result += _published_rows(item, network, counters)
            result += _link_rows(item, network, peers, counters)
    return result


def _counters(context: Context) -> dict[tuple[str, str], tuple[int, int]]:
    """Return packets and bytes of the table's elements, by set and key; empty without the table."""
    if not context.nft.has_table(TABLE):
        return {}
    kinds = [("map", name) for name in nat_table.MAPS] + [("set", name) for name in nat_table.COUNTED_SETS]
    counters = {}
    for kind, name in kinds:
        # A table of an earlier version, until something is created, does not have all of them.
        with suppress(KernelRefused):
            for element in context.nft.elements(TABLE, kind, name):
                counters[name, nat_table.key_of(name, element.key)] = (element.packets, element.bytes)
    return counters


def _source_rows(
    rules: Iterable[Object], network: Network, container: str, counters: Mapping[tuple[str, str], tuple[int, int]]
) -> Iterator[NatRow]:
    for rule in rules:
        if isinstance(rule, NatElement) and rule.set_name.startswith(("masquerade", "snat")):
            counted = counters.get((rule.set_name, rule.key), (0, 0))
            target = rule.value or "(interface)"
            yield NatRow(rule.set_name[:-1], network.name, container, rule.key, target, *counted)


def _published_rows(
    container: Container, network: Network, counters: Mapping[tuple[str, str], tuple[int, int]]
) -> Iterator[NatRow]:
    for mapping, item in nat_table.published(container):
        counted = counters.get((item.set_name, item.key), (0, 0))
        address, _, port = item.value.partition(" . ")
        source = f"{mapping.host}/{mapping.protocol}"
        target = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        yield NatRow("publish", network.name, container.name, source, target, *counted)


def _link_rows(
    parent: Container,
    network: Network,
    peers: Mapping[str, Container],
    counters: Mapping[tuple[str, str], tuple[int, int]],
) -> Iterator[NatRow]:
    for link in parent.links:
        endpoints = nat_table.linked_endpoints(parent, peers[link.child]) if link.child in peers else None
        if endpoints is None or endpoints[0].network_id != network.id:
            continue
        for item in nat_table.link_objects(parent, peers[link.child], {network.id: network}):
            if isinstance(item, NatElement):
                _, address, protocol, port = item.key.split(" . ")
                target = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
                counted = counters.get((item.set_name, item.key), (0, 0))
                yield NatRow("link", network.name, str(link), parent.name, f"{target}/{protocol}", *counted)
