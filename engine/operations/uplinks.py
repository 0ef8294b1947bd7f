"""Host interfaces that become ports of a network, and are given back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dnet.drivers import desired, uplink_snapshot
from dnet.drivers.uplink_snapshot import Snapshot
from dnet.errors import Conflict, DnetError, InvalidRequest, KernelRefused, NotFound
from dnet.model.network import Network
from dnet.model.parse import check_interface
from dnet.model.record import Adoption
from dnet.model.values import replace
from dnet.model.vlan import PortVlans
from dnet.objects.object import Object
from dnet.operations.trial import Trial
from dnet.transaction import firewalls, uplinks
from dnet.transaction.context import Context
from dnet.transaction.networks import repair_networks
from dnet.transaction.recovery import prepare


def plan_adoption(context: Context, reference: str, interface: str, vlans: PortVlans | None) -> list[Object]:
    """Return the objects that `adopt` would create, in order. Nothing is changed."""
    network, known = _looked_up(context, reference, interface, vlans)
    if known and uplinks.is_in_place(context, network, interface):
        [item] = [item for item in network.uplinks if str(item) == interface]
        old, new = (desired.uplink(network, replace(item, vlans=those)) for those in (item.vlans, vlans or item.vlans))
        return [part for part in new if part not in old]
    return list(uplinks.adopting(context, network, _snapshot(context, network, interface), vlans))


def plan_release(context: Context, reference: str, interface: str) -> list[Object]:
    """Return the objects that `release` would create, in order. Nothing is changed."""
    return list(uplinks.removal_of(context, _adopted(context, reference, interface)[1]))


def adopt(
    context: Context,
    reference: str,
    interface: str,
    vlans: PortVlans | None,
    *,
    assume_yes: bool,
    ask: Callable[[str], bool] | None,
    trial: tuple[Sequence[str], float, Callable[[float], bool]] | None,
) -> Network:
    """Make an interface a port of a network's bridge.

    `trial` is the directories of state and of pins, the seconds to wait for confirmation, and a function that waits so
    long and returns whether the user has confirmed.
    """
    prepare(context)
    network, known = _looked_up(context, reference, interface, vlans)
    if known and known.phase == "trial":  # whoever asks again confirms it
        _confirm(context, interface)
        return context.store.networks.get(network.id)
    if known and uplinks.is_in_place(context, network, interface):
        if vlans and trial:
            hint = "give it back first, or use --yes"
            raise InvalidRequest(
                f"interface {interface} is adopted, and its VLANs are not tried", object=interface, hint=hint
            )
        if vlans and not assume_yes:
            _check_wanted(network, uplink_snapshot.read(known.snapshot), vlans, ask)
        return _with_vlans(context, network, known, vlans)
    repair_networks(context, [network.name], with_advice=False)
    network = context.store.networks.get(network.id)
    snapshot = _snapshot(context, network, interface)
    if not (assume_yes or trial):
        _check_wanted(network, snapshot, vlans, ask)
    _warn(context, network, snapshot)
    if trial is None:
        _adopt(context, network, interface, known, vlans, "ready")
        return context.store.networks.get(network.id)
    directories, timeout_s, confirm = trial
    running = Trial([*directories, interface, str(timeout_s)])
    try:
        _adopt(context, network, interface, known, vlans, "trial")
        is_confirmed = confirm(timeout_s) and _confirm(context, interface)
    except BaseException as error:
        running.revert(error)
        raise
    adopted = context.store.adoptions.get(interface)
    if is_confirmed or (adopted and adopted.phase == "ready"):
        running.confirm()
    else:
        problem = running.revert()
        if problem:
            raise KernelRefused(f"give {interface} back", 0, problem)
    return context.store.networks.get(network.id)


def _with_vlans(context: Context, network: Network, known: Adoption, vlans: PortVlans | None) -> Network:
    """Change the VLANs of an adopted interface, unless None is asked for."""
    if vlans is None:
        return network
    with context.store.network_lock():
        now = context.store.adoptions.get(known.interface)
        if now is None or (now.network_id, now.phase) != (network.id, "ready"):
            sentence = f"interface {known.interface} has been given back meanwhile"
            raise NotFound(sentence, object=known.interface)
        uplinks.set_uplink_vlans(context, now, vlans)
    return context.store.networks.get(network.id)


def _adopt(
    context: Context, network: Network, interface: str, known: Adoption | None, vlans: PortVlans | None, phase: str
) -> None:
    owner = context.store.new_owner()
    with context.store.network_lock():
        known = _looked_up(context, network.id, interface, vlans)[1]  # another process may have adopted it meanwhile
        if uplinks.is_in_place(context, network, interface) and known:
            return  # another process has done it meanwhile
        if known and phase == "ready":
            uplinks.restore_adoption(context, replace(known, vlans=vlans or known.vlans), network, owner)
        else:
            uplinks.adopt_interface(context, network, _snapshot(context, network, interface), vlans, phase, owner)
    context.ruleset.let_through(is_thorough=False)


def _confirm(context: Context, interface: str) -> bool:
    """Keep an interface that is on trial; return whether it still was."""
    with context.store.write():
        return context.store.adoptions.move(interface, ["trial"], "ready")


def _looked_up(
    context: Context, reference: str, interface: str, vlans: PortVlans | None = None
) -> tuple[Network, Adoption | None]:
    """Return the network and the record of the interface's adoption; raise when another network has adopted it."""
    check_interface(interface)
    network = context.store.networks.get(reference)
    if vlans and not network.vlan:
        hint = "leave the VLANs out, or make the network with --vlan"
        sentence = f"network {network.name} keeps no VLANs apart, so that {interface} cannot be in any"
        raise InvalidRequest(sentence, object=network.name, hint=hint)
    known = context.store.adoptions.get(interface)
    if known and known.network_id != network.id:
        holder = context.store.networks.by_id()[known.network_id].name
        hint = f"give it back first: dnet network adopt --undo {holder} {interface}"
        raise Conflict(f"interface {interface} is adopted by network {holder}", object=interface, hint=hint)
    return network, known


