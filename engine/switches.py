"""Open vSwitch as an engine's networks use it: one connection, and what a network finds there. Rank 6, IO.

Nothing of Open vSwitch is loaded, or talked to, before something of its is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dnet import bridges
from dnet.bridges import Taken
from dnet.drivers import ovs
from dnet.errors import Conflict, InvalidRequest
from dnet.kernel import Kernel
from dnet.model import Network
from dnet.objects import Object, OvsBridge, OvsPort
from dnet.specs import NetworkSpec
from dnet.store import Store

if TYPE_CHECKING:
    from dnet.openvswitch import OpenVSwitch, SeenBridge
    from dnet.ovsdb import Remote

# The options that say where the database is, by the names of ovsdb.remote's parameters.
CONNECTION = {
    ovs.DATABASE: "address",
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
        from dnet.openvswitch import OpenVSwitch
        from dnet.ovsdb import Ovsdb

        if not self._is_given:
            self.close()
            self._switch = OpenVSwitch(Ovsdb(where))

    def _network(self) -> Network | None:
        """Return some network that is on Open vSwitch, ready or not."""
        found = sorted(self._store.networks_by_id().values(), key=lambda net: (net.created, net.id))
        return next((net for net in found if net.driver == "ovs"), None)

    def take(self, spec: NetworkSpec) -> Taken:
        """Look what a network of this specification finds; raise where there is no Open vSwitch for it."""
        where = self._choose_connection(spec)
        switch = self.open()
        switch.prepare()
        options = {**spec.options, ovs.DATABASE: where.address}
        options |= {key: value for key in CONNECTION if (value := getattr(where, CONNECTION[key]))}
        seen = switch.bridge(spec.bridge) if spec.bridge else None
        if seen is None:
            self._check_free(spec.bridge)
            spec.check_subnets()
            options.setdefault(ovs.DATAPATH_TYPE, switch.datapath_type())
            return Taken(options=options)
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
        if is_said and _remote(spec.options) != where:
            raise InvalidRequest(
                f"network {known.name} is on the Open vSwitch at {where.address}, and an engine's networks are on one",
                object=spec.options.get(ovs.DATABASE, ""),
                hint="leave the address out, or use an engine of its own (--state-dir, --run-dir)",
            )
        return where

    def _check_free(self, name: str) -> None:
        link = self._kernel.link(name) if name and self._kernel.device_index(name) else None
        if link:
            what = "a Linux bridge" if link.kind == "bridge" else "a device"
            hint = "choose another name" + (", or use it with -d bridge" if link.kind == "bridge" else "")
            raise InvalidRequest(f"{name} is {what}, and no bridge of Open vSwitch", object=name, hint=hint)

    def _take_bridge(self, spec: NetworkSpec, seen: SeenBridge, options: dict[str, str]) -> Taken:
        """Return what a network takes from a bridge that is there already."""
        name = spec.bridge
        if seen.owner:
            holder = self._store.network_on(name)
            whose = f"network {holder}" if holder else "another engine's network"
            hint = "put containers on that network, or choose another bridge"
            raise Conflict(f"bridge {name} is that of {whose} already", object=name, hint=hint)
        kind = options.setdefault(ovs.DATAPATH_TYPE, seen.datapath_type)
        if kind != seen.datapath_type:
            sentence = f"bridge {name} has a datapath of type {seen.datapath_type}, not {kind}"
            raise InvalidRequest(sentence, object=name, hint=f"leave {ovs.DATAPATH_TYPE} out")
        if spec.vlan and spec.vlan != (seen.tag or ovs.UNTAGGED):
            place = f"in VLAN {seen.tag}" if seen.tag else "in no VLAN"
            hint = f"`ovs-vsctl set port {name} tag={spec.vlan}` moves it, or leave --vlan out"
            raise InvalidRequest(
                f"the host's end of bridge {name}, which is not dnet's, is {place}", object=name, hint=hint
            )
        report = self._kernel.report()
        link = report.link(name)
        four, six = bridges.gateways(spec, report.addresses_of(link) if link else ())
        if four is None or (spec.ipv6 and six is None):
            version, example = (4, "10.1.0.1/24") if four is None else (6, "fd00:1::1/64")
            hint = f"give it one: ip address add {example} dev {name}; ip link set {name} up"
            sentence = f"bridge {name} has no IPv{version} address that could be the gateway"
            raise InvalidRequest(sentence, object=name, hint=hint)
        return Taken(
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


def _remote(options: Mapping[str, str]) -> Remote:
    from dnet.ovsdb import remote

    return remote(**{name: options[key] for key, name in CONNECTION.items() if key in options})
