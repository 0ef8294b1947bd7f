"""The engine: one object with all that a caller can do.

Reading goes straight to the store; what writes is loaded on the first write.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

from dnet.errors import InvalidRequest
from dnet.model.attachment import StaticRoute
from dnet.model.container import MODE_FOREIGN, Container, Process
from dnet.model.container_spec import ContainerSpec, EndpointSpec
from dnet.model.network import DEFAULT_NETWORK, Network
from dnet.model.network_spec import NetworkSpec
from dnet.model.published_port import PortMapping
from dnet.model.vlan import PortVlans
from dnet.state.store import Store

if TYPE_CHECKING:
    from dnet.linux.kernel import Kernel
    from dnet.linux.nftables import Nft
    from dnet.model.attachment_spec import AttachmentSpec, AttachOptions, NetworkAttachmentSpec
    from dnet.model.container_spec import ContainerOptions
    from dnet.model.host_link import HostLink
    from dnet.model.network_spec import NetworkOptions
    from dnet.objects.object import Object
    from dnet.openvswitch.switch import OpenVSwitch
    from dnet.operations.attachments import Attached
    from dnet.operations.containers import Created
    from dnet.operations.doctor import Diagnosis
    from dnet.operations.published_ports import NatRow
    from dnet.operations.reattach import Refreshed
    from dnet.operations.reconcile import Finding
    from dnet.operations.routes import ShownRoute
    from dnet.runtime.logs import Entry
    from dnet.transaction.context import Context
    from dnet.transaction.lots import BulkProgress


STATE_DIRECTORY = "/var/lib/dnet"
RUN_DIRECTORY = "/run/dnet"
CONFIRM_MAX_S = 86400.0


class Engine:
    """Networks and containers of one state directory, in the network namespace that it is first used in.

    Safe to use from several processes at once; one Engine belongs to one thread. `kernel`, `nft` and `switch` are for
    tests.
    """

    def __init__(
        self,
        state_dir: str = STATE_DIRECTORY,
        run_dir: str = RUN_DIRECTORY,
        on_notice: Callable[[str], None] = lambda _: None,
        kernel: Kernel | None = None,
        nft: Nft | None = None,
        switch: OpenVSwitch | None = None,
    ) -> None:
        self._run_directory = os.path.abspath(run_dir)
        self._state_directory = os.path.abspath(state_dir)
        self._store = Store(self._state_directory, self._run_directory)
        self._on_notice = on_notice
        self._given = (kernel, nft, switch)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @cached_property
    def _context(self) -> Context:
        from dnet.transaction.context import Context

        return Context(self._store, self._state_directory, self._run_directory, self._on_notice, *self._given)

    def _with_statuses(self, containers: list[Container]) -> list[Container]:
        if not any(item.process for item in containers):
            return containers
        from dnet.operations.processes import with_statuses
        from dnet.runtime.process import Runtime

        return with_statuses(containers, Runtime(self._state_directory, self._run_directory))

    def close(self) -> None:
        """Close the database and the sockets. What was created stays."""
        if "_context" in vars(self):
            self._context.close()
        self._store.close()

    # Looking

    def containers(self) -> list[Container]:
        """Return all containers, oldest first."""
        return self._with_statuses([item for item in self._store.containers.all() if item.mode != MODE_FOREIGN])

    def container(self, reference: str) -> Container:
        """Return the container of that name, id or unique id prefix."""
        return self._with_statuses([self._store.containers.get(reference)])[0]

    def names(self, *, prefix: str | None = None) -> list[str]:
        """Return the names of all containers, or of those called PREFIX-1, PREFIX-2, ..."""
        found = [item.name for item in self.containers()]
        return [name for name in found if prefix is None or _is_numbered(name, prefix)]

    def networks(self) -> list[Network]:
        """Return all networks, by name."""
        return self._store.networks.all()

    def network(self, reference: str) -> Network:
        """Return the network of that name, id or unique id prefix."""
        return self._store.networks.get(reference)

    def members(self, network: Network) -> list[Container]:
        """Return the containers on a network."""
        return self._store.containers.on_network(network.id)

    def nat(self, network: str = "") -> list[NatRow]:
        """Return published ports and source address translation, with live counters; of one network, or of all."""
        from dnet.operations import published_ports

        return published_ports.rows(self._context, network)

    # Networks

    def create_network(self, spec: NetworkSpec | str, **options: Unpack[NetworkOptions]) -> Network:
        """Create a network from a specification, or from a name and NetworkSpec's fields as keywords.

        Unset, the subnet is the first free one of Docker's default pools and the gateway its first address.
        """
        from dnet.operations import networks

        if isinstance(spec, str):
            spec = NetworkSpec(name=spec, **options)
        return networks.create(self._context, spec)

    def plan_network(self, spec: NetworkSpec) -> list[Object]:
        """Return what creating the network would create, in order, touching nothing."""
        from dnet.operations import networks

        return networks.plan(self._context, spec)

    def delete_networks(self, references: Sequence[str], *, is_forced: bool = False) -> list[Network]:
        """Remove networks that no container is on; all of them, or none.

        `is_forced` leaves out those that there are not, and does without an Open vSwitch that is gone, from whose
        database a later `reconcile` removes the bridges.
        """
        from dnet.operations import networks

        return networks.delete(self._context, references, is_forced=is_forced)

    def prune_networks(self, *, is_forced: bool = False) -> list[Network]:
        """Remove every network that no container is on; `is_forced` as in `delete_networks`."""
        from dnet.operations import networks

        return networks.prune(self._context, is_forced=is_forced)

    def adopt(
        self,
        network: str,
        interface: str,
        *,
        vlans: PortVlans | None = None,
        is_sure: bool = False,
        ask: Callable[[str], bool] | None = None,
        confirm_within_s: float = 0.0,
        confirm: Callable[[float], bool] | None = None,
    ) -> Network:
        """Make an interface of the host's a port of a network's bridge; the bridge becomes what the interface was.

        Its addresses, routes and MAC address move in one batch, all or nothing, and open connections go on. On a
        network that keeps VLANs apart it is in those of `vlans`, else a trunk of all of them with the network's own
        untagged. An interface that is adopted already is left alone, but for its VLANs.

        One that carries a default route, or whose untagged frames will not be in the host's VLAN, is moved only if
        the caller `is_sure`, `ask` says yes to a question, or it is on trial: with `confirm_within_s`, a process of
        its own gives it back when the time is over, or when this process ends, unless `confirm`, called with the
        seconds when all is done, has returned True; then the network that is returned is without it.
        """
        from dnet.operations import uplinks

        trial = None
        if not 0 <= confirm_within_s <= CONFIRM_MAX_S:
            hint = f"give it {CONFIRM_MAX_S:.0f} s, a day, at most"
            raise InvalidRequest(f"{confirm_within_s:g} s is no time to wait for", object=interface, hint=hint)
        if confirm_within_s > 0:
            if confirm is None:
                raise InvalidRequest("without `confirm` nobody can confirm it", object=interface)
            trial = ((self._state_directory, self._run_directory), confirm_within_s, confirm)
        return uplinks.adopt(self._context, network, interface, vlans, is_sure=is_sure, ask=ask, trial=trial)

    def plan_adoption(self, network: str, interface: str, vlans: PortVlans | None = None) -> list[Object]:
        """Return what adopting an interface would do, in order, touching nothing."""
        from dnet.operations import uplinks

        return uplinks.plan_adoption(self._context, network, interface, vlans)

    def release(self, network: str, interface: str) -> Network:
        """Give back an adopted interface all that it was; what has been added to the bridge since stays there."""
        from dnet.operations import uplinks

        return uplinks.release(self._context, network, interface)

    def plan_release(self, network: str, interface: str) -> list[Object]:
        """Return what giving an interface back would do, in order, touching nothing."""
        from dnet.operations import uplinks

        return uplinks.plan_release(self._context, network, interface)

    def prepare(self) -> None:
        """Load what changes need, and clear away what killed processes left; every change does that by itself."""
        from dnet.operations import uplinks  # noqa: F401  loaded before a change may take away where it is
        from dnet.transaction.recovery import prepare

        prepare(self._context)

    def release_unconfirmed(self, interface: str) -> None:
        """Give an interface back unless somebody has confirmed that it shall stay adopted."""
        from dnet.operations import uplinks

        uplinks.release_unconfirmed(self._context, interface)

    # Containers

    def create(
        self,
        name: str = "",
        *,
        network: str | EndpointSpec | Iterable[str | EndpointSpec] = DEFAULT_NETWORK,
        **options: Unpack[ContainerOptions],
    ) -> Container:
        """Create one container's network; `options` are ContainerSpec's fields, and unset ones are chosen."""
        spec = ContainerSpec(name=name, network=network, **options)
        return self.create_many([spec]).containers[0]

    def create_many(
        self, specs: Iterable[ContainerSpec], *, keep_going: bool = False, on_progress: BulkProgress | None = None
    ) -> Created:
        """Create containers in one pass. All or nothing, unless `keep_going`.

        `on_progress(done, total)` is called some twenty times a second; an exception from it, or Ctrl-C, takes
        everything back.
        """
        from dnet.operations import containers

        return containers.create_many(self._context, list(specs), keep_going=keep_going, on_progress=on_progress)

    def plan(self, specs: Sequence[ContainerSpec]) -> list[Object]:
        """Return what `create_many` would create, in order, touching nothing."""
        from dnet.operations import containers

        return containers.plan(self._context, specs)

    def delete(self, reference: str) -> Container:
        """Remove one container."""
        return self.delete_many([reference])[0]

    def delete_many(
        self,
        references: Iterable[str],
        *,
        is_missing_ok: bool = False,
        is_forced: bool = False,
        is_running_ok: bool = False,
        on_progress: BulkProgress | None = None,
    ) -> list[Container]:
        """Remove containers with all that belongs to them; returns when the kernel shows nothing of them.

        None is removed when a name is unknown, unless `is_missing_ok`, when the process of one runs, unless
        `is_running_ok`, or when another container shares the sandbox of one; `is_forced` allows the last two. Where
        Open vSwitch is gone, what is on it is removed with `is_forced` only, from its database by a later `reconcile`.
        """
        from dnet.operations import containers

        return containers.delete_many(
            self._context,
            list(references),
            is_missing_ok=is_missing_ok,
            is_forced=is_forced,
            is_running_ok=is_running_ok,
            on_progress=on_progress,
        )

    def connect(
        self, references: Iterable[str], network: str | EndpointSpec, *, on_progress: BulkProgress | None = None
    ) -> list[Container]:
        """Join containers to one more network, all of them or none; the default route moves as Docker's would."""
        from dnet.operations import endpoints

        spec = EndpointSpec(network=network) if isinstance(network, str) else network
        return endpoints.connect(self._context, list(references), spec, on_progress)

    def set_vlans(self, reference: str, vlans: PortVlans | None, network: str = "") -> Container:
        """Change the VLANs of a container's port on a network, of its first unless one is named; at one stroke.

        None gives the port those that the network gives by itself.
        """
        from dnet.operations import endpoints

        return endpoints.set_vlans(self._context, reference, network, vlans)

    def disconnect(self, reference: str, network: str, *, is_forced: bool = False) -> Container:
        """Take a container off a network; with `is_forced`, also while the network's Open vSwitch is gone."""
        from dnet.operations import endpoints

        return endpoints.disconnect(self._context, reference, network, is_forced=is_forced)

    # Processes

    def run(self, spec: ContainerSpec) -> tuple[Container, int]:
        """Create a container, run its process with the caller's standard files, and return its exit status.

        The status is 128 + n after signal n. RuntimeFailed tells that the program is missing or cannot be executed.
        """
        from dnet.operations import processes

        return processes.run(self._context, spec, is_detached=False)

    def run_detached(self, spec: ContainerSpec) -> Container:
        """Create a container and start its process, which goes on by itself."""
        from dnet.operations import processes

        return self.container(processes.run(self._context, spec, is_detached=True)[0].id)

    def start(self, references: Iterable[str]) -> list[Container]:
        """Start containers' processes again, detached."""
        from dnet.operations import processes

        return processes.start(self._context, list(references))

    def stop(self, references: Iterable[str], timeout_s: float = 10.0) -> list[Container]:
        """End containers' processes: SIGTERM, then SIGKILL after `timeout_s`; return when they are gone."""
        from dnet.operations import processes

        return processes.stop(self._context, list(references), timeout_s)

    def execute(self, reference: str, process: Process) -> int:
        """Run one more process in a running container with the caller's standard files; return its exit status."""
        from dnet.operations import processes

        return processes.execute(self._context, reference, process)

    def logs(self, reference: str, *, is_followed: bool = False) -> Iterator[Entry]:
        """Yield what a detached container's process wrote; when followed, until it ends."""
        from dnet.operations import processes

        return processes.logs(self._context, reference, is_followed=is_followed)

    # Wiring by hand

    def attach(
        self,
        target: str,
        to: str | NetworkAttachmentSpec | AttachmentSpec = "",
        **options: Unpack[AttachOptions],
    ) -> Attached:
        """Attach a container to a network, or with AttachmentSpec's fields as keywords to a device of the host's.

        `target` is one of dnet's containers, one of Docker's or Podman's (name or id, perhaps with `docker:` or
        `podman:` before it), `pid:N`, or a namespace's path. What is attached so already stays as it is. The default
        route goes through the new interface when a gateway is given.
        """
        from dnet.model import attachment_spec

        if isinstance(to, str):
            to = attachment_spec.read(to, options)
        return self.attach_many([target], to)[0]

    def attach_many(
        self,
        targets: Iterable[str],
        to: str | NetworkAttachmentSpec | AttachmentSpec,
        *,
        on_progress: BulkProgress | None = None,
    ) -> list[Attached]:
        """Attach containers in one pass, all of them or none; see `attach`."""
        from dnet.model import attachment_spec
        from dnet.operations import attachments

        wanted = attachment_spec.read(to, {}) if isinstance(to, str) else to
        return attachments.attach(self._context, list(targets), wanted, on_progress=on_progress)

    def detach(self, target: str, interface: str = "", *, is_forced: bool = False) -> Container:
        """Take an interface off a container: the only one that was attached, unless it is named.

        A default route, or a device of the host's, whose place it had taken is there again. With `is_forced`, also
        while the Open vSwitch that it is on is gone.
        """
        from dnet.operations import attachments

        return attachments.detach(self._context, target, interface, is_forced=is_forced)

    def attached(self) -> list[Container]:
        """Return containers with interfaces attached to devices, and all of others that dnet is attached to."""
        return [item for item in self._store.containers.all() if item.target or item.attachments]

    def refresh_attachments(self) -> list[Refreshed]:
        """Look at all that is attached: attach again what has been restarted, and forget what is gone for good."""
        from dnet.operations import reattach

        return reattach.refresh(self._context)

    def add_route(self, target: str, route: str | StaticRoute) -> Container:
        """Add a route to a container, in the words of ip-route(8): `10.2.0.0/16 via 10.1.0.9`; it is kept."""
        from dnet.operations import routes

        return routes.add(self._context, target, _route(route))

    def delete_route(self, target: str, route: str | StaticRoute) -> Container:
        """Take away a route that `add_route` added; gateway, interface and metric may be left out."""
        from dnet.operations import routes

        return routes.delete(self._context, target, _route(route, is_partial_ok=True))

    def routes(self, target: str) -> list[ShownRoute]:
        """Return the routes that are in a container."""
        from dnet.operations import routes

        return routes.listed(self._context, target)

    def pipework(self, words: Sequence[str]) -> int:
        """Do what a command line of pipework's says; return its exit status."""
        from dnet.adapters import pipework_run

        return pipework_run.run(self, list(words))

    def host_link(self, name: str) -> HostLink | None:
        """Return the host's interface of a name, or with `mac:` before it the one of a MAC address; None without it."""
        from dnet.operations import host_links
        from dnet.transaction.recovery import prepare

        prepare(self._context)
        return host_links.find(self._context, name)

    def run_inside(self, target: str, command: Sequence[str]) -> int:
        """Run a program of the host in the network namespace of a target; return its exit status."""
        from dnet.operations import processes

        return processes.run_program(self._context, target, command)

    def has_route(self, target: str, route: str | StaticRoute) -> bool:
        """Return whether `add_route` has added such a route; gateway, interface and metric may be left out."""
        from dnet.operations import routes

        return routes.has(self._context, target, _route(route, is_partial_ok=True))

    def rename(self, reference: str, name: str) -> Container:
        """Give a container another name. Its id, sandbox path and host name stay."""
        from dnet.operations import containers

        return containers.rename(self._context, reference, name)

    def refresh_resolvers(self) -> int:
        """Give every container the host's resolver as it is now, and return how many files were rewritten.

        Files are rewritten in place, so that running containers, into which they are mounted, see it at once. A
        file that somebody has edited is left alone.
        """
        from dnet.operations import containers

        return containers.refresh_resolvers(self._context)

    def reconcile(self, *, is_dry_run: bool = False) -> list[Finding]:
        """Compare everything with the kernel and make again what is missing; after a reboot, that is all.

        Returns what was missing, each with the error where it could not be made again; with `is_dry_run`, nothing is
        touched.
        """
        from dnet.operations import reconcile

        return reconcile.run(self._context, is_dry_run=is_dry_run)

    def doctor(self) -> list[Diagnosis]:
        """Look at the host: what it lacks, what will run out, what is in the way; nothing is changed."""
        from dnet.operations import doctor

        return list(doctor.findings(self._context))

    def watch(self) -> Iterator[int]:
        """Keep containers' resolv.conf in step with the host's, for as long as the iterator is read.

        Yields how many files were rewritten, at the start and after every change of the host's. What is attached to
        containers of others is attached again when they restart, and forgotten when they are removed; notices tell.
        """
        from dnet.operations.watch import Watching

        return Watching(self._context).run()

    def publish(self, reference: str, ports: Iterable[str]) -> Container:
        """Publish further ports of a container, in the grammar of `docker run -p`; all of them, or none."""
        from dnet.operations import published_ports

        return published_ports.publish(self._context, reference, list(ports))

    def unpublish(self, reference: str, ports: Iterable[PortMapping]) -> Container:
        """Take back published ports of a container. Open connections go on; new ones are refused."""
        from dnet.operations import published_ports

        return published_ports.unpublish(self._context, reference, list(ports))


def _route(route: str | StaticRoute, *, is_partial_ok: bool = False) -> StaticRoute:
    from dnet.model.attachment_spec import parse_route

    return parse_route(route.split(), is_partial_ok=is_partial_ok) if isinstance(route, str) else route


def _is_numbered(name: str, prefix: str) -> bool:
    return name.startswith(f"{prefix}-") and name[len(prefix) + 1 :].isdecimal()
