"""Open vSwitch as an engine's networks use it: one connection, and what a network finds there.

Nothing of Open vSwitch is loaded, or talked to, before something of its is wanted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from dnet.drivers import existing_bridge
from dnet.drivers.desired import DRIVERS
from dnet.drivers.existing_bridge import FoundBridge
from dnet.errors import Conflict, DnetError, InvalidRequest
from dnet.linux.kernel import Kernel
from dnet.model.network import DATABASE, DATAPATH_TYPE, Network
from dnet.model.network_spec import NetworkSpec
from dnet.model.record import LeftBehind
from dnet.model.values import replace
from dnet.model.vlan import DEFAULT_VLAN
from dnet.objects.host import OnForeignDevice
from dnet.objects.links import Bridge
from dnet.objects.object import Object
from dnet.objects.observed import ObservedLink
from dnet.objects.openvswitch import OvsBridge, OvsPort
from dnet.objects.routes import Address
from dnet.openvswitch.remote import Remote, is_here, remote
from dnet.state.store import Store

if TYPE_CHECKING:
    from dnet.openvswitch.switch import OpenVSwitch, SeenBridge


# The options that say where the database is, by the names of remote's parameters.
CONNECTION = {
    DATABASE: "address",
    "ovsdb_private_key": "private_key",
    "ovsdb_certificate": "certificate",
    "ovsdb_ca_certificate": "ca_certificate",
}


class Switches:
    """The Open vSwitch of an engine; all of its networks of driver `ovs` are on one."""

    def __init__(self, store: Store, kernel: Kernel, switch: OpenVSwitch | None = None) -> None:
        """Talk to the one that the store's networks are on; `switch` is for tests."""
        self._store = store
        self._kernel = kernel
        self._switch = switch
        self._is_given = switch is not None

    def close(self) -> None:
        """Close the connection; a later call opens it again."""
        if self._switch is not None:
            self._switch.close()
            if not self._is_given:
                self._switch = None

    def open(self) -> OpenVSwitch:
        """Return the Open vSwitch that networks are on; it connects when it is first asked something."""
        if self._switch is None:
            self._connect_to(_remote(known.options if (known := self._network()) else {}))
        assert self._switch is not None  # noqa: S101  for the type checker
        return self._switch

    def _connect_to(self, where: Remote) -> None:
        if not self._is_given:
            self.close()
            self._switch = _connect(where)

    def has_bridge(self, link: ObservedLink) -> bool:
        """Whether a device of the host's is a bridge of Open vSwitch; for those of other kinds nothing is asked."""
        is_here = self._is_given or self.has_local_server()
        is_likely = link.kind == "openvswitch" or (link.kind == "tun" and (is_here or self._network()))
        return bool(is_likely) and self.open().bridge(link.name) is not None

    def has_local_server(self) -> bool:
        """Whether Open vSwitch seems to run on this system."""
        return is_here()

    # What goes while Open vSwitch cannot be reached

    def check_within_reach(self) -> None:
        """Raise when Open vSwitch cannot be asked to remove something, with what can be done nevertheless."""
        try:
            self.open().reach()
        except DnetError as error:
            remedy = "--force does without it, and `dnet reconcile` removes later what it still has"
            error.hint = "; ".join(filter(None, (error.hint, remedy)))
            raise

    def is_within_reach(self, groups: Sequence[Sequence[Object]]) -> bool:
        """Whether what groups have of Open vSwitch's, if anything, can be changed."""
        try:
            if _ours(groups):
                self.open().reach()
        except DnetError:
            return False
        return True

    def leave_behind(self, groups: Sequence[Sequence[Object]]) -> list[Sequence[Object]]:
        """Remember what groups have in Open vSwitch's database, for `collect`; return what they have elsewhere.

        Devices of bridges are in that as well, which are otherwise ovs-vswitchd's to remove.
        """
        known, ours = self._network(), _ours(groups)
        options = {key: known.options[key] for key in CONNECTION if known and key in known.options}
        with self._store.write():
            self._store.leave_behind(_left_behind(item, json.dumps(options)) for item in ours)
        bridges = {item.bridge for item in ours if isinstance(item, OvsBridge)}
        left = [item for group in groups for item in group if isinstance(item, Address) and item.device in bridges]
        return [*elsewhere(groups), [one for bridge in bridges for one in self._of_device(bridge, left)]]

    def _of_device(self, name: str, addresses: Sequence[Address]) -> Iterator[Object]:
        """Yield what can be deleted of a bridge's device: the device, or, if it is the kernel's datapath's, addresses.

        That has no other way to remove it than through Open vSwitch (ovs_vport_cmd_del).
        """
        link = self._kernel.link(name)
        if link and link.kind == "tun":
            yield Bridge(name, link.index, "", mac=link.mac, mtu=link.mtu)
        elif link:
            held = [replace(item, index=link.index) for item in addresses if item.device == name]
            yield from map(OnForeignDevice, held)

    def collect(self, *, dry_run: bool = False) -> list[tuple[str, DnetError | None]]:
        """Remove what was left behind, from the databases that can be reached again.

        Returns what that was, in words, each with the error where it could not be removed; a dry run only tells.
        """
        items, found = self._store.left_behind(), []
        for connection in sorted({item.connection for item in items}):
            found += self._collect([one for one in items if one.connection == connection], dry_run=dry_run)
        return found

    def _collect(self, items: Sequence[LeftBehind], *, dry_run: bool) -> list[tuple[str, DnetError | None]]:
        objects: list[OvsBridge | OvsPort] = []
        try:
            with closing(self._at(_remote(json.loads(items[0].connection)))) as switch:
                present = {_name(one): one.owner for one in switch.observed()}
                objects = [_as_object(one) for one in items if present.get(one.name) == one.mark]
                if not dry_run:
                    switch.delete_ports([item for item in objects if isinstance(item, OvsPort)])
                    switch.delete_bridges([item for item in objects if isinstance(item, OvsBridge)])
        except DnetError as error:  # it stays on record
            return [(f"removal of {item}", error) for item in objects]
        if not dry_run:
            with self._store.write():
                self._store.forget_left_behind(items)
        return [(f"removal of {item}", None) for item in objects]

    def _at(self, where: Remote) -> OpenVSwitch:
        return self._switch if self._is_given and self._switch else _connect(where)

    def _network(self) -> Network | None:
        """Return some network that is on Open vSwitch, ready or not."""
        found = sorted(self._store.networks.by_id().values(), key=lambda net: (net.created, net.id))
        return next((net for net in found if DRIVERS[net.driver].needs_switch), None)

    def take(self, spec: NetworkSpec) -> FoundBridge:
        """Look what a network of this specification finds; raise where there is no Open vSwitch for it."""
        where = self._choose_connection(spec)
        switch = self.open()
        switch.prepare()
        options = {**spec.options, DATABASE: where.address}
        options |= {key: value for key in CONNECTION if (value := getattr(where, CONNECTION[key]))}
        seen = switch.bridge(spec.bridge) if spec.bridge else None
        if seen is None:
            self._check_free(spec.bridge)
            spec.check_subnets()
            options.setdefault(DATAPATH_TYPE, switch.datapath_type())
            return FoundBridge(options=options)
        return self._take_bridge(spec, seen, options)

    def _choose_connection(self, spec: NetworkSpec) -> Remote:
        """Return where the database is: where that of the other networks is, or where the first one says."""
        is_said = any(key in spec.options for key in CONNECTION)
        known = self._network()
        if known is None:
            where = _remote(spec.options)
            self._connect_to(where)
            return where
        where = _remote(known.options)
        said = {key: spec.options[key] for key in CONNECTION if key in spec.options}
        if said.get(DATABASE) == where.address:  # whose keys are known
            said = {key: known.options[key] for key in CONNECTION if key in known.options} | said
        if is_said and _remote(said) != where:
            raise InvalidRequest(
                f"network {known.name} is on the Open vSwitch at {where.address}, and an engine's networks are on one",
                object=spec.options.get(DATABASE, ""),
                hint="leave the address out, or use an engine of its own (--state-dir, --run-dir)",
            )
        return where

    def _check_free(self, name: str) -> None:
        link = self._kernel.link(name) if name and self._kernel.device_index(name) else None
        if link:
            what = "a Linux bridge" if link.kind == "bridge" else "a device"
            hint = "choose another name" + (", or use it with -d bridge" if link.kind == "bridge" else "")
            raise InvalidRequest(f"{name} is {what}, and no bridge of Open vSwitch", object=name, hint=hint)

    def _take_bridge(self, spec: NetworkSpec, seen: SeenBridge, options: dict[str, str]) -> FoundBridge:
        """Return what a network takes from a bridge that is there already."""
        name = spec.bridge
        if seen.owner:
            holder = self._store.networks.name_on(name)
            whose = f"network {holder}" if holder else "another engine's network"
            hint = "put containers on that network, or choose another bridge"
            raise Conflict(f"bridge {name} is that of {whose} already", object=name, hint=hint)
        kind = options.setdefault(DATAPATH_TYPE, seen.datapath_type)
        if kind != seen.datapath_type:
            sentence = f"bridge {name} has a datapath of type {seen.datapath_type}, not {kind}"
            raise InvalidRequest(sentence, object=name, hint=f"leave {DATAPATH_TYPE} out")
        if spec.vlan and spec.vlan != (seen.tag or DEFAULT_VLAN):
            place = f"in VLAN {seen.tag}" if seen.tag else "in no VLAN"
            hint = f"`ovs-vsctl set port {name} tag={spec.vlan}` moves it, or leave --vlan out"
            raise InvalidRequest(
                f"the host's end of bridge {name}, which is not dnet's, is {place}", object=name, hint=hint
            )
        report = self._kernel.look().report()
        link = report.link(name)
        four, six = existing_bridge.gateways(spec, report.addresses_of(link) if link else ())
        if four is None or (spec.ipv6 and six is None):
            version, example = (4, "10.1.0.1/24") if four is None else (6, "fd00:1::1/64")
            hint = f"give it one: ip address add {example} dev {name}; ip link set {name} up"
            sentence = f"bridge {name} has no IPv{version} address that could be the gateway"
            raise InvalidRequest(sentence, object=name, hint=hint)
        return FoundBridge(
            subnet=four.network,
            gateway=four.ip,
            subnet6=six.network if six else None,
            gateway6=six.ip if six else None,
            vlan=seen.tag,
            found=("gateway", *(["gateway6"] if six else []), *(["vlan"] if seen.tag else [])),
            owns_device=False,
            options=options,
        )

    def missing(self, wanted: Sequence[Object]) -> list[OvsBridge | OvsPort]:
        """Return those of some objects that Open vSwitch has not, or has otherwise; somebody's bridges left out."""
        ours = [item for item in wanted if isinstance(item, (OvsBridge, OvsPort)) and item.owner]
        if not ours:
            return []
        switch = self.open()
        switch.prepare()
        present = set(switch.observed())
        return [item for item in ours if item not in present]


