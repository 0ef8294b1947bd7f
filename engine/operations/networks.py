"""Networks: created, planned, removed."""

from __future__ import annotations

from collections.abc import Sequence

from dnet.drivers import desired
from dnet.drivers.desired import DRIVERS
from dnet.drivers.existing_bridge import FoundBridge
from dnet.errors import Conflict
from dnet.model.network import Network
from dnet.model.network_spec import NetworkSpec
from dnet.objects.object import Object
from dnet.transaction import reserve_network
from dnet.transaction.apply import create_groups
from dnet.transaction.context import Context
from dnet.transaction.networks import remove_networks
from dnet.transaction.recovery import prepare
from dnet.transaction.rollback import undoing

MEMBERS_SHOWN = 3


def create(context: Context, spec: NetworkSpec) -> Network:
    """Create a network."""
    reserve_network.check_driver(spec)
    prepare(context)
    with context.store.network_lock():
        if DRIVERS[spec.driver].needs_switch:  # what was left behind may have the bridge's name
            context.switches.collect()
        busy, taken = reserve_network.busy_subnets(context.kernel), _taken(context, spec)
        owner = context.store.new_owner()
        with undoing(context, owner) as groups:
            with context.store.write(is_intent=True):
                is_first = not context.store.networks.has_others()
                network = reserve_network.network(context, spec, busy, owner, taken)
            groups.append(desired.network(network, is_first=is_first))
            create_groups(context, groups)
            with context.store.write():
                context.store.set_phase("network", [network.id], "ready")
        context.ruleset.let_through(is_thorough=True)
    context.kernel.sysctls.keep()
    if network.owns_device and network.found:
        context.notice(
            f"the gateway of network {network.name} is an address of this host's: containers and the subnet meet "
            f"when its interface is adopted: dnet network adopt {network.name} INTERFACE"
        )
    return network


def _taken(context: Context, spec: NetworkSpec) -> FoundBridge | None:
    """Return the bridge that exists already, if the driver looks for one."""
    return context.switches.take(spec) if DRIVERS[spec.driver].needs_switch else None


def plan(context: Context, spec: NetworkSpec) -> list[Object]:
    """Return the objects that `create` would create, in order. Nothing is changed."""
    reserve_network.check_driver(spec)
    busy, taken = reserve_network.busy_subnets(context.kernel), _taken(context, spec)
    with context.store.write(dry_run=True):
        is_first = not context.store.networks.has_others()
        network = reserve_network.network(context, spec, busy, "", taken)
    return list(desired.network(network, is_first=is_first))


def delete(context: Context, references: Sequence[str], *, force: bool = False) -> list[Network]:
    """Remove networks that no container is on, all or nothing. By force, unknown ones are left out."""
    prepare(context)
    with context.store.network_lock():
        if not force and any(DRIVERS[context.store.networks.get(name).driver].needs_switch for name in references):
            context.switches.check_within_reach()
        with context.store.write(is_intent=True):
            known = [name for name in references if not force or context.store.networks.find(name)]
            networks = list({net.id: net for net in map(context.store.networks.get, known)}.values())
            for network in networks:
                _check_unused(context, network)
            context.store.set_phase(
                "network", [network.id for network in networks], "deleting", context.store.new_owner()
            )
        remove_networks(context, networks, force=force)
    return networks


def _check_unused(context: Context, network: Network) -> None:
    members = context.store.networks.member_names(network.id)
    if members:
        some = ", ".join(members[:MEMBERS_SHOWN]) + (", ..." if len(members) > MEMBERS_SHOWN else "")
        raise Conflict(
            f"network {network.name} is in use by {len(members)} containers ({some})",
            object=network.name,
            hint="remove the containers first",
        )


def prune(context: Context, *, force: bool = False) -> list[Network]:
    """Remove every network that has no containers and no uplinks."""
    prepare(context)
    unused = [
        network.name
        for network in context.store.networks.all()
        if not network.uplinks and not context.store.networks.member_names(network.id)
    ]
    return delete(context, unused, force=force)
