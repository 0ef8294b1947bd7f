"""Endpoints of containers: networks joined and left, and the VLANs of their ports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dnet.drivers.desired import DRIVERS
from dnet.errors import InvalidRequest, NotFound
from dnet.model.container import Container, Endpoint
from dnet.model.container_spec import EndpointSpec
from dnet.model.network import Network
from dnet.model.values import replace
from dnet.model.vlan import PortVlans
from dnet.objects.observed import Observed
from dnet.operations.inside import changing_stored, check_own_sandbox, choose_default_routes, gateway_priority
from dnet.transaction.containers import change_or_revert
from dnet.transaction.context import Context
from dnet.transaction.lots import BulkProgress, LazyContainers, lots
from dnet.transaction.networks import prepare_switch, repair_networks
from dnet.transaction.recovery import prepare
from dnet.transaction.reserve_endpoints import EndpointReservation
from dnet.transaction.rollback import reverting
from dnet.transaction.vlans import enable_vlans


def connect(
    context: Context, references: Sequence[str], spec: EndpointSpec, on_progress: BulkProgress | None = None
) -> list[Container]:
    """Join containers to one more network, all or nothing."""
    prepare(context)
    network = prepare_network(context, context.store.networks.get(spec.network), spec)
    with context.store.write(is_intent=True):
        heads = context.store.containers.heads(references)
        members = LazyContainers(
            context.store, [heads.get(one) or context.store.containers.get(one) for one in references]
        )
        context.store.check_ready(members.heads)
        for item in members.heads:
            check_own_sandbox(item)
        if len(members) > 1 and (spec.ip or spec.ip6 or spec.mac):
            raise InvalidRequest("several containers cannot have the same address", object=network.name)
        reservation = EndpointReservation(context.store)
        reservation.check_joining(members, spec, network)
        context.store.set_phase("container", [item.id for item in members.heads], "changing", context.store.new_owner())
    return change_or_revert(context, members, joining(context, reservation, members, spec, network), on_progress)


def prepare_network(context: Context, network: Network, spec: EndpointSpec) -> Network:
    """Repair the network that an endpoint is to be on; return it, with VLANs if the endpoint is to be in any."""
    prepare_switch(context, network)
    repair_networks(context, [network.name])
    if spec.vlans and not network.vlan:
        enable_vlans(context, network.name)
        network = context.store.networks.get(network.name)
    return network


def joining(
    context: Context,
    reservation: EndpointReservation,
    members: Sequence[Container],
    spec: EndpointSpec,
    network: Network,
    insides: Mapping[str, Observed] | None = None,
    *,
    takes_default: bool | None = None,
) -> Iterator[Container]:
    """Yield containers with one more endpoint; each lot is reserved when its first container is asked for.

    `insides`: what is in foreign containers, by id. `takes_default`: whether the default route goes through the new
    endpoint; None leaves that to the gateway priority of the specification.
    """
    insides = insides or {}
    names = interface_names(insides)
    for lot in lots(members):
        with context.store.write(is_intent=True):
            joined = reservation.join(lot, spec, network, names)
            if takes_default is not None:
                joined = [
                    (item, replace(new, gateway_priority=gateway_priority(item, is_default=takes_default)))
                    for item, new in joined
                ]
            context.store.containers.insert_endpoints([(item.id, new) for item, new in joined], "creating")
            changes = [(item, replace(item, endpoints=(*item.endpoints, new))) for item, new in joined]
            changed = choose_default_routes(context, changes, insides)
        yield from changed


def interface_names(insides: Mapping[str, Observed]) -> dict[str, set[str]]:
    """Return the names of the interfaces in containers, by the containers' ids."""
    return {identity: {link.name for link in inside.links} for identity, inside in insides.items()}


def disconnect(context: Context, reference: str, network_reference: str, *, force: bool = False) -> Container:
    """Remove a container's endpoint on a network. By force, also while the network's Open vSwitch is gone."""
    prepare(context)
    network = context.store.networks.get(network_reference)
    if DRIVERS[network.driver].needs_switch and not force:
        context.switches.check_within_reach()
    with changing_stored(context, reference) as container:
        leaving = _endpoint_on(context, container, network.id)
        context.store.set_phase("endpoint", [leaving.id], "deleting")
        remaining = tuple(endpoint for endpoint in container.endpoints if endpoint.id != leaving.id)
        after = choose_default_routes(context, [(container, replace(container, endpoints=remaining))], {})
    change_or_revert(context, [container], after, force=force)
    return after[0]


def set_vlans(context: Context, reference: str, network_reference: str, vlans: PortVlans | None) -> Container:
    """Change the VLANs of a container's port on a network, on its first if none is named.

    None gives the port the VLANs of the network.
    """
    prepare(context)
    container = context.store.containers.get(reference)
    network = context.store.networks.get(_endpoint_on(context, container, network_reference).network_id)
    prepare_switch(context, network)
    if vlans and not network.vlan:
        enable_vlans(context, network.id)
    with changing_stored(context, container.id) as container:
        old = _endpoint_on(context, container, network.id)
        context.store.containers.set_vlans(old.id, vlans)
    new = replace(old, vlans=vlans)
    endpoints = tuple(new if endpoint.id == old.id else endpoint for endpoint in container.endpoints)
    after = replace(container, endpoints=endpoints)

    def store_old_vlans() -> None:
        with context.store.write():
            context.store.containers.set_vlans(old.id, old.vlans)

    with reverting(store_old_vlans):
        change_or_revert(context, [container], [after])
    return after


def _endpoint_on(context: Context, container: Container, reference: str) -> Endpoint:
    """Return a container's endpoint on a network, or its first endpoint if the reference is empty."""
    network = context.store.networks.get(reference) if reference else None
    for endpoint in container.endpoints:
        if network is None or endpoint.network_id == network.id:
            return endpoint
    where = f"network {network.name}" if network else "a network"
    raise NotFound(f"container {container.name} is not on {where}", object=container.name)
