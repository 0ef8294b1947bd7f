"""Separation of VLANs on networks: enabled and repaired."""

from __future__ import annotations

import time
from collections.abc import Sequence

from dnet.drivers import desired
from dnet.drivers.desired import DRIVERS
from dnet.errors import InvalidRequest
from dnet.model.container import Container
from dnet.model.network import Network
from dnet.model.values import replace
from dnet.model.vlan import DEFAULT_VLAN
from dnet.objects.object import Object
from dnet.objects.vlans import ClsactHooks, MacEntry, VlanMapEntry, VlanProgram
from dnet.transaction import reserve_network
from dnet.transaction.apply import change_groups
from dnet.transaction.apply_kernel import create_in_kernel
from dnet.transaction.apply_vlans import set_vlan_entries
from dnet.transaction.containers import link_peers, read_host_files
from dnet.transaction.context import Context, Group
from dnet.transaction.networks import repair_ports
from dnet.transaction.rollback import reverting

ENABLING = "turning"  # the setting that is not 0 while VLANs are enabled on a network


def missing_vlans(context: Context) -> list[Object]:
    """Return the missing objects that separate VLANs: map entries, and hooks and MACs at devices that exist."""
    return _missing_of(context, context.all_vlans())


def _missing_of(context: Context, wanted: Group) -> list[Object]:
    entries = context.bpf.ports() if any(isinstance(item, VlanMapEntry) for item in wanted) else {}
    filtered = context.kernel.look().clsact_hooks() if wanted else set()
    masters = context.kernel.look().masters() if wanted else {}
    stay = context.kernel.look().mac_entries() if wanted else set()
    # Of two ports with one MAC, one can have it.
    macs = {item.mac for item in wanted if isinstance(item, MacEntry) and (item.index, item.mac) in stay}

    def is_missing(item: Object) -> bool:
        match item:
            case VlanMapEntry():
                return entries.get(item.index) != item.vlans
            case ClsactHooks():
                is_of_bridge = item.bridge_index in {item.index, masters.get(item.index)}
                is_there = (item.index, *item.blocks) in filtered
                return is_of_bridge and not is_there and context.kernel.is_device(item.index, item.device)
            case MacEntry():
                return item.mac not in macs and context.kernel.is_device(item.index, item.device)
            case _:
                return False

    return [item for item in wanted if is_missing(item)]


def repair_vlans(context: Context) -> None:
    """Create what `missing_vlans` returns, with the programs."""
    if not missing_vlans(context):
        return
    with context.store.network_lock():  # under which interfaces become ports, and programs come to them first
        wanted = context.all_vlans()
        missing = _missing_of(context, wanted)
        set_vlan_entries(context, [item for item in wanted if isinstance(item, VlanMapEntry)])
        hooks = [item for item in missing if isinstance(item, ClsactHooks)]
        bridges = {item.bridge_index for item in hooks if item.index == item.bridge_index}
        programs = [item for item in wanted if isinstance(item, VlanProgram) and item.index in bridges]
        # A bridge's own first, then its programs, then its ports: these share what those make.
        hooks.sort(key=lambda item: item.index != item.bridge_index)
        own = [item for item in hooks if item.index in bridges]
        others = [item for item in hooks if item not in own]
        macs = [item for item in missing if isinstance(item, MacEntry)]
        create_in_kernel(context, [[*own, *programs, *others, *macs]])


def enable_vlans(context: Context, reference: str, backend: str = "") -> None:
    """Put the ports of a network into VLANs, all present ones into its gateway's; all or nothing.

    Raises InvalidRequest for a bridge that is not dnet's own, and as `reserve_network.vlan_backend` does.
    """
    from dnet.transaction import uplinks

    with context.store.network_lock():
        network = uplinks.with_placed_uplinks(context, context.store.networks.get(reference))
        if network.vlan:
            return
        if not network.owns_device and not DRIVERS[network.driver].has_vlans_on_existing:
            hint = "VLANs need a bridge of dnet's own"
            raise InvalidRequest(f"network {network.name} cannot keep VLANs apart", object=network.name, hint=hint)
        aware = replace(
            network,
            vlan=DEFAULT_VLAN,
            vlan_backend=reserve_network.vlan_backend(context.kernel, network.driver, backend),
        )
        members = context.store.containers.on_network(network.id)
        with context.store.write():
            context.store.networks.update(aware, "vlan", "vlan_backend")
            context.store.set_setting(ENABLING, time.monotonic_ns())
        with reverting(
            lambda: _change_network(context, aware, network, members, is_undoing=True),
            lambda: _forget_vlan(context, network),
        ):
            _change_network(context, network, aware, members)
            with context.store.write():
                context.store.set_setting(ENABLING, 0)
    for item in aware.uplinks:
        context.notice(f"interface {item} passes VLANs of network {network.name} from now on: {item.vlans_on(aware)}")


def _forget_vlan(context: Context, network: Network) -> None:
    with context.store.write():
        context.store.networks.update(network, "vlan", "vlan_backend")
        context.store.set_setting(ENABLING, 0)


def finish_enabling(context: Context) -> None:
    """Finish `enable_vlans` for a killed process, which has left some ports without VLANs."""
    begun = context.store.setting(ENABLING)
    with context.store.network_lock():  # which `enable_vlans` holds
        is_abandoned = begun == context.store.setting(ENABLING) != 0
    if is_abandoned:
        repair_all_vlans(context)
        with context.store.write():
            if context.store.setting(ENABLING) == begun:
                context.store.set_setting(ENABLING, 0)


def repair_all_vlans(context: Context) -> None:
    """Repair VLANs on Linux bridges and on Open vSwitch."""
    repair_vlans(context)
    repair_ports(context, [network for network in context.store.networks.all() if DRIVERS[network.driver].needs_switch])


def _change_network(
    context: Context, before: Network, after: Network, members: Sequence[Container], *, is_undoing: bool = False
) -> None:
    networks, host, peers = context.store.networks.by_id(), read_host_files(), link_peers(context, members)
    groups = [
        [
            (*desired.network(net, is_first=False), *desired.uplinks(net)),
            *(desired.container(item, {**networks, net.id: net}, host, peers) for item in members),
        ]
        for net in (before, after)
    ]
    change_groups(context, *groups, is_undoing=is_undoing)
