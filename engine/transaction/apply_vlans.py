"""The VLAN part of a change: map entries, memberships, hooks."""

from __future__ import annotations

from collections.abc import Sequence

from dnet.model.vlan import PortVlans
from dnet.objects.links import Bridge, PortOf, Veth
from dnet.objects.object import Absent, Object
from dnet.objects.vlans import (
    BridgeVlanFiltering,
    BridgeVlans,
    ClsactHooks,
    MacEntry,
    VlanMapEntry,
    VlanProgram,
)
from dnet.transaction.apply_kernel import create_in_kernel
from dnet.transaction.context import Context, Group

_OF_VLANS = (BridgeVlans, BridgeVlanFiltering, ClsactHooks, MacEntry, VlanMapEntry, VlanProgram)


def delete_vlans(context: Context, gone: Sequence[Group], made: Sequence[Group], after: Sequence[Group]) -> None:
    """Take devices that stay out of VLANs: their memberships and filters, then entries that get no successor."""
    old = [item for group in gone for item in group if isinstance(item, _OF_VLANS)]
    if not old:
        return
    new = {item for group in made for item in group}
    old = [item for item in old if item not in new]
    devices = {item.index for group in after for item in group if isinstance(item, (Veth, Bridge, PortOf))}
    left = [item for item in old if getattr(item, "index", 0) in devices]
    absent = [Absent(item) for kind in (BridgeVlans, BridgeVlanFiltering) for item in left if isinstance(item, kind)]
    hooks = [item for item in left if isinstance(item, ClsactHooks)]
    # Hooks with other blocks are somebody else's.
    filtered = context.kernel.look().clsact_hooks() if hooks else set()
    absent += [Absent(item) for item in hooks if (item.index, *item.blocks) in filtered]
    entries = [item for item in left if isinstance(item, MacEntry)]
    known = context.kernel.look().mac_entries() if entries else set()
    absent += [Absent(item) for item in entries if (item.index, item.mac) in known]
    create_in_kernel(context, [absent])
    kept = {item.index for item in new if isinstance(item, VlanMapEntry)}
    forget_vlan_entries(context, [item for item in old if not isinstance(item, VlanMapEntry) or item.index not in kept])


def set_vlan_entries(context: Context, entries: Sequence[VlanMapEntry]) -> None:
    """Say what devices pass, in place of what they passed before; each device changes at one stroke.

    Where the VLAN programs that work are not of this version, or have lost their map, they are replaced first.
    """
    if not entries:
        return
    is_in_place = context.bpf.prepare(lambda: _ports(context.all_vlans()))
    context.kernel.sender.use_programs(context.bpf.programs)
    if not is_in_place:
        context.kernel.sender.replace_programs([item for item in context.all_vlans() if isinstance(item, VlanProgram)])
        context.bpf.keep()
    context.bpf.set_ports(_ports(entries))


def forget_vlan_entries(context: Context, items: Sequence[Object]) -> None:
    """Delete entries, and with the last bridge that has VLAN programs also their pins."""
    context.bpf.delete_ports(item.index for item in items if isinstance(item, VlanMapEntry))
    programs = {item for item in items if isinstance(item, VlanProgram)}
    if programs and programs.issuperset(item for item in context.all_vlans() if isinstance(item, VlanProgram)):
        context.bpf.remove()


def _ports(objects: Sequence[Object]) -> dict[int, PortVlans]:
    return {item.index: item.vlans for item in objects if isinstance(item, VlanMapEntry)}
