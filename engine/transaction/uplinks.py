"""Uplinks: host interfaces that are adopted as ports of a network's bridge, given back, and restored.

What was there before is stored before anything is changed, so that it can be given back however far the adoption came.
All functions that change something need the lock of the networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from dnet.drivers import desired, nat_table, uplink, uplink_snapshot
from dnet.drivers.desired import DRIVERS
from dnet.drivers.uplink_snapshot import Snapshot
from dnet.errors import Conflict, DnetError, InvalidRequest, NotFound, OvsError, Unsupported
from dnet.model.address import link_local
from dnet.model.network import Network, Uplink
from dnet.model.record import Adoption
from dnet.model.values import replace
from dnet.model.vlan import PortVlans
from dnet.objects.object import Object
from dnet.objects.observed import ObservedLink
from dnet.objects.vlans import ClsactHooks
from dnet.openvswitch.remote import is_here
from dnet.transaction.apply import change_groups, make_on_host, put_back
from dnet.transaction.apply_rules import change_rules
from dnet.transaction.context import Context, Group
from dnet.transaction.rollback import reverting


def take_snapshot(context: Context, network: Network, interface: str) -> Snapshot:
    """Return the state of an interface and of the network's bridge.

    Raises Conflict, InvalidRequest or NotFound when the interface cannot become a port.
    """
    report = context.kernel.look().report()
    bridge = report.link(network.device)
    if bridge is None:
        sentence = f"bridge {network.device} of network {network.name} is gone"
        raise NotFound(sentence, object=network.device, hint="`dnet reconcile` makes it again")
    switch_mac = _switch_mac(context, network, interface)
    link = uplink_snapshot.check(report, interface, bridge, is_wireless=context.kernel.is_wireless(interface))
    _check_hooks(context, network, link)
    return uplink_snapshot.take(
        report,
        link,
        bridge,
        sysctls=context.kernel.sysctls.of_device(interface, uplink_snapshot.SYSCTLS),
        bridge_sysctls=context.kernel.sysctls.of_device(bridge.name, uplink_snapshot.SYSCTLS),
        spare=link_local(network.gateway6) if network.owns_device and network.gateway6 else None,
        # One interface's neighbours know the bridge by its address already.
        takes_mac=not [item for item in network.uplinks if item.interface != interface],
        boot=context.kernel.boot_id(),
        switch_mac=switch_mac,
        merging=_receive_offloads(context, bridge, interface) if switch_mac is not None else 0,
    )


def _receive_offloads(context: Context, bridge: ObservedLink, interface: str) -> int:
    """Return the receive offloads of an interface; 0 where Open vSwitch takes the long frames that they make."""
    return 0 if context.kernel.has_offloads(bridge.name) else context.kernel.receive_offloads(interface)


def _switch_mac(context: Context, network: Network, interface: str) -> str | None:
    """Return the MAC address that Open vSwitch is told to give a bridge; None where that is a Linux bridge.

    Raises when the interface is a port there already, unless dnet has made it one.
    """
    if not DRIVERS[network.driver].needs_switch:
        _check_not_switched(context, interface)
        return None
    switch = context.switches.open()
    switch.prepare()
    bridge, owner = switch.holder(interface) or (network.device, network.id)
    if bridge != network.device:
        raise _in_use(interface, bridge)
    if owner != network.id:
        hint = "containers of the network are on its LAN as it is"
        sentence = f"{interface} cannot be adopted: it is a port of {bridge} already"
        raise InvalidRequest(sentence, object=interface, hint=hint)
    seen = switch.bridge(network.device)
    return seen.mac if seen else ""


def _check_not_switched(context: Context, interface: str) -> None:
    """Raise when an Open vSwitch of this host has an interface as a port, which the kernel may not know of.

    One that does not answer forwards nothing from it either.
    """
    held = None
    if is_here():
        with suppress(OvsError, Unsupported):
            held = context.switches.open().holder(interface)
    if held:
        raise _in_use(interface, held[0])


def _check_hooks(context: Context, network: Network, link: ObservedLink) -> None:
    """Raise Conflict when somebody else has tc hooks where those that separate VLANs are to be."""
    if network.vlan_backend != "bpf":
        return
    own = (link.index, *ClsactHooks(link.name, link.index, "", network.device_index).blocks)
    if any(item[0] == link.index and item != own for item in context.kernel.look().clsact_hooks()):
        hint = f"remove them: tc qdisc del dev {link.name} clsact"
        sentence = f"{link.name} cannot be adopted: somebody else's tc hooks are there (a clsact or ingress qdisc)"
        raise Conflict(sentence, object=link.name, hint=hint)


def adopting(context: Context, network: Network, snapshot: Snapshot, vlans: PortVlans | None) -> tuple[Object, ...]:
    """Return the objects that make an interface a port of the network's bridge, in order."""
    mac = snapshot.interface.mac if snapshot.takes_mac else ""
    item = Uplink(interface=snapshot.interface.name, index=snapshot.interface.index, mac=mac, vlans=vlans)
    hooks = context.kernel.look().clsact_hooks() if network.vlan_backend == "bpf" else set()
    # Hooks outlive a bridge that somebody has deleted.
    port = [part for part in desired.uplink(network, item) if not _is_present(part, hooks)]
    return uplink.adopting(snapshot, port)


