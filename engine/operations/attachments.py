"""Attaching containers, dnet's own and others', to networks and devices, and detaching them again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

from dnet.errors import Conflict, InvalidRequest, NotFound
from dnet.model.attachment import Attachment
from dnet.model.attachment_spec import AttachmentSpec, ToNetwork
from dnet.model.container import Container, Endpoint
from dnet.model.container_spec import EndpointSpec
from dnet.model.default_route import with_defaults
from dnet.model.network import DEFAULT_DEVICE, Network, veth_name
from dnet.model.values import replace
from dnet.objects.links import Up
from dnet.objects.observed import PROTOCOL_ADVERTISED, PROTOCOL_KERNEL, Link, Report
from dnet.operations import attachment_checks
from dnet.operations.attachment_bridges import Wires
from dnet.operations.attachment_checks import label
from dnet.operations.leases import Leasing
from dnet.operations.targets import Foreign
from dnet.transaction.context import Progress, Writer
from dnet.transaction.identity import new_id
from dnet.transaction.lots import Members, lots


class Attached(NamedTuple):
    """What came of attaching: the container, its interface, and whether that is new."""

    container: Container
    interface: Attachment | Endpoint
    is_new: bool


class Attaching:
    """Interfaces of containers, by hand."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._store = writer.store
        self._wires = Wires(writer)
        self._foreign = Foreign(writer)
        self._leasing = Leasing(writer)

    def attach(
        self,
        targets: Sequence[str],
        wanted: AttachmentSpec | ToNetwork,
        *,
        on_progress: Progress | None = None,
    ) -> list[Attached]:
        """Attach containers: all of them, or none. What is attached already, as it is wanted, stays as it is."""
        self._writer.prepare()
        members = self._foreign.find_all(targets)
        if len(members) > 1 and wanted.is_for_one:
            raise InvalidRequest("several containers cannot have the same address or device", object=targets[0])
        if isinstance(wanted, ToNetwork):
            return self._join(members, wanted, on_progress)
        return self._wire(members, wanted, on_progress)

    # To a network

    def _join(self, members: Members, to: ToNetwork, on_progress: Progress | None) -> list[Attached]:
        wanted = to.spec
        network = self._store.network(wanted.network)
        to.check(network)
        self._writer.prepare_switch(network)
        self._writer.mend_networks([network.name])
        if wanted.vlans and not network.vlan:
            self._writer.keep_vlans_apart(network.name)
            network = self._store.network(network.name)
        joined = set(self._store.member_names(network.id))
        known = Members(self._store, [item for item in members.heads if item.name in joined])
        there: dict[str, Attached] = {}
        for item in known:
            for end in item.endpoints:
                if end.network_id == network.id:
                    _check_same(item, end, wanted)
                    there[item.id] = Attached(item, end, is_new=False)
        new = Members(self._store, [item for item in members.heads if item.id not in there])
        made = self._join_new(new, to, network, on_progress) if new else {}
        return [made.get(item.id) or there[item.id] for item in members.heads]

    def _join_new(
        self,
        members: Members,
        to: ToNetwork,
        network: Network,
        on_progress: Progress | None,
    ) -> dict[str, Attached]:
        # dnet's own containers have nothing in them that it does not know of; a look at hundreds would take its time.
        foreign = [item for item in members.heads if isinstance(item, Container) and item.target]
        insides = {item.id: self._wires.look_into(item) for item in foreign}
        names = {identity: {link.name for link in inside.links} for identity, inside in insides.items()}
        reservation = self._writer.reservation()
        with self._store.write(is_intent=True):
            self._wires.begin(members.heads, self._store.new_owner())
            self._store.check_not_joined(members.heads, network.id)
            reservation.check_joining(members, to.spec, network, names)

        def joining() -> Iterator[Container]:
            """Reserve each lot when its first is asked for."""
            for lot in lots(members):
                with self._store.write(is_intent=True):
                    joined = [
                        (item, replace(end, gateway_priority=self._wires.priority(item, is_default=to.takes_default)))
                        for item, end in reservation.join(lot, to.spec, network, names)
                    ]
                    self._store.insert_endpoints([(item.id, end) for item, end in joined], "creating")
                    networks, after = self._store.networks_by_id(), []
                    for item, end in joined:
                        changed = with_defaults(replace(item, endpoints=(*item.endpoints, end)), networks)
                        if item.id in insides:
                            changed = self._wires.displacing(item, changed, insides[item.id])
                            self._wires.promise(changed)
                        after.append(changed)
                yield from after

        return {
            item.id: Attached(item, end, is_new=True)
            for item in self._writer.turn(members, joining(), on_progress)
            for end in item.endpoints
            if end.network_id == network.id
        }

    # To a device

    def _wire(self, members: Sequence[Container], spec: AttachmentSpec, on_progress: Progress | None) -> list[Attached]:
        spec = self._resolved(spec)
        present = {
            item.id: wire for item in members for wire in item.attachments if attachment_checks.is_made(spec, wire)
        }
        for item in members:
            if item.id in present:
                self._foreign.mend(item)
        new = [item for item in members if item.id not in present]
        insides = {item.id: self._wires.look_into(item) for item in new}
        for item in new:
            self._check_inside(item, spec, insides[item.id])
        made: dict[str, Attached] = {}
        if new:
            with self._device(spec) as link, self._tidying(spec):
                made = self._wire_new(new, spec, link, insides, on_progress)
        if spec.is_dhcp:
            made |= {identity: self._lease(one) for identity, one in made.items()}
        return [made.get(item.id) or Attached(item, present[item.id], is_new=False) for item in members]

    def _resolved(self, spec: AttachmentSpec) -> AttachmentSpec:
        """Return what is asked for with the kind that a bridge of its name is of; one that is missing is the kernel's.

        An Open vSwitch that it is on runs then.
        """
        if spec.kind == "bridge":
            link = self._writer.kernel.link(spec.device)
            made = self._store.made_bridges().get(spec.device)
            if self._writer.switches.has_bridge(link) if link else made and made.mark:
                spec = spec.of_kind("ovs")
        spec.check_vlans()
        if spec.kind == "ovs":
            self._writer.switches.open().prepare()
            self._writer.switches.collect()  # what was left behind may have the port's name
        return spec

    def _check_inside(self, container: Container, spec: AttachmentSpec, inside: Report) -> None:
        """Raise when the name of the interface, or an address, is in the container already."""
        name, who = spec.interface, label(container)
        holder = attachment_checks.holder(container, name) if name else ""
        if holder:
            hint = f"`dnet detach {container.name} -i {name}` takes it off"
            raise Conflict(f"{who} has an interface {name} already: {holder}", object=name, hint=hint)
        if any(link.name == name for link in inside.links):
            hint = "choose another name, or leave it to dnet"
            raise Conflict(f"{who} has an interface {name} already, which is not dnet's", object=name, hint=hint)
        wanted = {address.ip for address in spec.addresses}
        for held in inside.addresses:
            if held.interface.ip in wanted:
                device = inside.name_of(held.index)
                sentence = f"address {held.interface.ip} is on {device} of {who} already"
                raise Conflict(sentence, object=str(held.interface.ip), hint="choose another address")
        if spec.host_interface and self._writer.kernel.device_index(spec.host_interface):
            hint = "choose another name for the host's end, or leave it to dnet"
            raise Conflict(f"this host has a {spec.host_interface} already", object=spec.host_interface, hint=hint)

    @contextmanager
    def _device(self, spec: AttachmentSpec) -> Iterator[Link | None]:
        """Yield the host's device, checked; a bridge that is missing is made if its name allows. None for none."""
        kernel = self._writer.kernel
        found: AbstractContextManager[Link | None] = nullcontext(None)
        if spec.device:
            is_bridge = spec.kind in {"bridge", "ovs"}
            found = self._wires.bridge(spec.device, spec.kind) if is_bridge else nullcontext(kernel.link(spec.device))
        with found as link:
            if link:
                master = kernel.device_name(link.master)
                attachment_checks.check_device(spec, link, is_wireless=kernel.is_wireless(link.name), master=master)
                self._check_use(spec, link)
            elif spec.device:
                raise attachment_checks.missing_device(spec, next(iter(self._store.users_of(spec.device).values()), ""))
            yield link

    def _check_use(self, spec: AttachmentSpec, link: Link) -> None:
        """Raise where something else uses a device in a way that an attachment to it would break."""
        for network in self._store.networks():
            if network.device == link.name and link.name in {DEFAULT_DEVICE, f"br-{network.id[:12]}"}:
                hint = f"attach to the network: --network {network.name}"
                raise InvalidRequest(
                    f"{link.name} is the bridge of network {network.name}", object=link.name, hint=hint
                )
        if spec.kind == "direct":
            users = self._store.users_of(link.name)
            if users:
                names = ", ".join(sorted(set(users.values())))
                raise Conflict(f"{link.name} is in use: {names} has an interface on it", object=link.name)
            routes = self._writer.kernel.look().routes()
            if any(way.is_main and way.index == link.index and way.is_default for way in routes):
                hint = "a macvlan leaves it where it is: --macvlan"
                raise Conflict(f"the host's default route goes through {link.name}", object=link.name, hint=hint)

    @contextmanager
    def _tidying(self, spec: AttachmentSpec) -> Iterator[None]:
        """When the block fails, remove a bridge that was made for it."""
        try:
            yield
        except BaseException:
            if spec.kind in {"bridge", "ovs"} and spec.device in self._store.made_bridges():
                self._tidy(spec.device)
            raise

    def _tidy(self, device: str) -> None:
        # Under the network lock already, which `bridge` holds as long as it is about a bridge of dnet's making.
        if not self._store.users_of(device):
            self._wires.remove_bridge(device)

    def _wire_new(
        self,
        members: Sequence[Container],
        spec: AttachmentSpec,
        link: Link | None,
        insides: Mapping[str, Report],
        on_progress: Progress | None,
    ) -> dict[str, Attached]:
        before_move = self._before_move(link) if link and spec.kind == "direct" else {}
        if link and spec.kind == "macvlan" and not link.is_up:
            self._writer.kernel.create([[Up(link.name, link.index, "")]])
            self._writer.notice(f"raised {link.name}, which was down")
        with self._store.write(is_intent=True):
            indexes = self._store.take_indexes(len(members))
            wires = {
                item.id: _attachment(
                    item,
                    spec,
                    link,
                    insides[item.id],
                    index,
                    before_move,
                    self._wires.priority(item, is_default=True),
                )
                for item, index in zip(members, indexes, strict=True)
            }
            self._wires.begin(members, self._store.new_owner())
            self._store.insert_attachments(wires.items())
            networks, after = self._store.networks_by_id(), []
            for item in members:
                changed = with_defaults(replace(item, attachments=(*item.attachments, wires[item.id])), networks)
                after.append(self._wires.displacing(item, changed, insides[item.id]))
                self._wires.promise(after[-1])
        self._writer.turn(members, after, on_progress)
        return {
            item.id: Attached(item, wire, is_new=True)
            for item in after
            for wire in item.attachments
            if wire.id == wires[item.id].id
        }

    def _lease(self, made: Attached) -> Attached:
        """Get a lease for an attachment that has just been made; without one it goes again."""
        item = made.interface
        if not isinstance(item, Attachment):
            return made

        def back() -> None:
            self._take_off(made.container, item)

        try:
            container = self._leasing.acquire(made.container, item)
        except BaseException as error:
            self._writer.applier.undo_change(error, back, lambda: None)
            raise
        return Attached(container, next(one for one in container.attachments if one.id == item.id), is_new=True)

    def _before_move(self, link: Link) -> dict[str, Any]:
        """Return what a device has on the host, to be given back to it."""
        sight = self._writer.kernel.look()
        held = [item for item in sight.addresses() if item.index == link.index and item.is_kept]
        own = {PROTOCOL_KERNEL, PROTOCOL_ADVERTISED}
        routes = [way for way in sight.routes() if way.is_main and way.index == link.index and way.protocol not in own]
        return {
            "mac": link.mac,
            "mtu": link.mtu,
            "alias": link.alias,
            "is_up": link.is_up,
            "is_quiet": link.is_quiet,
            "addresses": [
                [f"address {item.interface}", item.message.hex()]
                for item in held
                # The kernel makes these again by itself.
                if link.is_quiet or not item.interface.ip.is_link_local
            ],
            "routes": [[f"route {way.destination}", way.message.hex()] for way in routes],
        }

    # Detaching

    def detach(self, target: str, interface: str = "", *, is_forced: bool = False) -> Container:
        """Take an interface off a container: the only one that was attached, unless it is named.

        What it was in the place of, a default route or a device of the host's, is there again.
        """
        self._writer.prepare()
        container = self._foreign.remembered(target)
        item = _chosen(container, interface)
        if not is_forced:
            ends, wires = ((item,), ()) if isinstance(item, Endpoint) else ((), (item,))
            self._writer.check_switch([replace(container, endpoints=ends, attachments=wires)])
        if isinstance(item, Attachment):
            self._leasing.release(container, item)
        return self._take_off(container, item, is_forced=is_forced)

    def _take_off(self, container: Container, item: Attachment | Endpoint, *, is_forced: bool = False) -> Container:
        with self._store.write(is_intent=True):
            self._store.check_current([container])
            table = "endpoint" if isinstance(item, Endpoint) else "attachment"
            self._store.set_endpoint_phase([item.id], "deleting", table)
            self._store.set_changing([container.id], self._store.new_owner())
            networks = self._store.networks_by_id()
        after = replace(
            container,
            endpoints=tuple(end for end in container.endpoints if end.id != item.id),
            attachments=tuple(wire for wire in container.attachments if wire.id != item.id),
            routes=tuple(way for way in container.routes if way.interface != item.interface),
        )
        after = self._wires.displacing(container, with_defaults(after, networks), Report())
        self._writer.turn([container], [after], is_forced=is_forced)
        self._wires.sweep_bridges()
        return after


