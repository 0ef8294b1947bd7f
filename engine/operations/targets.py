"""Containers of others: found, remembered, and attached to again after a restart."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from dnet.drivers import attachment, sandbox
from dnet.errors import DnetError, InvalidRequest, NotFound
from dnet.model import lease
from dnet.model.attachment import Attachment, StaticRoute
from dnet.model.container import MODE_FOREIGN, Container, Settings
from dnet.model.default_route import with_defaults
from dnet.model.values import replace
from dnet.objects.links import Membership
from dnet.objects.object import Object
from dnet.objects.observed import Report
from dnet.objects.openvswitch import OvsBridge, OvsPort
from dnet.operations.attachment_bridges import Wires
from dnet.operations.attachment_checks import label
from dnet.operations.containers import check_own_sandbox
from dnet.operations.leases import Leasing
from dnet.transaction.context import Writer
from dnet.transaction.identity import new_id
from dnet.transaction.lots import Members

if TYPE_CHECKING:
    from dnet.runtime.targets import Target


SHORT_ID = 12
Lacking = Callable[[Attachment], list[OvsPort]]


class Refreshed(NamedTuple):
    """What was missing, or in the way, in words; and why that could not be helped, or nothing."""

    what: str
    error: DnetError | None = None


class Foreign:
    """Containers by what a user calls them, and what is remembered of those that are not dnet's."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._store = writer.store
        self._wires = Wires(writer)
        self._leasing = Leasing(writer)

    # Finding

    def find_all(self, texts: Sequence[str]) -> Members:
        """Return the containers that texts mean, each once; many at once without a query for each."""
        known = self._store.heads(texts) if len(texts) > 1 else {}
        own = {name: item for name, item in known.items() if item.mode != MODE_FOREIGN}
        found = [check_own_sandbox(own[text]) if text in own else self.find(text) for text in texts]
        return Members(self._store, found)

    def find(self, text: str) -> Container:
        """Return the container that a text means: one of dnet's own, or somebody else's as it is now.

        The latter has what is attached to it already, made again if it has been restarted; one that nothing is
        attached to is not in the store.
        """
        if _may_be_own(text) and self._store.find_containers(text):
            return check_own_sandbox(self._store.container(text))
        from dnet.runtime import targets

        target = targets.find(text)
        known = self._known(target)
        if known is None:
            return self._own_at(target) or self._new(target)
        if _identity(known) != (target.inode, target.cookie):
            with self._store.mending_lock():
                known = self._store.reread(known.id)
                if _identity(known) != (target.inode, target.cookie):
                    return self._attach_again(known, target)
        return at_target(known, target) if _reference(known) == (target.kind, target.reference) else known

    def remembered(self, text: str) -> Container:
        """Return a container that something may be attached to, whether or not it is still there."""
        if _may_be_own(text) and self._store.find_containers(text):
            return self._store.container(text)
        found = [item for item in self._store.foreign_containers() if _is_called(item, text)]
        if len(found) > 1:
            names = ", ".join(item.name for item in found)
            raise InvalidRequest(f"{text} may be any of {names}", object=text, hint="write the name in full")
        return found[0] if found else self.find(text)

    def _known(self, target: Target) -> Container | None:
        """Return the container of the same namespace, or else of the same reference, that something is attached to."""
        known = self._store.foreign_containers()
        same = [item for item in known if _identity(item) == (target.inode, target.cookie)]
        same += [
            item
            for item in known
            if _reference(item) == (target.kind, target.reference)
            and (target.kind != "pid" or item.target["started"] == target.started)
        ]
        return same[0] if same else None

    def _new(self, target: Target) -> Container:
        """Return a container that is not in the store yet; who had its name there is looked at again."""
        from dnet.runtime.targets import Target, TargetState, resolve

        made = _container(target)
        for item in self._store.foreign_containers():
            if item.name != made.name:
                continue
            found = resolve(Target(**item.target))
            if found.state is TargetState.GONE:
                self._collect(item)
                continue
            other = replace(item, name=f"{item.target['kind']}:{item.target['reference'][:SHORT_ID]}")
            with self._store.write():
                self._store.set_target(at_target(item, found.target) if found.target else other)
        return made

    def _own_at(self, target: Target) -> Container | None:
        """Return dnet's own container whose sandbox a process is in, or a path leads to."""
        from dnet.runtime import targets

        if target.kind not in {targets.PATH, targets.PID}:
            return None
        own = [item for item in self._store.containers() if not item.target and not item.shares]
        return next((check_own_sandbox(item) for item in own if _inode(item.sandbox) == target.inode), None)

    # Looking again

    def refresh(self, *, is_dry_run: bool = False) -> list[Refreshed]:
        """Make again what is missing of attachments and routes, and forget what is gone for good.

        A dry run only tells.
        """
        if is_dry_run:
            return self._refresh_all(is_dry_run=True)
        self._writer.prepare()
        self.find_devices()
        with self._store.mending_lock():
            done = self._refresh_all(is_dry_run=False)
        self._wires.sweep_bridges()
        return done

    def _refresh_all(self, *, is_dry_run: bool) -> list[Refreshed]:
        done: list[Refreshed] = []
        containers = self._store.containers()
        lacking = self._look_at_ports(containers)
        for item in containers:
            if not (item.target or item.attachments or item.routes) or self._store.is_busy(item.id):
                continue
            try:
                done += self._refresh(item, lacking, is_dry_run=is_dry_run)
            except DnetError as error:
                done.append(Refreshed(label(item), error))
        return done

    def _refresh(self, container: Container, lacking: Lacking, *, is_dry_run: bool) -> list[Refreshed]:
        from dnet.runtime.targets import Target, TargetState, resolve

        found = resolve(Target(**container.target)) if container.target else None
        if found is None or found.state is TargetState.SAME:
            return self._mend(container, lacking, is_dry_run=is_dry_run)
        if found.state is TargetState.CHANGED and found.target:
            if not is_dry_run:
                self._attach_again(container, found.target)
            return [Refreshed(f"{container.name}, which has been restarted")]
        if found.state is TargetState.GONE:
            if not is_dry_run:
                self._collect(container)
            return [Refreshed(f"removal of {container.name}, which is gone")]
        return []

    def mend(self, container: Container) -> list[Refreshed]:
        """Make again the interfaces and routes of a container that are missing in it."""
        with self._store.mending_lock():
            return self._mend(container, self._look_at_ports([container]), is_dry_run=False)

    def _mend(self, container: Container, lacking: Lacking, *, is_dry_run: bool) -> list[Refreshed]:
        try:
            inside = self._wires.look_into(container)
        except NotFound:
            return []  # whoever makes the sandbox again makes all of it
        wires = [item for item in container.attachments if item.device_index or not item.device]
        lost = [item for item in wires if not inside.has(item.interface, attachment.inner_index(item))]
        is_foreign = bool(container.target)
        ends = [
            end
            for end in container.endpoints
            if is_foreign and not inside.has(end.interface, sandbox.inner_index(end, is_foreign=True))
        ]
        names = {item.interface for item in lost} | {end.interface for end in ends}
        ways = [way for way in container.routes if way.interface in names or not _is_there(way, inside)]
        strays = self._strays(wires, lacking)
        is_unleased = any(item.is_dhcp and not item.lease for item in wires if item not in lost)
        done = [Refreshed(str(item)) for item in strays]
        done += [Refreshed(f"interface {name} of {label(container)}") for name in sorted(names)]
        done += [Refreshed(f"route {way} of {label(container)}") for way in ways]
        done += [Refreshed(f"address by DHCP of {label(container)}")] if is_unleased else []
        if is_dry_run:
            return done
        if strays:
            self._writer.applier.join(strays)
        if names or ways:
            before = replace(
                container,
                endpoints=tuple(end for end in container.endpoints if end not in ends),
                attachments=tuple(item for item in container.attachments if item not in lost),
                routes=tuple(way for way in container.routes if way not in ways),
            )
            self._make_again(container, with_defaults(before, self._store.networks_by_id()))
        elif is_unleased:
            self._lease(container, {})
        return done

    def _make_again(self, container: Container, before: Container) -> Container:
        """Make what a container has and `before`, which is what there is, has not; return it as it is then.

        First what is left of it goes, so that a default route whose place was taken is there, to be displaced again.
        """
        with self._store.write(is_intent=True):
            self._store.set_changing([container.id], self._store.new_owner())
        self._writer.change([container], [before])
        inside = self._wires.look_into(before)
        kept = {item.id for item in before.attachments}
        old = {item.id: item.lease for item in container.attachments if item.lease and item.id not in kept}
        after = replace(
            container,
            attachments=tuple(replace(item, lease={}) if item.id in old else item for item in container.attachments),
            routes=tuple(_renumbered(way, inside) for way in container.routes),
        )
        after = with_defaults(after, self._store.networks_by_id())
        after = self._wires.displacing(before, after, inside)
        self._change(before, after)
        return self._lease(after, old)

    def _lease(self, container: Container, old: Mapping[str, Any]) -> Container:
        """Get leases for what has none; `old` are those of before, by the attachments' ids."""
        for item in container.attachments:
            if item.is_dhcp and not item.lease and (item.device_index or not item.device):
                previous = lease.from_document(old[item.id]) if item.id in old else None
                container = self._leasing.acquire(container, item, previous)
        return container

    def _look_at_ports(self, containers: Iterable[Container]) -> Lacking:
        """Look at Open vSwitch, once for all; return what tells which ports of an attachment it has not, or raises."""
        wanted = [port for one in containers for item in one.attachments for port in attachment.ports(item)]
        problem: DnetError | None = None
        missing: list[OvsBridge | OvsPort] = []
        try:
            missing = self._writer.switches.missing(wanted)
        except DnetError as error:
            problem = error

        def lacking(item: Attachment) -> list[OvsPort]:
            if problem:
                raise problem
            return [port for port in attachment.ports(item) if port in missing]

        return lacking

    def _strays(self, wires: Iterable[Attachment], lacking: Lacking) -> list[Object]:
        """Return what makes host ends that their bridge has lost, one that was made anew say, its ports again."""
        found: list[Object] = []
        for item in wires:
            link = self._writer.kernel.link(item.host_interface) if item.host_interface else None
            if not link or link.index != item.host_index:
                continue
            if item.kind == "ovs":
                found += lacking(item)
            elif link.master != item.device_index:
                found.append(
                    Membership(
                        item.host_interface, item.host_index, "", master=item.device, master_index=item.device_index
                    )
                )
        return found

    def find_devices(self) -> None:
        """Take note of devices, as below, one process at a time."""
        with self._store.mending_lock():
            self._find_devices()

    def _find_devices(self) -> None:
        """Take note of the host's devices that attachments are to: made again where dnet made them, perhaps renumbered.

        What has no device any more has index 0, and nothing of it is made until it has one again.
        """
        made = self._store.made_bridges()
        for container in self._store.containers():
            for item in container.attachments:
                if not item.device:
                    continue
                if item.kind == "ovs":  # its device is looked for by name
                    self._find_switch(item.device, is_made=item.device in made)
                    continue
                index = self._writer.kernel.device_index(item.device)
                if index is None and item.device in made and item.kind == "bridge":
                    with self._store.network_lock():
                        link = self._writer.kernel.link(item.device) or self._wires.make_bridge(item.device, item.kind)
                        index = link.index if link else None
                if index is None and item.kind == "direct":
                    continue  # it is in the container, or nowhere
                if (index or 0) != item.device_index:
                    with self._store.write():
                        self._store.set_attachment(replace(item, device_index=index or 0))

    def _find_switch(self, device: str, *, is_made: bool) -> None:
        """Make a bridge of Open vSwitch again that dnet made and somebody has removed, if that is possible."""
        if is_made and self._writer.kernel.device_index(device) is None:
            with self._store.network_lock(), suppress(DnetError):  # who is attached to it will say why
                self._wires.make_bridge(device, "ovs")

    # Changes

    def _change(self, before: Container, after: Container) -> None:
        """Turn a container, of which `before` is what there is, into another; when that fails, its rows stay."""
        with self._store.write(is_intent=True):
            self._store.set_changing([after.id], self._store.new_owner())
            self._wires.promise(after)
        try:
            self._writer.change([before], [after])
        except BaseException as error:
            self._writer.applier.undo_change(
                error,
                lambda: self._writer.change([after], [before], is_undoing=True),
                lambda: self._writer.settle_rows([after], [after]),
            )
            raise
        self._writer.settle_rows([after], [after])

    def _attach_again(self, container: Container, target: Target) -> Container:
        """Attach a container that has another namespace now to all that it was attached to, and return it."""
        self._find_devices()
        container = self._store.reread(container.id)
        gone = replace(container, endpoints=(), attachments=(), routes=(), displaced=())
        # The namespace may be there still, held by a process; what is dnet's on the host goes, wherever it leads.
        self._writer.change([container], [gone])
        return self._make_again(at_target(container, target), at_target(gone, target))

    def _collect(self, container: Container) -> None:
        """Forget a container that is gone for good, and remove what is left of its attachments on the host."""
        with self._store.write(is_intent=True):
            self._store.set_changing([container.id], self._store.new_owner())
        gone = replace(container, endpoints=(), attachments=(), routes=(), displaced=())
        self._writer.change([container], [gone], is_forced=True)
        self._writer.settle_rows([gone], [container])