def is_in_place(context: Context, network: Network, interface: str) -> bool:
    """Whether an interface is a port of the network's bridge."""
    if DRIVERS[network.driver].needs_switch:
        return _is_switched(context, network, interface)
    masters = context.kernel.look().masters()
    return masters.get(context.kernel.device_index(interface) or 0) == network.device_index


def _is_switched(context: Context, network: Network, interface: str) -> bool:
    """Whether Open vSwitch has an interface as a port of dnet's, and nobody has configured it anew.

    The database outlives a reboot, and the interface.
    """
    adopted, index = context.store.adoptions.get(interface), context.kernel.device_index(interface)
    if not index or not adopted:
        return False
    snapshot = uplink_snapshot.read(adopted.snapshot)
    is_as_it_was = (snapshot.boot, snapshot.interface.index) == (context.kernel.boot_id(), index)
    return is_as_it_was and context.switches.open().holder(interface) == (network.device, network.id)


def with_placed_uplinks(context: Context, network: Network) -> Network:
    """Return a network without those uplinks that are not ports of its bridge."""
    return replace(network, uplinks=tuple(item for item in network.uplinks if is_in_place(context, network, str(item))))


def missing_adoptions(context: Context) -> list[tuple[Adoption, Network]]:
    """Return the stored adoptions that are not in place, with their networks.

    Those on an Open vSwitch that cannot be asked are left out.
    """
    networks = context.store.networks.by_id()
    missing = []
    for item in context.store.adoptions.all():
        with suppress(OvsError):
            if item.phase == "ready" and not is_in_place(context, networks[item.network_id], item.interface):
                missing.append((item, networks[item.network_id]))
    return missing


def removal_of(context: Context, adopted: Adoption) -> tuple[Object, ...]:
    """Return the objects that give an interface back, in order, without what a reboot has done already."""
    snapshot = uplink_snapshot.now(uplink_snapshot.read(adopted.snapshot), context.kernel.look().report())
    network = _network_of(context, adopted)
    port = _present(context, network, adopted.interface)
    if snapshot.boot != context.kernel.boot_id() and not is_in_place(context, network, adopted.interface):
        return tuple(item for item in uplink.parting(snapshot, port) if item.backend == "ovs")
    return uplink.releasing(snapshot, port)


def _present(context: Context, network: Network, interface: str) -> Group:
    """Return the objects that make an adopted interface a port, without missing tc hooks."""
    port = [part for item in network.uplinks if str(item) == interface for part in desired.uplink(network, item)]
    hooks = context.kernel.look().clsact_hooks() if any(isinstance(part, ClsactHooks) for part in port) else set()
    return [part for part in port if not isinstance(part, ClsactHooks) or _is_present(part, hooks)]


def adopt_interface(
    context: Context, network: Network, snapshot: Snapshot, vlans: PortVlans | None, phase: str, owner: str
) -> None:
    """Make an interface a port of a network's bridge, all or nothing, and store that in `phase`."""
    row = Adoption(snapshot.interface.name, network.id, uplink_snapshot.text(snapshot), "creating", owner, vlans)
    _put(context, row, is_intent=True)
    _move(context, row, snapshot, lambda: _forget(context, row))
    _put(context, replace(row, phase=phase, owner="" if phase == "ready" else owner))
    _advise(context, network, snapshot)


def restore_adoption(context: Context, adopted: Adoption, network: Network, owner: str) -> None:
    """Make an adopted interface a port again, all or nothing; its state of now replaces the stored one."""
    older = uplink_snapshot.read(adopted.snapshot)
    with suppress(DnetError):  # what cannot be put back now is moved with the interface, as in `older`
        put_back(context, removal_of(context, adopted))
    snapshot = replace(take_snapshot(context, network, adopted.interface), takes_mac=older.takes_mac)
    if snapshot.boot == older.boot:
        snapshot = uplink_snapshot.merged(snapshot, older)
    row = replace(adopted, snapshot=uplink_snapshot.text(snapshot), phase="restoring", owner=owner)
    _put(context, row, is_intent=True)
    _move(context, row, snapshot, lambda: _put(context, adopted))
    _put(context, replace(row, phase="ready", owner=""))


