"""Devices of networks, repaired and removed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from dnet.drivers import desired, existing_bridge
from dnet.drivers.desired import DRIVERS
from dnet.model.network import Network
from dnet.objects.object import Object
from dnet.transaction.apply import create_groups, delete_groups, join_ports, remove_groups
from dnet.transaction.apply_kernel import kernel_part
from dnet.transaction.apply_rules import create_rules
from dnet.transaction.context import Context
from dnet.transaction.rollback import reverting


def remove_networks(context: Context, networks: Sequence[Network], *, force: bool = False) -> None:
    """Delete networks in phase `deleting`, the table with the last one; under the network lock.

    By force, also while Open vSwitch is gone: what is in its database is then left to `reconcile`.
    """
    is_last = bool(networks) and not context.store.networks.has_others([network.id for network in networks])
    groups = [desired.network(network, is_first=is_last and position == 0) for position, network in enumerate(networks)]
    for adopted in context.store.adoptions.all([network.id for network in networks]):
        from dnet.transaction import uplinks

        uplinks.give_back(context, adopted)
    remove_groups(context, groups, force=force)
    context.ruleset.withdraw(networks)
    context.store.forget("network", [network.id for network in networks])


def repair_networks(context: Context, references: Collection[str], *, with_advice: bool = True) -> None:
    """Create again what somebody or a reboot has removed: the table, and the devices of these networks.

    Adopted interfaces are left to the caller, or, `with_advice`, to the user.
    """
    networks = [context.store.networks.get(reference) for reference in sorted(references)]
    if networks and not context.ruleset.is_complete():
        create_rules(context, context.all_rules())
    for network in networks:
        context.kernel.sysctls.switch_forwarding(4)
        if network.subnet6:
            context.kernel.sysctls.switch_forwarding(6)
        if is_made(context, network):
            continue
        with context.store.network_lock():
            if not is_made(context, network):
                repair_ports(context, [_repair_network(context, network)])
                for interface in network.uplinks if with_advice else ():
                    command = f"dnet network adopt {network.name} {interface}"
                    context.notice(f"interface {interface} is not on network {network.name} any more: {command}")


def is_made(context: Context, network: Network) -> bool:
    """Whether the network's device exists, as far as the kernel tells."""
    if not DRIVERS[network.driver].needs_switch:
        return context.kernel.is_device(network.device_index, network.device)
    # After a reboot ovs-vswitchd makes the device again, but not what was on it.
    has_device = context.kernel.device_index(network.device) is not None
    return has_device and network.gateway in context.kernel.look().local_addresses()


def repair_ports(context: Context, networks: Iterable[Network], *, dry_run: bool = False) -> list[Object]:
    """Make host interfaces of endpoints ports of their bridge again; return the objects that were missing.

    On Open vSwitch, also what somebody has changed of bridges and ports. A dry run changes nothing.
    """
    masters = context.kernel.look().masters()
    missing: list[Object] = []
    for network in networks:
        outside = {index for index, master in masters.items() if master != network.device_index}
        ports = desired.ports(network, context.store.containers.on_network(network.id), outside)
        if DRIVERS[network.driver].needs_switch:
            from dnet.transaction import uplinks

            own = desired.network(network, is_first=False) if is_made(context, network) else ()
            ports = (*own, *desired.uplinks(uplinks.with_placed_uplinks(context, network)), *ports)
            ports = tuple(context.switches.missing(ports))
        missing += ports
    if missing and not dry_run:
        join_ports(context, missing)
    return missing


def _repair_network(context: Context, network: Network) -> Network:
    """Create a network's devices again; return it, as it is on an existing bridge that is not dnet's to create."""
    if not network.owns_device and not DRIVERS[network.driver].needs_switch:
        network = existing_bridge.refreshed(network, context.kernel.look().report())
        with context.store.write():
            context.store.networks.set_device(network)
    group = desired.network(network, is_first=True)
    # A device that is only half set up must not pass for the network; its rules do no harm.
    with reverting(lambda: delete_groups(context, [kernel_part(group)], is_rollback=True)):
        create_groups(context, [group])
    return network


def prepare_switch(context: Context, network: Network) -> None:
    """Raise OvsError or Unsupported, before anything is changed, when a network's Open vSwitch does not run."""
    if DRIVERS[network.driver].needs_switch:
        context.switches.open().prepare()
