"""Containers with all that they need, reserved in the store.

That happens inside transactions of the store, one for each lot of a bulk, because these decide between processes. The
kernel is looked at, not changed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence

from dnet.errors import InvalidRequest
from dnet.model.container import MODE_CONTAINER, MODE_HOST, Container, Endpoint, Link, Settings
from dnet.model.container_spec import ContainerSpec
from dnet.model.default_route import with_gateways
from dnet.model.published_port import Publish
from dnet.model.values import replace
from dnet.state.store import Store
from dnet.transaction.context import Context
from dnet.transaction.identity import new_id
from dnet.transaction.reserve_endpoints import EndpointReservation
from dnet.transaction.reserve_names import Names
from dnet.transaction.reserve_ports import HostPorts


class Reservation:
    """Containers of one operation, reserved inside one transaction, or lot by lot in several."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = context.store
        self.names = Names(context)
        self._endpoints = EndpointReservation(context.store)
        self._ports: HostPorts | None = None

    def check(self, specs: Sequence[ContainerSpec]) -> None:
        """Raise where names are taken, or addresses do not suffice, for all that is to be reserved lot by lot."""
        wanted = [spec.endpoints for spec in specs]
        networks = self._endpoints.networks_of(wanted)
        self.names.check_free([spec.name for spec in specs if spec.name])
        self._endpoints.check(wanted, networks)
        self.names.keep(spec.name for spec in specs)

    def reserve(self, specs: Sequence[ContainerSpec], owner: str) -> list[Container]:
        """Insert containers in phase `creating`; raise Conflict, Exhausted, InvalidRequest or NotFound."""
        wanted = [spec.endpoints for spec in specs]
        networks = self._endpoints.networks_of(wanted)
        by_id = {net.id: net for net in networks.values()}
        names = self.names.choose([spec.name for spec in specs])
        chosen = self._endpoints.choose(wanted, networks)
        if self._ports is None and any(spec.publish or spec.publish_all for spec in specs):
            self._ports = HostPorts(self._store, self._context.kernel)
        links = _links(self._store, dict(zip(names, specs, strict=True)), dict(zip(names, chosen, strict=True)))
        linked_by = self._store.containers.links_to(names)
        for link in (link for own in links.values() for link in own):
            linked_by.setdefault(link.child, []).append(link)
        containers: dict[str, Container] = {}
        now = time.time()
        for name, spec, endpoints in zip(names, specs, chosen, strict=True):
            identity = new_id()
            shared = _shared(self._store, spec, containers)
            sandbox_id = shared.id if shared else identity
            mode = networks[spec.mode].name if endpoints else spec.mode
            made = Container(
                id=identity,
                name=name,
                mode=f"{MODE_CONTAINER}{sandbox_id}" if shared else mode,
                sandbox=f"{self._context.run_directory}/netns/{sandbox_id[:12]}",
                files=f"{self._context.run_directory}/etc/{sandbox_id[:12]}",
                settings=_settings(spec, shared, identity),
                created=now,
                status="created",
                mtu=spec.mtu,
                labels=spec.labels,
                publish_all=spec.publish_all,
                exposed=spec.exposed,
                ports=(),
                endpoints=with_gateways(endpoints, by_id),
                shares=sandbox_id if shared else "",
                links=links.get(name, ()),
                linked_by=tuple(linked_by.get(name, ())),
                process=spec.process,
            )
            if endpoints and self._ports:
                made = replace(made, ports=self._ports.publish(made, by_id, _wanted_ports(spec)))
            containers[name] = made
        if self._ports:
            self._ports.remember()
        reserved = list(containers.values())
        self._store.containers.insert(reserved, owner)
        return reserved


def _shared(store: Store, spec: ContainerSpec, others: Mapping[str, Container]) -> Container | None:
    """Return the container whose sandbox a specification is to share; a sharer's is that of its own."""
    if not spec.shares:
        return None
    found = others.get(spec.shares) or store.containers.get(spec.shares)
    return store.containers.get(found.shares) if found.shares else found


def _settings(spec: ContainerSpec, shared: Container | None, identity: str) -> Settings:
    settings = shared.settings if shared else spec.settings
    if settings.hostname:
        return settings
    return replace(settings, hostname=os.uname().nodename if spec.mode == MODE_HOST else identity[:12])


def _wanted_ports(spec: ContainerSpec) -> list[Publish]:
    """Return a container's `-p`s, with `-P` an automatic port for each exposed one that none of them is for."""
    wanted = list(spec.publish)
    if spec.publish_all:
        explicit = {(port, item.protocol) for item in spec.publish for port in item.container_ports}
        wanted += [
            Publish(None, range(0), range(port, port + 1), protocol)
            for port, protocol in spec.exposed
            if (port, protocol) not in explicit
        ]
    return wanted


def _links(
    store: Store, specs: Mapping[str, ContainerSpec], chosen: Mapping[str, Sequence[Endpoint]]
) -> dict[str, tuple[Link, ...]]:
    """Return the links of each container, checked: the other one exists, and both are on some network."""
    found: dict[str, tuple[Link, ...]] = {}
    known: dict[str, tuple[str, set[str]]] = {}
    for parent, spec in specs.items():
        links = []
        for reference, alias in spec.links:
            if reference not in known:
                known[reference] = _linkable(store, reference, chosen)
            child, networks = known[reference]
            if child == parent:
                raise InvalidRequest(f"container {parent} cannot be linked to itself", object=parent)
            if networks.isdisjoint(endpoint.network_id for endpoint in chosen[parent]):
                raise InvalidRequest(
                    f"containers {parent} and {child} are on no network together",
                    object=child,
                    hint=f"put {parent} on a network of {child}'s with --network",
                )
            links.append(Link(parent, child, alias))
        if links:
            found[parent] = tuple(links)
    return found


def _linkable(store: Store, reference: str, chosen: Mapping[str, Sequence[Endpoint]]) -> tuple[str, set[str]]:
    """Return the name of the container that a link refers to, and the ids of its networks."""
    if reference in chosen:
        return reference, {endpoint.network_id for endpoint in chosen[reference]}
    child = store.containers.get(reference)
    return child.name, {endpoint.network_id for endpoint in child.endpoints}