def _move(context: Context, row: Adoption, snapshot: Snapshot, afterwards: Callable[[], None]) -> None:
    after = _network_of(context, row)
    before = _without(after, row.interface)
    [item] = [item for item in after.uplinks if item not in before.uplinks]

    def back() -> None:
        port = _present(context, after, row.interface)
        _take_back(context, after, before, uplink.releasing(snapshot, port, is_rollback=True))

    with reverting(back, afterwards):
        _change_rules(context, before, after)
        make_on_host(context, adopting(context, after, snapshot, item.vlans))
        change_rules(context, desired.uplink_rules(before), desired.uplink_rules(after))


def set_uplink_vlans(context: Context, adopted: Adoption, vlans: PortVlans) -> None:
    """Change the VLANs of an adopted interface, all or nothing; in one step where the bridge can."""
    network = _network_of(context, adopted)
    [item] = [item for item in network.uplinks if str(item) == adopted.interface]
    before, after = desired.uplink(network, item), desired.uplink(network, replace(item, vlans=vlans))
    _put(context, replace(adopted, vlans=vlans))
    with reverting(lambda: change_groups(context, [after], [before], is_undoing=True), lambda: _put(context, adopted)):
        change_groups(context, [before], [after])


def give_back(context: Context, adopted: Adoption) -> None:
    """Restore the state from before an interface was adopted, and forget the adoption.

    When the interface is back and only some of its configuration is not, that is a notice; otherwise it is raised.
    """
    try:
        _undo(context, adopted)
    except DnetError as error:
        if is_in_place(context, _network_of(context, adopted), adopted.interface):
            raise
        context.notice(f"interface {adopted.interface} is given back, but not all of it: {error}")
    _forget(context, adopted)


def undo_abandoned(context: Context, abandoned: Sequence[Adoption]) -> None:
    """Undo adoptions left unfinished by a process that died; one that it was restoring stays on record."""
    for item in abandoned:
        _undo(context, item)
        if item.phase == "restoring":
            with context.store.write():
                context.store.adoptions.move(item.interface, ["restoring"], "ready")
        else:
            _forget(context, item)
            context.notice(f"gave back interface {item.interface}, left half adopted by a killed process")


def _undo(context: Context, adopted: Adoption) -> None:
    network = _network_of(context, adopted)
    _take_back(context, network, _without(network, adopted.interface), removal_of(context, adopted))


def _take_back(context: Context, network: Network, left: Network, items: Group) -> None:
    """Put an interface back, and then, also after a failure, change the rules to those of the network without it."""
    failure: DnetError | None = None
    change_rules(context, desired.uplink_rules(network), desired.uplink_rules(left))
    try:
        put_back(context, items)
    except DnetError as error:
        failure = error
    _change_rules(context, network, left)
    if failure:
        raise failure


def _network_of(context: Context, adopted: Adoption) -> Network:
    return context.store.networks.by_id()[adopted.network_id]


def _put(context: Context, adopted: Adoption, *, is_intent: bool = False) -> None:
    with context.store.write(is_intent=is_intent):
        context.store.adoptions.put(adopted)


def _forget(context: Context, adopted: Adoption) -> None:
    with context.store.write():
        context.store.adoptions.delete(adopted.interface)


def _change_rules(context: Context, before: Network, after: Network) -> None:
    """Update the table for a network and its containers, those being created included."""
    change_rules(context, *([*_rules(context, network)] for network in (before, after)))


def _rules(context: Context, network: Network) -> list[Object]:
    known = context.store.networks.by_id() | {network.id: network}
    rules = list(nat_table.network_objects(network))
    for item in context.store.containers.on_network(network.id):
        rules += nat_table.container_objects(item, known)
    return [rule for rule in rules if rule.backend == "nft"]


def _advise(context: Context, network: Network, snapshot: Snapshot) -> None:
    """Tell the user what may need attention: a smaller MTU, and addresses that end."""
    name, size = snapshot.interface.name, snapshot.interface.mtu
    if (network.mtu or snapshot.bridge.mtu) > size:
        context.notice(
            f"{name} passes frames of {size} bytes only, and containers on network {network.name} send larger "
            f"ones; make the network with --mtu {size}"
        )
    for item in snapshot.addresses:
        if item.interface.version == 4 and item.lifetime_s is not None:
            context.notice(
                f"address {item.interface} ends in {item.lifetime_s} s; what renews it on {name} has to do so on "
                f"{network.device}"
            )


def _without(network: Network, interface: str) -> Network:
    return replace(network, uplinks=tuple(item for item in network.uplinks if str(item) != interface))


def _in_use(interface: str, bridge: str) -> Conflict:
    hint = f"take it out first: ovs-vsctl del-port {bridge} {interface}"
    return Conflict(f"{interface} is in use by {bridge}, as a port of it", object=interface, hint=hint)


def _is_present(item: Object, hooks: set[tuple[int, int, int]]) -> bool:
    return isinstance(item, ClsactHooks) and (item.index, *item.blocks) in hooks
