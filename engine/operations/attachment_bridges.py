"""Bridges that attachments need: made when they are missing, removed with the last attachment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dnet.drivers import attachment
from dnet.drivers.attachment import KINDS
from dnet.errors import OvsError
from dnet.model.record import MadeBridge
from dnet.objects.observed import ObservedLink
from dnet.objects.openvswitch import OvsBridge
from dnet.transaction.apply import create_groups, delete_groups, remove_groups
from dnet.transaction.context import Context
from dnet.transaction.identity import new_id
from dnet.transaction.rollback import reverting


@contextmanager
def held_bridge(context: Context, device: str, kind: str) -> Iterator[ObservedLink | None]:
    """Yield a bridge of the host, made if it is missing and its name allows that, or else None.

    `kind` is that of the attachment. While the block runs, nobody removes a bridge that dnet made.
    """
    link = context.kernel.link(device)
    if (link and device not in context.store.attachments.made_bridges()) or not device.startswith(
        KINDS[kind].bridge_prefix
    ):
        yield link
        return
    with context.store.network_lock():
        yield context.kernel.link(device) or make_bridge(context, device, kind)


def make_bridge(context: Context, device: str, kind: str) -> ObservedLink | None:
    """Make a bridge, with its old index if dnet has made it before. Under the network lock."""
    datapath_type = _datapath_type(context, device) if KINDS[kind].needs_switch else ""
    with context.store.write():
        made = context.store.attachments.made_bridges().get(device)
        if made is None:
            mark = new_id() if KINDS[kind].needs_switch else ""
            made = MadeBridge(device, context.store.take_indexes(1)[0], mark)
            context.store.attachments.insert_made_bridge(made)
    group = attachment.made_bridge(made, datapath_type)
    with reverting(lambda: delete_groups(context, [group], is_rollback=True), lambda: _forget_bridge(context, device)):
        create_groups(context, [group])
    return context.kernel.link(device)


def _datapath_type(context: Context, device: str) -> str:
    """Return the type for a new bridge of Open vSwitch; raise when it has one of that name elsewhere."""
    switch = context.switches.open()
    switch.prepare()
    if switch.bridge(device) and device not in context.store.attachments.made_bridges():
        sentence = f"Open vSwitch has a bridge {device}, but its device is not in this network namespace"
        raise OvsError(sentence, object=device, hint="run dnet where ovs-vswitchd runs")
    return switch.datapath_type()


def _forget_bridge(context: Context, device: str) -> None:
    if not context.store.attachments.users_of(device):
        context.store.attachments.forget_made_bridge(device)


def remove_unused_bridges(context: Context) -> None:
    """Remove bridges that dnet made and nothing is attached to; those that others use now are left to them."""
    if not any(not context.store.attachments.users_of(device) for device in context.store.attachments.made_bridges()):
        return
    with context.store.network_lock():
        for device in context.store.attachments.made_bridges():
            if not context.store.attachments.users_of(device):
                remove_bridge(context, device)


def remove_bridge(context: Context, device: str) -> None:
    """Remove a bridge that dnet made, or leave it to others if they use it now. Under the network lock."""
    made = context.store.attachments.made_bridges()[device]
    group = attachment.made_bridge(made, "")
    is_there = context.switches.is_within_reach([group])
    index = (context.kernel.device_index(device) or 0) if made.mark else made.device_index
    if not (is_there and context.kernel.is_device(index, device) and _is_in_use(context, made, index)):
        remove_groups(context, [group], force=True)
    else:
        context.notice(f"bridge {device} stays, since others use it")
        for item in group:
            if isinstance(item, OvsBridge):
                context.switches.open().disown_bridge(item)
    context.store.attachments.forget_made_bridge(device)


def _is_in_use(context: Context, made: MadeBridge, index: int) -> bool:
    """Return whether a bridge has ports, addresses or a network of somebody else."""
    device = made.device
    if made.mark and context.switches.open().port_names(device):
        return True
    sight = context.kernel.look()
    held = [item for item in sight.addresses() if item.index == index]
    has_ports = any(link.master == index for link in sight.links())
    is_network = any(network.device == device for network in context.store.networks.all())
    return has_ports or is_network or any(not item.interface.ip.is_link_local for item in held)
