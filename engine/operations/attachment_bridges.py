"""Bridges that are created because somebody attaches to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dnet.drivers import attachment, desired, sandbox
from dnet.drivers.displaced_route import MESSAGE_BYTES_MAX, default_versions, kernel_route
from dnet.errors import OvsError
from dnet.model.container import Container
from dnet.model.record import Head, MadeBridge
from dnet.model.values import replace
from dnet.objects.observed import METRIC6, Link, Report
from dnet.objects.openvswitch import OvsBridge
from dnet.objects.sandbox import Sandbox
from dnet.transaction.context import Writer
from dnet.transaction.identity import new_id

BEGINNINGS = {"bridge": "br", "ovs": "ovs"}  # pipework's: a bridge whose name begins so is made when it is missing


class Wires:
    """Containers' interfaces and routes, as rows and in the kernel."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._store = writer.store

    def look_into(self, container: Container) -> Report:
        """Return what is in a container's namespace, of its routes those of the main table.

        Raises NotFound when the namespace has gone, or is another one by now.
        """
        with self._writer.kernel.looking_into(sandbox_of(container)) as sight:
            routes = [way for way in sight.routes() if way.is_main]
            return Report(sight.links(), sight.addresses(), routes)

    # Changes

    def begin(self, members: Sequence[Container | Head], owner: str) -> None:
        """Mark containers as being changed; foreign ones that are new are inserted. Inside a transaction.

        Raises where another process changes one of them, or has since it was read.
        """
        read = [item for item in members if isinstance(item, Container)]
        foreign = [item for item in read if item.target]
        self._store.check_ready([item for item in members if item not in foreign])
        self._store.check_current(read)
        known = {item.id for item in self._store.foreign_containers()} if foreign else set()
        self._store.insert_containers([item for item in foreign if item.id not in known], owner)
        self._store.set_changing([item.id for item in members], owner)

    def promise(self, after: Container) -> None:
        """Note what a change is about to displace, so that one that is killed can be taken back; in a transaction."""
        self._store.set_displaced(after)
        if after.target:
            self._store.set_target(after)

    # Default routes

    @staticmethod
    def priority(container: Container, *, is_default: bool) -> int:
        """Return the priority with which an interface gets the default route if it shall, or leaves it where it is."""
        known = [end.gateway_priority for end in container.endpoints]
        known += [item.gateway_priority for item in container.attachments if item.ways]
        if is_default:
            return max([*known, 0]) + 1
        return 0 if container.target else min([*known, 1]) - 1

    def displacing(self, before: Container, after: Container, inside: Report) -> Container:
        """Return `after` with the routes of others that its default routes take the place of."""
        had, has = (set(default_versions(item)) for item in (before, after))
        displaced = [way for way in before.displaced if way.version in had & has]
        own = set(desired.inner_indexes(before).values())
        for way in inside.routes:
            metric = 0 if way.version == 4 else METRIC6
            is_in_the_way = way.destination.prefixlen == 0 and way.metric <= metric and way.index not in own
            if is_in_the_way and way.version in has - had and len(way.message) <= MESSAGE_BYTES_MAX:
                displaced.append(kernel_route(way, inside))
        return replace(after, displaced=tuple(displaced))

    # Bridges that are made because somebody attaches to them

    @contextmanager
    def bridge(self, device: str, kind: str) -> Iterator[Link | None]:
        """Yield a bridge of the host's, made when it is missing and its name allows that; None when it does not.

        `kind` is `bridge`, or `ovs` for one of Open vSwitch.

        One of dnet's making does not go away while the block inserts who attaches to it.
        """
        link = self._writer.kernel.link(device)
        if (link and device not in self._store.made_bridges()) or not device.startswith(BEGINNINGS[kind]):
            yield link
            return
        with self._store.network_lock():
            yield self._writer.kernel.link(device) or self.make_bridge(device, kind)

    def make_bridge(self, device: str, kind: str) -> Link | None:
        """Make a bridge, with the index that it had if dnet has made it before; under the network lock."""
        datapath_type = self._datapath_type(device) if kind == "ovs" else ""
        with self._store.write():
            made = self._store.made_bridges().get(device)
            if made is None:
                mark = new_id() if kind == "ovs" else ""
                made = MadeBridge(device, self._store.take_indexes(1)[0], mark)
                self._store.insert_made_bridge(made)
        group = attachment.made_bridge(made, datapath_type)
        try:
            self._writer.applier.create([group])
        except BaseException as error:
            self._writer.applier.undo(error, [group], lambda: self._forget_bridge(device))
            raise
        return self._writer.kernel.link(device)

    def _datapath_type(self, device: str) -> str:
        """Return the type for a new bridge of Open vSwitch, which runs here and has none of that name elsewhere."""
        switch = self._writer.switches.open()
        switch.prepare()
        if switch.bridge(device) and device not in self._store.made_bridges():
            sentence = f"Open vSwitch has a bridge {device}, but its device is not in this network namespace"
            raise OvsError(sentence, object=device, hint="run dnet where ovs-vswitchd runs")
        return switch.datapath_type()

    def _forget_bridge(self, device: str) -> None:
        if not self._store.users_of(device):
            self._store.forget_made_bridge(device)

    def sweep_bridges(self) -> None:
        """Remove bridges of dnet's making that nobody is attached to; what others use by now is left to them."""
        if not any(not self._store.users_of(device) for device in self._store.made_bridges()):
            return
        with self._store.network_lock():
            for device in self._store.made_bridges():
                if not self._store.users_of(device):
                    self.remove_bridge(device)

    def remove_bridge(self, device: str) -> None:
        """Remove a bridge of dnet's making, or leave it to others who use it by now; under the network lock."""
        made = self._store.made_bridges()[device]
        group = attachment.made_bridge(made, "")
        is_there = self._writer.switches.is_within_reach([group])
        index = (self._writer.kernel.device_index(device) or 0) if made.mark else made.device_index
        if not (is_there and self._writer.kernel.is_device(index, device) and self._is_in_use(made, index)):
            self._writer.delete([group], is_forced=True)
        else:
            self._writer.notice(f"bridge {device} stays, since others use it")
            for item in group:
                if isinstance(item, OvsBridge):
                    self._writer.switches.open().disown_bridge(item)
        self._store.forget_made_bridge(device)

    def _is_in_use(self, made: MadeBridge, index: int) -> bool:
        """Whether a bridge has ports, addresses or a network of somebody's."""
        device = made.device
        if made.mark and self._writer.switches.open().port_names(device):
            return True
        sight = self._writer.kernel.look()
        held = [item for item in sight.addresses() if item.index == index]
        has_ports = any(link.master == index for link in sight.links())
        is_network = any(network.device == device for network in self._store.networks())
        return has_ports or is_network or any(not item.interface.ip.is_link_local for item in held)


def sandbox_of(container: Container) -> Sandbox:
    """Return the sandbox of a container."""
    return next(item for item in sandbox.sandbox(container, "") if isinstance(item, Sandbox))
