"""Containers: created in bulk, planned, removed, renamed, and their resolv.conf kept up to date."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from functools import partial
from itertools import chain

from dnet.drivers import desired, host_files
from dnet.drivers.desired import DRIVERS
from dnet.errors import Conflict, DnetError, NotFound
from dnet.linux import files
from dnet.model.address import IPNetwork
from dnet.model.container import MODE_FOREIGN, Container
from dnet.model.container_spec import ContainerSpec
from dnet.model.network import DEFAULT_NETWORK
from dnet.model.network_spec import NetworkSpec
from dnet.model.parse import check_name
from dnet.model.values import Value, frozen, replace
from dnet.model.vlan import DEFAULT_VLAN
from dnet.objects.links import NoAutoconf
from dnet.objects.object import Object
from dnet.transaction import reserve_network
from dnet.transaction.apply import create_groups, delete_groups
from dnet.transaction.apply_kernel import create_in_kernel
from dnet.transaction.containers import (
    check_switch,
    linked_lines,
    objects_of,
    read_host_files,
    remove_containers,
    update_hosts,
    update_linked,
)
from dnet.transaction.context import Context, Group
from dnet.transaction.lots import BulkProgress, lots, recorded, report
from dnet.transaction.networks import repair_networks
from dnet.transaction.recovery import prepare
from dnet.transaction.reserve_containers import Reservation
from dnet.transaction.reserve_names import Names
from dnet.transaction.rollback import reverting, undoing
from dnet.transaction.vlans import enable_vlans


@frozen(kw_only=True)
class Created(Value):
    """Result of creating containers in bulk.

    containers: those created, in the order of the specifications
    failed: with `keep_going`, (name, error) of each other one
    phases: seconds by the name of a phase of the work
    """

    containers: tuple[Container, ...]
    failed: tuple[tuple[str, DnetError], ...] = ()
    phases: Mapping[str, float] = field(default_factory=dict)


def create_many(
    context: Context,
    specs: Sequence[ContainerSpec],
    *,
    keep_going: bool = False,
    on_progress: BulkProgress | None = None,
    is_starting: bool = False,
) -> Created:
    """Create containers in one pass, all or nothing unless `keep_going`. `is_starting`: their processes follow."""
    prepare(context)
    for mode in sorted({spec.mode for spec in specs if not spec.endpoints and (spec.publish or spec.publish_all)}):
        context.notice(f"published ports are discarded in mode {mode}")
    create = partial(
        _create_many, context, specs, keep_going=keep_going, on_progress=on_progress, is_starting=is_starting
    )
    references = {endpoint.network for spec in specs for endpoint in spec.endpoints}
    if DEFAULT_NETWORK in references and not context.store.networks.find(DEFAULT_NETWORK):
        with context.store.network_lock():
            if not context.store.networks.find(DEFAULT_NETWORK):
                repair_networks(context, references - {DEFAULT_NETWORK})
                return create(_default_network(specs))
    repair_networks(context, references)
    for reference in _networks_in_vlans(specs):
        if not context.store.networks.get(reference).vlan:
            enable_vlans(context, reference)
    return create(None)


def _create_many(
    context: Context,
    specs: Sequence[ContainerSpec],
    network_spec: NetworkSpec | None,
    *,
    keep_going: bool,
    on_progress: BulkProgress | None,
    is_starting: bool,
) -> Created:
    """Create containers, and with `network_spec` a network for them: reserved together, reverted together."""
    started = time.perf_counter()
    store = context.store
    busy = reserve_network.busy_subnets(context.kernel) if network_spec else []
    owner = store.new_owner()
    reservation, (first, *others) = Reservation(context), _lots(specs)
    with undoing(context, owner) as groups:
        with store.write(is_intent=True):
            networks, network_groups = _reserve_with_network(context, network_spec, busy, owner)
            if others:
                reservation.check(specs)
            containers = _reserve(reservation, first, owner)
            coming = objects_of(context, containers)
            store.set_phase("network", networks, "creating", owner)
        groups.extend(network_groups)
        planned = time.perf_counter()
        create_groups(context, network_groups)
        container_groups: list[Group] = []
        errors = create_groups(
            context,
            recorded(
                chain(coming, _reserve_lots(context, reservation, others, owner, containers)), container_groups, groups
            ),
            keep_going=keep_going,
            on_progress=report(on_progress, len(specs)),
        )
        errors = _fail_sharers(context, containers, container_groups, errors)
        applied = time.perf_counter()
        with store.write():
            store.set_phase("network", networks, "ready")
            store.set_phase("container", [item.id for item in containers], "ready")
            if is_starting:
                store.set_phase("container", [item.id for item in containers], "ready", store.starter())
            failed = [(item, error) for item, error in zip(containers, errors, strict=True) if error]
            if failed:
                store.delete("container", [item.id for item, _ in failed])
    created = [item for item, error in zip(containers, errors, strict=True) if not error]
    created_groups = [group for group, error in zip(container_groups, errors, strict=True) if not error]
    update_linked(context, created, created_groups)
    update_hosts(linked_lines(context, containers) if failed else {}, {})
    update_hosts({}, linked_lines(context, created))
    context.kernel.sysctls.keep()
    if network_spec:
        context.ruleset.let_through(is_thorough=True)
    phases = {"plan": planned - started, "sandboxes": applied - planned, "commit": time.perf_counter() - applied}
    return Created(containers=tuple(created), failed=tuple((item.name, error) for item, error in failed), phases=phases)


def _fail_sharers(
    context: Context, containers: Sequence[Container], groups: Sequence[Group], errors: Sequence[DnetError | None]
) -> list[DnetError | None]:
    """Return the errors, extended by those of containers that share the sandbox of a failed one; remove these."""
    failed = {item.id: item.name for item, error in zip(containers, errors, strict=True) if error}
    extended = list(errors)
    for position, item in enumerate(containers if failed else ()):
        if item.shares in failed:
            sentence = f"container {failed[item.shares]}, whose network {item.name} was to share, failed"
            extended[position] = Conflict(sentence, object=item.name)
    delete_groups(context, [group for group, new, old in zip(groups, extended, errors, strict=True) if new and not old])
    return extended


def plan(context: Context, specs: Sequence[ContainerSpec]) -> list[Object]:
    """Return the objects that `create_many` would create, in order. Nothing is changed."""
    busy = reserve_network.busy_subnets(context.kernel)
    objects: list[Object] = []
    with context.store.write(dry_run=True):
        is_wanted = any(endpoint.network == DEFAULT_NETWORK for spec in specs for endpoint in spec.endpoints)
        is_new = is_wanted and not context.store.networks.find(DEFAULT_NETWORK)
        first = _default_network(specs) if is_new else None
        for group in _reserve_with_network(context, first, busy, "")[1]:
            objects += group
        objects += _planned_vlans(context, specs)
        for group in objects_of(context, _reserve(Reservation(context), specs, "")):
            objects += group
    return objects


def _planned_vlans(context: Context, specs: Sequence[ContainerSpec]) -> list[Object]:
    """Return the objects that enable VLANs on networks where specifications are the first to ask for them."""
    objects: list[Object] = []
    for reference in sorted(_networks_in_vlans(specs)):
        network = context.store.networks.get(reference)
        if not network.vlan:
            backend = DRIVERS[network.driver].vlan_backends[-1]
            aware = replace(network, vlan=DEFAULT_VLAN, vlan_backend=backend)
            context.store.networks.update(aware, "vlan", "vlan_backend")
            present = desired.network(network, is_first=False)
            objects += [item for item in desired.network(aware, is_first=False) if item not in present]
            objects += desired.vlans([aware], context.store.containers.on_network(network.id))
    return list(dict.fromkeys(objects))


def _networks_in_vlans(specs: Sequence[ContainerSpec]) -> set[str]:
    return {endpoint.network for spec in specs for endpoint in spec.endpoints if endpoint.vlans}


def _reserve(reservation: Reservation, specs: Sequence[ContainerSpec], owner: str) -> list[Container]:
    containers = reservation.reserve(specs, owner)
    if owner:
        reservation.names.remove_stale()
    return containers


def _reserve_lots(
    context: Context,
    reservation: Reservation,
    lots_of_specs: Iterable[Sequence[ContainerSpec]],
    owner: str,
    containers: list[Container],
) -> Iterator[Group]:
    """Yield the objects of further lots; each is reserved, and added to `containers`, when its first is asked for."""
    for specs in lots_of_specs:
        with context.store.write(is_intent=True):
            reserved = _reserve(reservation, specs, owner)
            coming = objects_of(context, reserved)
        containers += reserved
        yield from coming


def _reserve_with_network(
    context: Context, spec: NetworkSpec | None, busy: Sequence[IPNetwork], owner: str
) -> tuple[list[str], list[Group]]:
    """Insert a network, if any, so that containers can be reserved on it in the same transaction."""
    if spec is None:
        return [], []
    is_first = not context.store.networks.has_others()
    network = reserve_network.network(context, spec, busy, owner)
    context.store.set_phase("network", [network.id], "ready")
    return [network.id], [desired.network(network, is_first=is_first)]


def delete_many(
    context: Context,
    references: Sequence[str],
    *,
    missing_ok: bool = False,
    force: bool = False,
    running_ok: bool = False,
    on_progress: BulkProgress | None = None,
) -> list[Container]:
    """Remove containers, all or nothing. `force`: also running and shared ones, and without Open vSwitch."""
    prepare(context)
    if not force and context.store.uses_switch():
        check_switch(context, resolve(context, references, missing_ok=missing_ok))
    with context.store.write(is_intent=True):
        resolved = resolve(context, references, missing_ok=missing_ok)
        containers = list({item.id: item for item in resolved}.values())
        context.store.check_not_changing(containers)
        if not force:
            _check_unshared(context, containers)
            if not running_ok:
                _check_idle(context, containers)
        context.store.set_phase("container", [item.id for item in containers], "deleting", context.store.new_owner())
    remove_containers(context, containers, on_progress, force=force)
    return containers


def _check_unshared(context: Context, containers: Sequence[Container]) -> None:
    going = {item.name for item in containers}
    for item in containers:
        sharers = [] if item.shares else context.store.containers.sharers(item.id)
        others = [name for name in sharers if name not in going]
        if others:
            raise Conflict(
                f"container {item.name} shares its network with {', '.join(others)}",
                object=item.name,
                hint="remove those first, or use -f",
            )


def _check_idle(context: Context, containers: Sequence[Container]) -> None:
    for item in containers:
        if item.process and context.runtime.status(item).state == "running":
            raise Conflict(f"container {item.name} is running", object=item.name, hint="stop it before, or use -f")


def resolve(context: Context, references: Sequence[str], *, missing_ok: bool = False) -> list[Container]:
    """Find containers by name, id or id prefix; many at once without a query for each."""
    by_name = {item.name: item for item in context.store.containers.named(references)}
    containers = []
    for reference in references:
        try:
            containers.append(by_name.get(reference) or context.store.containers.get(reference))
        except NotFound:
            if not missing_ok:
                raise
    return containers


def rename(context: Context, reference: str, name: str) -> Container:
    """Give a container another name. Its id, sandbox path and host name stay."""
    check_name(name, "container")
    prepare(context)
    with context.store.write():
        container = context.store.containers.get(reference)
        context.store.check_not_changing([container])
        names = Names(context)
        names.check_free([name])
        lines = linked_lines(context, [container])
        context.store.containers.rename(container.id, name)
        names.remove_stale()
    renamed = replace(
        container,
        name=name,
        links=tuple(replace(link, parent=name) for link in container.links),
        linked_by=tuple(replace(link, child=name) for link in container.linked_by),
    )

    def revert() -> None:
        with context.store.write():
            context.store.containers.rename(container.id, container.name)
        for before, after in zip(_name_links(container), _name_links(renamed), strict=True):
            with suppress(OSError):
                files.rename(after, before)

    with reverting(revert):
        _move_name(context, container, renamed)
    update_hosts(lines, linked_lines(context, [renamed]))
    return renamed


def _move_name(context: Context, container: Container, renamed: Container) -> None:
    for before, after in zip(_name_links(container), _name_links(renamed), strict=True):
        files.rename(before, after)
    [group] = objects_of(context, [renamed])
    aliases = [item for item in group if isinstance(item, NoAutoconf) and item.alias]
    create_in_kernel(context, [aliases])


def refresh_resolvers(context: Context) -> int:
    """Give every container the host's present resolver; return how many files were rewritten."""
    return sum(files.edit(path, partial(host_files.renewed, after=text)) for path, text in outdated_resolvers(context))