def _check_same(container: Container, end: Endpoint, wanted: EndpointSpec) -> None:
    """Raise unless an endpoint that is there is what is asked for; what is left open is as it is."""
    address6 = end.address6.ip if end.address6 else None
    if (
        wanted.ip in {None, end.address.ip}
        and wanted.ip6 in {None, address6}
        and wanted.mac in {"", end.mac}
        and wanted.interface in {"", end.interface}
        and wanted.vlans in {None, end.vlans}
    ):
        return
    hint = f"`dnet detach {container.name} -i {end.interface}` takes it off"
    sentence = f"{label(container)} is on network {end.network} already: {end.interface}, {end.address}, {end.mac}"
    raise Conflict(sentence, object=container.name, hint=hint)


def _attachment(
    container: Container,
    spec: AttachmentSpec,
    link: Link | None,
    inside: Report,
    index: int,
    before_move: Mapping[str, Any],
    priority: int,
) -> Attachment:
    identity = new_id()
    is_port = spec.kind in {"bridge", "ovs"}
    return Attachment(
        id=identity,
        kind=spec.kind,
        device=spec.device,
        device_index=link.index if link else 0,
        interface=spec.interface or attachment_checks.free_interface(container, [one.name for one in inside.links]),
        host_index=index,
        host_interface=(spec.host_interface or veth_name(index)) if is_port else "",
        addresses=spec.addresses,
        gateways=spec.gateways,
        mac=attachment_checks.choose_mac(spec, identity, link),
        mtu=spec.mtu or (link.mtu if link and (is_port or spec.kind == "direct") else 0),
        macvlan_mode=spec.mode,
        is_dhcp=spec.is_dhcp,
        hostname=spec.hostname,
        gateway_priority=priority if spec.gateways else 0,
        before=before_move,
        vlans=spec.vlans,
    )


def _chosen(container: Container, interface: str) -> Attachment | Endpoint:
    """Return the interface that is to go."""
    able: list[Attachment | Endpoint] = list(container.attachments)
    able += container.endpoints if interface or container.target else ()
    found = [item for item in able if interface in {"", item.interface}]
    if not found:
        sentence = f"{label(container)} has no interface {interface}".rstrip() + " that dnet attached"
        raise NotFound(sentence, object=interface or container.name, hint="`dnet attachment ls` lists them")
    if len(found) > 1:
        names = ", ".join(item.interface for item in found)
        raise InvalidRequest(f"{label(container)} has several: {names}", object=container.name, hint="name one with -i")
    return found[0]
