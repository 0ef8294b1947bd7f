"""Interfaces of the host's that are ports of a network's bridge: made so, given back, made so again. Rank 6, IO.

What was there before is on record before anything is touched, so that whoever comes later can give it back, however
far the adopting came. All of it happens under the lock of the networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from dnet import nat, snapshots, uplink
from dnet.errors import DnetError, NotFound
from dnet.interfaces import link_local
from dnet.kernel import Kernel
from dnet.model import Network
from dnet.objects import Object
from dnet.rows import Adoption
from dnet.snapshots import Snapshot
from dnet.store import Store


class Changer(Protocol):
    """What an Applier does for adoptions."""

    def change_rules(self, before: Sequence[Object], after: Sequence[Object]) -> None:
        """Delete the nftables objects that only `before` has and create those of `after`."""

    def undo_change(self, cause: BaseException, back: Callable[[], None], afterwards: Callable[[], None]) -> None:
        """Take back a failed change, whatever interrupts, then call `afterwards`."""


class Adoptions:
    """The host's interfaces in the hands of dnet."""

    def __init__(self, store: Store, kernel: Kernel, changer: Changer, on_notice: Callable[[str], None]) -> None:
        self._store = store
        self._kernel = kernel
        self._changer = changer
        self._notice = on_notice

    # Looking

    def snapshot(self, network: Network, interface: str) -> Snapshot:
        """Return an interface and the network's bridge as they are; raise when it cannot become a port."""
        report = self._kernel.report()
        bridge = report.link(network.device)
        if bridge is None:
            sentence = f"bridge {network.device} of network {network.name} is gone"
            raise NotFound(sentence, object=network.device, hint="`dnet reconcile` makes it again")
        link = snapshots.check(report, interface, bridge, is_wireless=self._kernel.is_wireless(interface))
        return snapshots.take(
            report,
            link,
            bridge,
            sysctls=self._kernel.sysctls(interface, snapshots.SYSCTLS),
            bridge_sysctls=self._kernel.sysctls(bridge.name, snapshots.SYSCTLS),
            spare=link_local(network.gateway6) if network.owns_device and network.gateway6 else None,
            # One interface's neighbours know the bridge by its address already.
            takes_mac=not [name for name in network.uplinks if name != interface],
            boot=self._kernel.boot_id(),
        )

    def is_in_place(self, network: Network, interface: str) -> bool:
        """Whether an interface is a port of the network's bridge."""
        masters = self._kernel.masters()
        return masters.get(self._kernel.device_index(interface) or 0) == network.device_index

    def missing(self) -> list[tuple[Adoption, Network]]:
        """Return the adoptions that are on record and not in place, with their networks."""
        networks = self._store.networks_by_id()
        found = [(item, networks[item.network_id]) for item in self._store.adoptions() if item.phase == "ready"]
        return [(item, network) for item, network in found if not self.is_in_place(network, item.interface)]

    def removal(self, adopted: Adoption) -> tuple[Object, ...]:
        """Return what gives an interface back, in order; nothing when a reboot has done that."""
        snapshot = snapshots.now(snapshots.read(adopted.snapshot), self._kernel.report())
        network = self._store.networks_by_id()[adopted.network_id]
        if snapshot.boot != self._kernel.boot_id() and not self.is_in_place(network, adopted.interface):
            return ()
        return uplink.releasing(snapshot)

    # Changing

    def adopt(self, network: Network, snapshot: Snapshot, phase: str, owner: str) -> None:
        """Make an interface a port of a network's bridge, whole or not at all, and leave it in `phase`."""
        row = Adoption(snapshot.interface.name, network.id, snapshots.text(snapshot), "creating", owner)
        with self._store.write(is_intent=True):
            self._store.put_adoption(row)
        self._move(network, snapshot, lambda: self._forget(row))
        with self._store.write():
            self._store.put_adoption(row._replace(phase=phase, owner="" if phase == "ready" else owner))
        self._advise(network, snapshot)

    def restore(self, adopted: Adoption, network: Network, owner: str) -> None:
        """Make an interface that is on record a port again, from what it is now; what it was is then that."""
        older = snapshots.read(adopted.snapshot)
        snapshot = self.snapshot(network, adopted.interface)
        if snapshot.boot == older.boot:
            snapshot = snapshots.merged(snapshot, older)
        row = adopted._replace(snapshot=snapshots.text(snapshot), phase="restoring", owner=owner)

        def keep() -> None:
            with self._store.write():
                self._store.put_adoption(adopted)

        with self._store.write(is_intent=True):
            self._store.put_adoption(row)
        self._move(network, snapshot, keep)
        with self._store.write():
            self._store.put_adoption(row._replace(phase="ready", owner=""))

    def _move(self, network: Network, snapshot: Snapshot, afterwards: Callable[[], None]) -> None:
        names = {*network.uplinks, snapshot.interface.name}
        before = replace(network, uplinks=tuple(sorted(names - {snapshot.interface.name})))
        after = replace(network, uplinks=tuple(sorted(names)))

        def back() -> None:
            self._kernel.put_back(uplink.releasing(snapshot, is_rollback=True))
            self._change_rules(after, before)

        try:
            self._change_rules(before, after)
            for error in self._kernel.create([uplink.adopting(snapshot)]):
                if error:
                    raise error
        except BaseException as error:
            self._changer.undo_change(error, back, afterwards)
            raise

    def give_back(self, adopted: Adoption) -> None:
        """Make everything as it was before an interface was adopted, and forget it.

        When the interface is back and only something of its own is not, that is said, and it is forgotten as well.
        """
        try:
            self._undo(adopted)
        except DnetError as error:
            if self.is_in_place(self._store.networks_by_id()[adopted.network_id], adopted.interface):
                raise
            self._notice(f"interface {adopted.interface} is given back, but not all of it: {error}")
        self._forget(adopted)

    def clear_up(self, abandoned: Sequence[Adoption]) -> None:
        """Undo what processes that are gone left half done; what was on record before stays there."""
        for item in abandoned:
            self._undo(item)
            if item.phase == "restoring":
                with self._store.write():
                    self._store.move_adoption(item.interface, ["restoring"], "ready")
            else:
                self._forget(item)
                self._notice(f"gave back interface {item.interface}, left half adopted by a killed process")

    def _undo(self, adopted: Adoption) -> None:
        network = self._store.networks_by_id()[adopted.network_id]
        items = self.removal(adopted)
        failure: DnetError | None = None
        try:
            self._kernel.put_back(items)
        except DnetError as error:
            failure = error  # the rest is done all the same
        left = replace(network, uplinks=tuple(name for name in network.uplinks if name != adopted.interface))
        self._change_rules(network, left)
        if failure:
            raise failure

    def _forget(self, adopted: Adoption) -> None:
        with self._store.write():
            self._store.delete_adoption(adopted.interface)

    def _change_rules(self, before: Network, after: Network) -> None:
        """Bring the table in step; containers that are just being made are on record already."""
        self._changer.change_rules(*([*self._rules(network)] for network in (before, after)))

    def _rules(self, network: Network) -> list[Object]:
        known = self._store.networks_by_id() | {network.id: network}
        rules = list(nat.network_objects(network))
        for item in self._store.containers_on(network.id):
            rules += nat.container_objects(item, known)
        return [rule for rule in rules if rule.backend == "nft"]

    def _advise(self, network: Network, snapshot: Snapshot) -> None:
        """Say what the interface's user may have to see to."""
        name, size = snapshot.interface.name, snapshot.interface.mtu
        if (network.mtu or snapshot.bridge.mtu) > size:
            self._notice(
                f"{name} passes frames of {size} bytes only, and containers on network {network.name} send larger "
                f"ones; make the network with --mtu {size}"
            )
        for item in snapshot.addresses:
            if item.interface.version == 4 and item.lifetime_s is not None:  # noqa: PLR2004
                self._notice(
                    f"address {item.interface} ends in {item.lifetime_s} s; what renews it on {name} has to do so on "
                    f"{network.device}"
                )
