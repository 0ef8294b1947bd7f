"""The engine: one object with all that a caller can do.

Reading goes straight to the store; what writes is loaded on the first write.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, wraps
from types import TracebackType
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar, Unpack

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
    from dnet.operations.reattach import Finding
    from dnet.operations.routes import ShownRoute
    from dnet.runtime.logs import Entry
    from dnet.transaction.context import Context
    from dnet.transaction.lots import BulkProgress


STATE_DIRECTORY = "/var/lib/dnet"
RUN_DIRECTORY = "/run/dnet"
CONFIRM_MAX_S = 86400.0
OLD_KEYWORDS = {
    "is_dry_run": "dry_run",
    "is_followed": "follow",
    "is_forced": "force",
    "is_missing_ok": "missing_ok",
    "is_running_ok": "running_ok",
    "is_sure": "assume_yes",
}
P = ParamSpec("P")
R = TypeVar("R")


def _takes_old_keywords(method: Callable[P, R]) -> Callable[P, R]:
    """Let a method take its keywords by their old names, too, with a DeprecationWarning, for one release."""

    @wraps(method)
    def take(*arguments: P.args, **keywords: P.kwargs) -> R:
        for old in OLD_KEYWORDS.keys() & keywords.keys():
            import warnings

            new = OLD_KEYWORDS[old]
            warnings.warn(f"{method.__name__}: the keyword {old} is {new} now", DeprecationWarning, stacklevel=2)
            keywords[new] = keywords.pop(old)
        return method(*arguments, **keywords)

    return take


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
        """Close the database and the sockets. Networks and containers stay."""
        if "_context" in vars(self):
            self._context.close()
        self._store.close()

    def prepare(self) -> None:
        """Load what changes need, and recover from killed processes. Every change does that itself.

        Raises NeedsRoot without the privilege.
        """
        from dnet.operations import uplinks  # noqa: F401  loaded before a change may take away where it is
        from dnet.transaction.recovery import prepare

        prepare(self._context)

    # Networks

    def networks(self) -> list[Network]:
        """Return all networks, sorted by name."""
        return self._store.networks.all()

    def network(self, reference: str) -> Network:
        """Return the network of that name, id or unique id prefix. Raises NotFound."""
        return self._store.networks.get(reference)

    def members(self, network: Network) -> list[Container]:
        """Return the containers on a network."""
        return self._store.containers.on_network(network.id)

    def create_network(self, spec: NetworkSpec | str, **options: Unpack[NetworkOptions]) -> Network:
        """Create a network from a specification, or from a name and NetworkSpec's fields as keywords.

        Without a subnet it is the first free one of Docker's default pools. Without a gateway it is the subnet's first
        address. Raises Conflict when the name or the subnet is in use.
        """
        from dnet.operations import networks

        if isinstance(spec, str):
            spec = NetworkSpec(name=spec, **options)
        return networks.create(self._context, spec)

    def plan_network(self, spec: NetworkSpec) -> list[Object]:
        """Return the objects that `create_network` would create, in order. Nothing is changed."""
        from dnet.operations import networks

        return networks.plan(self._context, spec)

    @_takes_old_keywords
    def delete_networks(self, references: Sequence[str], *, force: bool = False) -> list[Network]:
        """Remove networks, all or nothing; return those that are removed.

        Raises NotFound when one is unknown, Conflict when a container is on one, OvsError when the Open vSwitch of one
        cannot be reached. `force` ignores unknown ones, and leaves to a later `reconcile` what an unreachable Open
        vSwitch has in its database.
        """
        from dnet.operations import networks

        return networks.delete(self._context, references, force=force)

    @_takes_old_keywords
    def prune_networks(self, *, force: bool = False) -> list[Network]:
        """Remove every network that has no containers and no uplinks; `force` as in `delete_networks`."""
        from dnet.operations import networks

        return networks.prune(self._context, force=force)

    # Uplinks of networks

    def host_link(self, name: str) -> HostLink | None:
        """Return the host's interface of a name, or of a MAC address written `mac:02:...`; None if there is none."""
        from dnet.operations import host_links
        from dnet.transaction.recovery import prepare

        prepare(self._context)
        return host_links.find(self._context, name)

    @_takes_old_keywords
    def adopt(
        self,
        network: str,
        interface: str,
        *,
        vlans: PortVlans | None = None,
        assume_yes: bool = False,
        ask: Callable[[str], bool] | None = None,
        confirm_within_s: float = 0.0,
        confirm: Callable[[float], bool] | None = None,
    ) -> Network:
        """Make an interface of the host a port of a network's bridge, which takes over what the interface was.

        The interface's addresses, routes and MAC address move in one batch, all or nothing, and open connections go on.
        An interface that is adopted already is left alone, except for its VLANs.

        `vlans`: on a network with VLANs, those of the interface. By default it is a trunk of all VLANs, with the
        network's own untagged.

        An interface that carries a default route, or whose untagged frames will not be in the host's VLAN, is moved
        only if one of these holds; otherwise InvalidRequest is raised:
        - `assume_yes` is set.
        - `ask`, called with a question, returns True.
        - `confirm_within_s` is above 0, at most 86400, which puts the adoption on trial: when so many seconds are over,
          or this process ends, another process gives the interface back, unless `confirm`, called with the seconds
          after the move, has returned True. Given back, the interface is missing in the network that is returned.
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
        return uplinks.adopt(self._context, network, interface, vlans, assume_yes=assume_yes, ask=ask, trial=trial)

    def plan_adoption(self, network: str, interface: str, vlans: PortVlans | None = None) -> list[Object]:
        """Return the objects that `adopt` would create, in order. Nothing is changed."""
        from dnet.operations import uplinks

        return uplinks.plan_adoption(self._context, network, interface, vlans)

    def release(self, network: str, interface: str) -> Network:
        """Restore an adopted interface to what it was. What has been added to the bridge since then stays there.

        Raises NotFound when the network has not adopted the interface.
        """
        from dnet.operations import uplinks

        return uplinks.release(self._context, network, interface)

    def plan_release(self, network: str, interface: str) -> list[Object]:
        """Return the objects that `release` would create, in order. Nothing is changed."""
        from dnet.operations import uplinks

        return uplinks.plan_release(self._context, network, interface)

    def release_unconfirmed(self, interface: str) -> None:
        """Restore an interface whose adoption is still on trial; do nothing if it has been confirmed."""
        from dnet.operations import uplinks

        uplinks.release_unconfirmed(self._context, interface)

    # Containers

    def containers(self) -> list[Container]:
        """Return all containers, oldest first, without foreign ones."""
        return self._with_statuses([item for item in self._store.containers.all() if item.mode != MODE_FOREIGN])

    def container(self, reference: str) -> Container:
        """Return the container of that name, id or unique id prefix. Raises NotFound."""
        return self._with_statuses([self._store.containers.get(reference)])[0]

    def names(self, *, prefix: str | None = None) -> list[str]:
        """Return the names of all containers, or of those called PREFIX-1, PREFIX-2, ..."""
        names = [item.name for item in self.containers()]
        return [name for name in names if prefix is None or _is_numbered(name, prefix)]

    def create(
        self,
        name: str = "",
        *,
        network: str | EndpointSpec | Iterable[str | EndpointSpec] = DEFAULT_NETWORK,
        **options: Unpack[ContainerOptions],
    ) -> Container:
        """Create one container's network from ContainerSpec's fields; those that are left out are chosen."""
        spec = ContainerSpec(name=name, network=network, **options)
        return self.create_many([spec]).containers[0]

    def create_many(
        self, specs: Iterable[ContainerSpec], *, keep_going: bool = False, on_progress: BulkProgress | None = None
    ) -> Created:
        """Create containers in one pass, all or nothing; with `keep_going`, all that do not fail.

        `on_progress(done, total)` is called some twenty times a second. An exception from it, or Ctrl-C, reverts
        everything.
        """
        from dnet.operations import containers

        return containers.create_many(self._context, list(specs), keep_going=keep_going, on_progress=on_progress)

    def plan(self, specs: Sequence[ContainerSpec]) -> list[Object]:
        """Return the objects that `create_many` would create, in order. Nothing is changed."""
        from dnet.operations import containers

        return containers.plan(self._context, specs)

    def delete(self, reference: str) -> Container:
        """Remove one container; see `delete_many`."""
        return self.delete_many([reference])[0]

    @_takes_old_keywords
    def delete_many(
        self,
        references: Iterable[str],
        *,
        missing_ok: bool = False,
        force: bool = False,
        running_ok: bool = False,
        on_progress: BulkProgress | None = None,
    ) -> list[Container]:
        """Remove containers with everything that belongs to them; return when the kernel shows nothing of them.

        Nothing is removed when NotFound is raised, because a name is unknown, unless `missing_ok`; or Conflict,
        because a process runs, unless `running_ok`, or because another container shares the sandbox of one; or
        OvsError, because the Open vSwitch of one cannot be reached. `force` allows these, except unknown names, and
        leaves to a later `reconcile` what an unreachable Open vSwitch has in its database.
        """
        from dnet.operations import containers

        return containers.delete_many(
            self._context,
            list(references),
            missing_ok=missing_ok,
            force=force,
            running_ok=running_ok,
            on_progress=on_progress,
        )

    def rename(self, reference: str, name: str) -> Container:
        """Give a container another name. Its id, sandbox path and host name stay. Raises Conflict for a name in use."""
        from dnet.operations import containers

        return containers.rename(self._context, reference, name)

    def refresh_resolvers(self) -> int:
        """Give every container the host's present resolver; return how many files were rewritten.

        Files are rewritten in place, so that running containers, into which they are mounted, see it at once. A
        file that somebody has edited is left alone.
        """
        from dnet.operations import containers

        return containers.refresh_resolvers(self._context)

    # Endpoints and published ports

    def connect(
        self, references: Iterable[str], network: str | EndpointSpec, *, on_progress: BulkProgress | None = None
    ) -> list[Container]:
        """Join containers to one more network, all or nothing. The default route moves as with Docker.

        Raises Conflict when one is on the network already.
        """
        from dnet.operations import endpoints

        spec = EndpointSpec(network=network) if isinstance(network, str) else network
        return endpoints.connect(self._context, list(references), spec, on_progress)

    @_takes_old_keywords
    def disconnect(self, reference: str, network: str, *, force: bool = False) -> Container:
        """Remove a container's endpoint on a network; with `force`, also while Open vSwitch cannot be reached."""
        from dnet.operations import endpoints

        return endpoints.disconnect(self._context, reference, network, force=force)

    def set_vlans(self, reference: str, vlans: PortVlans | None, network: str = "") -> Container:
        """Change the VLANs of a container's port on a network, by default on its first, all at once.

        None gives the port the network's VLAN.
        """
        from dnet.operations import endpoints

        return endpoints.set_vlans(self._context, reference, network, vlans)

    def publish(self, reference: str, ports: Iterable[str]) -> Container:
        """Publish further ports of a container, all or nothing; `ports` as in `docker run -p`, such as `8080:80/tcp`.

        Raises Conflict when a host port is in use.
        """
        from dnet.operations import published_ports

        return published_ports.publish(self._context, reference, list(ports))

    def unpublish(self, reference: str, ports: Iterable[PortMapping]) -> Container:
        """Stop publishing ports of a container. Open connections go on; new ones are refused."""
        from dnet.operations import published_ports

        return published_ports.unpublish(self._context, reference, list(ports))

    def nat(self, network: str = "") -> list[NatRow]:
        """Return published ports and source address translation with their counters, of one network or of all."""
        from dnet.operations import published_ports

        return published_ports.rows(self._context, network)

    # Attachments, and what else is done to containers of others

    def attach(
        self,
        target: str,
        to: str | NetworkAttachmentSpec | AttachmentSpec = "",
        **options: Unpack[AttachOptions],
    ) -> Attached:
        """Attach a container to a network, or with AttachmentSpec's fields as keywords to a device of the host.

        `target` is one of dnet's containers, one of Docker's or Podman's (name or id, perhaps with `docker:` or
        `podman:` before it), `pid:N`, or the path of a namespace. One that is attached already, as asked for, stays as
        it is. With a gateway, the default route goes through the new interface.
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
        """Attach containers in one pass, all or nothing; see `attach`."""
        from dnet.model import attachment_spec
        from dnet.operations import attachments

        wanted = attachment_spec.read(to, {}) if isinstance(to, str) else to
        return attachments.attach(self._context, list(targets), wanted, on_progress=on_progress)

    @_takes_old_keywords
    def detach(self, target: str, interface: str = "", *, force: bool = False) -> Container:
        """Remove an interface that was attached to a container; it has to be named if there are several.

        A displaced default route and a device of the host's are restored. With `force`, an interface is removed
        also while its Open vSwitch cannot be reached. Raises NotFound when there is no such interface.
        """
        from dnet.operations import attachments

        return attachments.detach(self._context, target, interface, force=force)

    def attached(self) -> list[Container]:
        """Return containers that have attachments, and all foreign containers that have an interface of dnet's."""
        return [item for item in self._store.containers.all() if item.target or item.attachments]

    def add_route(self, target: str, route: str | StaticRoute) -> Container:
        """Add a route to a container and keep it; `route` as for ip-route(8), such as `10.2.0.0/16 via 10.1.0.9`.

        Raises Conflict when there is one to that destination, InvalidRequest when the gateway cannot be reached.
        """
        from dnet.operations import routes

        return routes.add(self._context, target, _route(route))

    def delete_route(self, target: str, route: str | StaticRoute) -> Container:
        """Remove a route that `add_route` added; gateway, interface and metric may be left out. Raises NotFound."""
        from dnet.operations import routes

        return routes.delete(self._context, target, _route(route, is_partial_ok=True))

    def has_route(self, target: str, route: str | StaticRoute) -> bool:
        """Return whether `add_route` has added such a route; gateway, interface and metric may be left out."""
        from dnet.operations import routes

        return routes.has(self._context, target, _route(route, is_partial_ok=True))

    def routes(self, target: str) -> list[ShownRoute]:
        """Return the routes that are in a container, and those of `add_route` that are missing."""
        from dnet.operations import routes

        return routes.listed(self._context, target)

    def pipework(self, words: Sequence[str]) -> int:
        """Run a command line of pipework, without its name; return its exit status."""
        from dnet.adapters import pipework_run

        return pipework_run.run(self, words)

    # Processes

    def run(self, spec: ContainerSpec) -> tuple[Container, int]:
        """Create a container, run its process with the caller's standard files, and return its exit status.

        The status is 128 + n after signal n. Raises RuntimeFailed when the program is missing or cannot be executed.
        """
        from dnet.operations import processes

        return processes.run(self._context, spec, is_detached=False)

    def run_detached(self, spec: ContainerSpec) -> Container:
        """Create a container and start its process, which goes on when this one ends."""
        from dnet.operations import processes

        return self.container(processes.run(self._context, spec, is_detached=True)[0].id)

    def start(self, references: Iterable[str]) -> list[Container]:
        """Start the processes of containers again, detached. Those that run are left alone."""
        from dnet.operations import processes

        return processes.start(self._context, list(references))

    def stop(self, references: Iterable[str], timeout_s: float = 10.0) -> list[Container]:
        """End the processes of containers by SIGTERM, and by SIGKILL after `timeout_s`; return when they are gone.

        Raises Conflict when one does not run.
        """
        from dnet.operations import processes

        return processes.stop(self._context, list(references), timeout_s)

    def execute(self, reference: str, process: Process) -> int:
        """Run one more process in a running container with the caller's standard files; return its exit status."""
        from dnet.operations import processes

        return processes.execute(self._context, reference, process)

    def run_inside(self, target: str, command: Sequence[str]) -> int:
        """Run a program of the host in the network namespace of a target; return its exit status.

        Raises FileNotFoundError when the host has no such program.
        """
        from dnet.operations import processes

        return processes.run_program(self._context, target, command)

    @_takes_old_keywords
    def logs(self, reference: str, *, follow: bool = False) -> Iterator[Entry]:
        """Yield what the process of a detached container wrote; with `follow`, until the process ends."""
        from dnet.operations import processes

        return processes.logs(self._context, reference, follow=follow)

    # The whole host

    @_takes_old_keywords
    def reconcile(self, *, dry_run: bool = False) -> list[Finding]:
        """Compare everything with the kernel and make again what is missing: after a reboot, everything.

        Returns what was missing, each with the error if it could not be made again. With `dry_run`, nothing is
        changed.
        """
        from dnet.operations import reconcile

        return reconcile.run(self._context, dry_run=dry_run)

    def watch(self) -> Iterator[int]:
        """Keep containers in step with their surroundings for as long as the iterator is read.

        Yields how many resolv.conf files were rewritten, at the start and after every change of the host's. Foreign
        containers are attached again when they restart, and forgotten when they are removed. Leases are renewed.
        Notices tell of that.
        """
        from dnet.operations.watch import Watching

        return Watching(self._context).run()

    def doctor(self) -> list[Diagnosis]:
        """Return what the host lacks, what will run out, and what is in the way. Nothing is changed."""
        from dnet.operations import doctor

        return list(doctor.findings(self._context))


def _route(route: str | StaticRoute, *, is_partial_ok: bool = False) -> StaticRoute:
    from dnet.model.attachment_spec import parse_route

    return parse_route(route.split(), is_partial_ok=is_partial_ok) if isinstance(route, str) else route


def _is_numbered(name: str, prefix: str) -> bool:
    return name.startswith(f"{prefix}-") and name[len(prefix) + 1 :].isdecimal()