def _snapshot(context: Context, network: Network, interface: str) -> Snapshot:
    if network.internal:
        hint = "make the network without --internal"
        sentence = f"network {network.name} is internal, and {interface} would be its way out"
        raise InvalidRequest(sentence, object=network.name, hint=hint)
    return uplinks.take_snapshot(context, network, interface)


def _check_wanted(
    network: Network, snapshot: Snapshot, vlans: PortVlans | None, ask: Callable[[str], bool] | None
) -> None:
    """Ask when the adoption may make this host unreachable; raise when nobody can be asked, or the answer is no."""
    name, untagged = snapshot.interface.name, vlans.untagged if vlans else network.vlan
    if untagged != network.vlan and snapshot.has_addresses:
        place = f"in VLAN {untagged}" if untagged else "in no VLAN"
        why = f"untagged frames on {name} will be {place}, and this host's addresses in VLAN {network.vlan}"
    elif snapshot.carries_default:
        why = f"{name} carries the default route, and moving it may cut this host off"
    else:
        return
    if ask is None:
        hint = "--confirm 60 takes it back unless somebody presses Enter in time; --yes does it at once"
        raise InvalidRequest(why, object=name, hint=hint)
    if not ask(f"{why}. Move it?"):
        raise InvalidRequest(f"{name} stays as it is", object=name)


def _warn(context: Context, network: Network, snapshot: Snapshot) -> None:
    interface, delay_s = snapshot.interface.name, snapshot.bridge.forward_delay_s
    if delay_s:
        context.notice(
            f"bridge {network.device} runs the spanning tree protocol, so that {interface} passes nothing for "
            f"{delay_s:g} s"
        )
    for chain in firewalls.chains_naming(context.nft, interface):
        context.notice(
            f"chain {chain} has rules for {interface}, which traffic does not come in by any more, but by "
            f"{network.device}"
        )


def release(context: Context, reference: str, interface: str) -> Network:
    """Give an interface back."""
    prepare(context)
    network, adopted = _adopted(context, reference, interface)
    _give_back(context, adopted, ("creating", "trial", "ready"))
    return replace(network, uplinks=tuple(item for item in network.uplinks if str(item) != interface))


def release_unconfirmed(context: Context, interface: str) -> None:
    """Give an interface back unless somebody has confirmed that it shall stay."""
    prepare(context)
    adopted = context.store.adoptions.get(interface)
    if adopted:
        _give_back(context, adopted, ("creating", "trial"))


def _adopted(context: Context, reference: str, interface: str) -> tuple[Network, Adoption]:
    network, adopted = _looked_up(context, reference, interface)
    if adopted is None:
        raise NotFound(f"network {network.name} has not adopted interface {interface}", object=interface)
    return network, adopted


def _give_back(context: Context, adopted: Adoption, phases: Sequence[str]) -> None:
    with context.store.network_lock():
        with context.store.write(is_intent=True):
            is_ours = context.store.adoptions.move(adopted.interface, phases, "deleting", context.store.new_owner())
        if is_ours:
            uplinks.give_back(context, adopted)


def missing_uplinks(context: Context) -> list[str]:
    """Return the adopted interfaces that are not on their bridge, in words."""
    return [f"interface {item.interface} on network {net.name}" for item, net in uplinks.missing_adoptions(context)]


def restore_uplinks(context: Context) -> list[tuple[str, DnetError | None]]:
    """Make adopted interfaces ports of their bridges again, as after a reboot; return each with its error or None.

    What an interface is on the network is taken from its present state, because the system has configured it anew.
    """
    results: list[tuple[str, DnetError | None]] = []
    with context.store.network_lock():
        for adopted, network in uplinks.missing_adoptions(context):
            what = f"interface {adopted.interface} on network {network.name}"
            try:
                uplinks.restore_adoption(context, adopted, network, context.store.new_owner())
            except DnetError as error:
                results.append((what, error))
            else:
                results.append((what, None))
    return results