def outdated_resolvers(context: Context) -> Iterator[tuple[str, str]]:
    """Yield outdated resolv.conf files that nobody has edited, each with its new text."""
    host = read_host_files()
    if not host.resolv_conf.strip():
        return  # somebody is about to write it
    for item in context.store.containers.all():
        if not item.shares and item.mode != MODE_FOREIGN:
            path = f"{item.files}/resolv.conf"
            before, after = files.read(path), host_files.resolv_conf(item, host.resolv_conf, host.systemd)
            if before != after and host_files.is_untouched(before):
                yield path, after


def _default_network(specs: Sequence[ContainerSpec]) -> NetworkSpec:
    """Return the specification of network `bridge`, created on first use; with VLANs if a container needs them."""
    return NetworkSpec(
        name=DEFAULT_NETWORK, vlan=DEFAULT_VLAN if DEFAULT_NETWORK in _networks_in_vlans(specs) else None
    )


def _lots(specs: Sequence[ContainerSpec]) -> list[Sequence[ContainerSpec]]:
    """Return specifications in lots to be reserved one after the other; in one lot if they refer to each other."""
    names = {spec.name for spec in specs if spec.name}
    references = {spec.shares for spec in specs} | {name for spec in specs for name, _ in spec.links}
    return [specs] if names & references or not specs else list(lots(specs))


def _name_links(container: Container) -> tuple[str, ...]:
    """Return the paths of the symlinks that carry a container's name."""
    return desired.name_path(container.name), f"{desired.ETC_DIRECTORY}/{container.name}"
