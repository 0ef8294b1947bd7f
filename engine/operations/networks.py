"""Creating and removing networks, and giving them interfaces of the host's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dnet.drivers import desired, uplink_snapshot
from dnet.drivers.existing_bridge import Taken
from dnet.drivers.uplink_snapshot import Snapshot
from dnet.errors import Conflict, DnetError, InvalidRequest, KernelRefused, NotFound
from dnet.linux.threads import Background
from dnet.model.network import Network
from dnet.model.network_spec import NetworkSpec
from dnet.model.parse import check_interface
from dnet.model.record import Adoption
from dnet.model.values import replace
from dnet.model.vlan import PortVlans
from dnet.objects.object import Object
from dnet.operations.trial import Watchdog
from dnet.state import rows
from dnet.transaction import firewalls, reserve_network
from dnet.transaction.context import Writer

MEMBERS_SHOWN = 3


class Networks:
    """Changes of networks."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._store = writer.store

    def create(self, spec: NetworkSpec) -> Network:
        """Create a network."""
        writer = self._writer
        writer.prepare()
        with self._store.network_lock():
            if spec.driver == "ovs":  # what was left behind may have the bridge's name
                writer.switches.collect()
            busy, taken = reserve_network.busy_subnets(writer.kernel), self._taken(spec)
            owner = self._store.new_owner()
            with writer.undoing(owner) as groups:
                with self._store.write(is_intent=True):
                    is_first = not self._store.has_other_networks()
                    network = reserve_network.network(self._store, writer.kernel, spec, busy, owner, taken)
                groups.append(desired.network(network, is_first=is_first))
                writer.applier.create(groups)
                with self._store.write():
                    self._store.set_ready("network", [network.id])
            writer.rules.make_way(is_thorough=True)
        writer.kernel.keep_switches()
        if network.owns_device and network.found:
            writer.notice(
                f"the gateway of network {network.name} is an address of this host's: containers and the subnet meet "
                f"when its interface is adopted: dnet network adopt {network.name} INTERFACE"
            )
        return network

    def _taken(self, spec: NetworkSpec) -> Taken | None:
        """Look what the network finds, where its driver has it look."""
        reserve_network.check_driver(spec)
        return self._writer.switches.take(spec) if spec.driver == "ovs" else None

    def plan(self, spec: NetworkSpec) -> list[Object]:
        """Return what creating the network would create, touching nothing."""
        busy, taken = reserve_network.busy_subnets(self._writer.kernel), self._taken(spec)
        with self._store.write(is_dry_run=True):
            is_first = not self._store.has_other_networks()
            network = reserve_network.network(self._store, self._writer.kernel, spec, busy, "", taken)
        return list(desired.network(network, is_first=is_first))

    def delete(self, references: Sequence[str], *, is_forced: bool = False) -> list[Network]:
        """Remove networks that no container is on; see Engine.delete_networks."""
        self._writer.prepare()
        with self._store.network_lock():
            if not is_forced and any(self._store.network(name).driver == "ovs" for name in references):
                self._writer.switches.check_within_reach()
            with self._store.write(is_intent=True):
                found = [name for name in references if not is_forced or self._store.find_networks(name)]
                networks = list({net.id: net for net in map(self._store.network, found)}.values())
                for network in networks:
                    self._check_unused(network)
                self._store.set_deleting("network", [network.id for network in networks], self._store.new_owner())
            self._writer.remove_networks(networks, is_forced=is_forced)
        return networks

    def _check_unused(self, network: Network) -> None:
        members = self._store.member_names(network.id)
        if members:
            some = ", ".join(members[:MEMBERS_SHOWN]) + (", ..." if len(members) > MEMBERS_SHOWN else "")
            raise Conflict(
                f"network {network.name} is in use by {len(members)} containers ({some})",
                object=network.name,
                hint="remove the containers first",
            )

    def prune(self, *, is_forced: bool = False) -> list[Network]:
        """Remove every network that no container is on, and no interface of the host's."""
        self._writer.prepare()
        unused = [
            network.name
            for network in self._store.networks()
            if not network.uplinks and not self._store.member_names(network.id)
        ]
        return self.delete(unused, is_forced=is_forced)

    # Interfaces of the host's

    def plan_adoption(self, reference: str, interface: str, vlans: PortVlans | None) -> list[Object]:
        """Return what adopting an interface would send, in order, touching nothing."""
        network, known = self._looked_up(reference, interface, vlans)
        adoptions = self._writer.adoptions
        if known and adoptions.is_in_place(network, interface):
            [item] = [item for item in network.uplinks if str(item) == interface]
            old, new = (
                desired.uplink(network, replace(item, vlans=those)) for those in (item.vlans, vlans or item.vlans)
            )
            return [part for part in new if part not in old]
        return list(adoptions.adopting(network, self._snapshot(network, interface), vlans))

    def plan_release(self, reference: str, interface: str) -> list[Object]:
        """Return what giving an interface back would send, in order, touching nothing."""
        return list(self._writer.adoptions.removal(self._adopted(reference, interface)[1]))

    def adopt(
        self,
        reference: str,
        interface: str,
        vlans: PortVlans | None,
        *,
        is_sure: bool,
        ask: Callable[[str], bool] | None,
        trial: tuple[Sequence[str], float, Callable[[float], bool]] | None,
    ) -> Network:
        """Make an interface a port of a network's bridge; see Engine.adopt.

        `trial` is where state and pins are, how many seconds to wait, and what tells whether all is well.
        """
        self._writer.prepare()
        network, known = self._looked_up(reference, interface, vlans)
        if known and known.phase == "trial":  # whoever asks again confirms it
            self._confirm(interface)
            return self._store.network(network.id)
        if known and self._writer.adoptions.is_in_place(network, interface):
            if vlans and trial:
                hint = "give it back first, or use --yes"
                raise InvalidRequest(
                    f"interface {interface} is adopted, and its VLANs are not tried", object=interface, hint=hint
                )
            if vlans and not is_sure:
                self._check_wanted(network, uplink_snapshot.read(known.snapshot), vlans, ask)
            return self._with_vlans(network, known, vlans)
        self._writer.mend_networks([network.name], with_advice=False)
        network = self._store.network(network.id)
        snapshot = self._snapshot(network, interface)
        if not (is_sure or trial):
            self._check_wanted(network, snapshot, vlans, ask)
        self._warn(network, snapshot)
        if trial is None:
            self._adopt(network, interface, known, vlans, "ready")
            return self._store.network(network.id)
        directories, timeout_s, confirm = trial
        dog = Watchdog([*directories, interface, str(timeout_s)])
        try:
            self._adopt(network, interface, known, vlans, "trial")
            is_confirmed = confirm(timeout_s) and self._confirm(interface)
        except BaseException as error:
            _take_back(dog, error)
            raise
        found = self._store.adoption(interface)
        if is_confirmed or (found and found.phase == "ready"):
            dog.stand_down()
        else:
            said = _take_back(dog)
            if said:
                raise KernelRefused(f"give {interface} back", 0, said)
        return self._store.network(network.id)

    def _with_vlans(self, network: Network, known: Adoption, vlans: PortVlans | None) -> Network:
        """Give an adopted interface the VLANs that are asked for, if any are."""
        if vlans is None:
            return network
        with self._store.network_lock():
            now = self._store.adoption(known.interface)
            if now is None or (now.network_id, now.phase) != (network.id, "ready"):
                sentence = f"interface {known.interface} has been given back meanwhile"
                raise NotFound(sentence, object=known.interface)
            self._writer.adoptions.set_vlans(now, vlans)
        return self._store.network(network.id)

    def _adopt(
        self, network: Network, interface: str, known: Adoption | None, vlans: PortVlans | None, phase: str
    ) -> None:
        adoptions, owner = self._writer.adoptions, self._store.new_owner()
        with self._store.network_lock():
            known = self._looked_up(network.id, interface, vlans)[1]  # another process may have adopted it meanwhile
            if adoptions.is_in_place(network, interface) and known:
                return  # another process has done it meanwhile
            if known and phase == "ready":
                adoptions.restore(replace(known, vlans=rows.vlans_text(vlans) or known.vlans), network, owner)
            else:
                adoptions.adopt(network, self._snapshot(network, interface), vlans, phase, owner)
        self._writer.rules.make_way(is_thorough=False)

    def _confirm(self, interface: str) -> bool:
        """Keep an interface that is on trial; return whether it still was."""
        with self._store.write():
            return self._store.move_adoption(interface, ["trial"], "ready")

    def _looked_up(
        self, reference: str, interface: str, vlans: PortVlans | None = None
    ) -> tuple[Network, Adoption | None]:
        """Return the network, and what is on record of the interface; raise when another network has that."""
        check_interface(interface)
        network = self._store.network(reference)
        if vlans and not network.vlan:
            hint = "leave the VLANs out, or make the network with --vlan"
            sentence = f"network {network.name} keeps no VLANs apart, so that {interface} cannot be in any"
            raise InvalidRequest(sentence, object=network.name, hint=hint)
        known = self._store.adoption(interface)
        if known and known.network_id != network.id:
            holder = self._store.networks_by_id()[known.network_id].name
            hint = f"give it back first: dnet network adopt --undo {holder} {interface}"
            raise Conflict(f"interface {interface} is adopted by network {holder}", object=interface, hint=hint)
        return network, known

    def _snapshot(self, network: Network, interface: str) -> Snapshot:
        if network.internal:
            hint = "make the network without --internal"
            sentence = f"network {network.name} is internal, and {interface} would be its way out"
            raise InvalidRequest(sentence, object=network.name, hint=hint)
        return self._writer.adoptions.snapshot(network, interface)

    def _check_wanted(
        self, network: Network, snapshot: Snapshot, vlans: PortVlans | None, ask: Callable[[str], bool] | None
    ) -> None:
        """Raise unless somebody wants it, when this host may become unreachable by it."""
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

    def _warn(self, network: Network, snapshot: Snapshot) -> None:
        interface, delay_s = snapshot.interface.name, snapshot.bridge.forward_delay_s
        if delay_s:
            self._writer.notice(
                f"bridge {network.device} runs the spanning tree protocol, so that {interface} passes nothing for "
                f"{delay_s:g} s"
            )
        for chain in firewalls.naming(self._writer.nft, interface):
            self._writer.notice(
                f"chain {chain} has rules for {interface}, which traffic does not come in by any more, but by "
                f"{network.device}"
            )

    def release(self, reference: str, interface: str) -> Network:
        """Give an interface back; see Engine.release."""
        self._writer.prepare()
        network, adopted = self._adopted(reference, interface)
        self._give_back(adopted, ("creating", "trial", "ready"))
        return replace(network, uplinks=tuple(item for item in network.uplinks if str(item) != interface))

    def release_unconfirmed(self, interface: str) -> None:
        """Give an interface back unless somebody has confirmed that it shall stay."""
        self._writer.prepare()
        adopted = self._store.adoption(interface)
        if adopted:
            self._give_back(adopted, ("creating", "trial"))

    def _adopted(self, reference: str, interface: str) -> tuple[Network, Adoption]:
        network, adopted = self._looked_up(reference, interface)
        if adopted is None:
            raise NotFound(f"network {network.name} has not adopted interface {interface}", object=interface)
        return network, adopted

    def _give_back(self, adopted: Adoption, phases: Sequence[str]) -> None:
        with self._store.network_lock():
            with self._store.write(is_intent=True):
                is_ours = self._store.move_adoption(adopted.interface, phases, "deleting", self._store.new_owner())
            if is_ours:
                self._writer.adoptions.give_back(adopted)

    def missing_uplinks(self) -> list[str]:
        """Return the adopted interfaces that are not on their bridge, as phrases."""
        return [f"interface {item.interface} on network {net.name}" for item, net in self._writer.adoptions.missing()]

    def restore_uplinks(self) -> list[tuple[str, DnetError | None]]:
        """Make adopted interfaces ports of their bridges again, as after a reboot; return each with its error or None.

        What each of them is on the network is taken from how it is now, since the system has configured it anew.
        """
        found: list[tuple[str, DnetError | None]] = []
        with self._store.network_lock():
            for adopted, network in self._writer.adoptions.missing():
                what = f"interface {adopted.interface} on network {network.name}"
                try:
                    self._writer.adoptions.restore(adopted, network, self._store.new_owner())
                except DnetError as error:
                    found.append((what, error))
                else:
                    found.append((what, None))
        return found


def _take_back(dog: Watchdog, cause: BaseException | None = None) -> str:
    """Have everything taken back, whatever interrupts; return, or note on the cause, what went wrong in that."""
    background = Background(dog.act)
    try:
        background.start()
    finally:
        background.wait_uninterrupted()
    said = background.result()
    if said and cause:
        cause.add_note(f"and while undoing it: {said}")
    return said