def _connect(where: Remote) -> OpenVSwitch:
    from dnet.openvswitch import switch

    return switch.connect(where)


def elsewhere(groups: Sequence[Sequence[Object]]) -> list[Sequence[Object]]:
    """Return groups without what is Open vSwitch's."""
    return [[item for item in group if item.backend != "ovs"] for group in groups]


def _ours(groups: Sequence[Sequence[Object]]) -> list[OvsBridge | OvsPort]:
    """Return what dnet has made in Open vSwitch's database."""
    return [item for group in groups for item in group if isinstance(item, (OvsBridge, OvsPort)) and item.owner]


def _left_behind(item: OvsBridge | OvsPort, connection: str) -> LeftBehind:
    return LeftBehind(_name(item), item.owner, item.bridge, connection)


def _name(item: OvsBridge | OvsPort) -> str:
    return item.port if isinstance(item, OvsPort) else item.bridge


def _as_object(item: LeftBehind) -> OvsBridge | OvsPort:
    if item.name == item.bridge:
        return OvsBridge(item.name, item.mark, "", mac="", mtu=0, tag=0)
    return OvsPort(item.name, item.bridge, item.mark, 0, (), 0, is_protected=False)


def _remote(options: Mapping[str, str]) -> Remote:
    return remote(**{name: options[key] for key, name in CONNECTION.items() if key in options})