def at_target(container: Container, target: Target) -> Container:
    """Return a container as what a target is now."""
    return replace(container, name=f"{target.kind}:{target.name}", sandbox=target.path, target=asdict(target))


def _container(target: Target) -> Container:
    return at_target(
        Container(
            id=new_id(),
            name="",
            mode=MODE_FOREIGN,
            sandbox="",
            files="",
            settings=Settings(hostname=""),
            created=time.time(),
            status="",
            mtu=0,
            labels={},
            publish_all=False,
            exposed=(),
            ports=(),
            endpoints=(),
        ),
        target,
    )


def _may_be_own(text: str) -> bool:
    return "/" not in text and ":" not in text


def _identity(container: Container) -> tuple[int, int]:
    return container.target["inode"], container.target["cookie"]


def _reference(container: Container) -> tuple[str, str]:
    return container.target["kind"], container.target["reference"]


def _is_called(container: Container, text: str) -> bool:
    """Whether a text means a container that is remembered: by its name or id, with or without the kind before it."""
    kind, reference = _reference(container)
    given, _, rest = text.rpartition(":")
    if given and given != kind:
        return False
    return rest in {container.target["name"], reference} or (kind not in {"path", "pid"} and reference.startswith(rest))


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def _is_there(way: StaticRoute, inside: Report) -> bool:
    return any(
        (held.destination, held.gateway) == (way.destination, way.gateway) and way.metric in {0, held.metric}
        for held in inside.routes
    )


def _renumbered(way: StaticRoute, inside: Report) -> StaticRoute:
    """Return a route through an interface that is not dnet's with the number that this has now."""
    if not way.index:
        return way
    return replace(way, index=next((link.index for link in inside.links if link.name == way.interface), way.index))
