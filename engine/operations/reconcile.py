"""Comparison of the store with the host, and repair of what is missing.

Compared are devices of networks, sandboxes, host interfaces of endpoints, files, names, and elements of the table.
Nothing is removed unless it is stored as half made. After a reboot everything is missing, and is created as a bulk is.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from functools import partial

from dnet.drivers import desired, host_files, nat_table
from dnet.drivers.attachment import KINDS
from dnet.drivers.desired import DRIVERS
from dnet.drivers.nat_table import TABLE
from dnet.errors import DnetError
from dnet.linux import files
from dnet.model.container import MODE_FOREIGN, Container
from dnet.model.network import Network
from dnet.model.values import replace
from dnet.objects.host import Directory, File, NatElement, NftTable, Symlink
from dnet.objects.links import PortOf
from dnet.objects.object import Object
from dnet.objects.openvswitch import OvsBridge, OvsPort
from dnet.objects.sandbox import Sandbox
from dnet.operations import reattach, uplinks
from dnet.operations.containers import delete_many, outdated_resolvers
from dnet.operations.reattach import Finding
from dnet.transaction.apply import create_groups, delete_groups
from dnet.transaction.apply_rules import create_rules
from dnet.transaction.containers import change_containers, objects_of
from dnet.transaction.context import Context
from dnet.transaction.networks import is_made, repair_networks, repair_ports
from dnet.transaction.recovery import prepare
from dnet.transaction.vlans import missing_vlans, repair_vlans


def run(context: Context, *, dry_run: bool) -> list[Finding]:
    """Find what is missing, and make it again unless it is a dry run."""
    if not dry_run:
        prepare(context)
        reattach.find_devices(context)  # sandboxes are made with their indexes, which may have changed
    findings = _run(context, dry_run=dry_run)
    return findings + reattach.refresh(context, dry_run=dry_run)


def _run(context: Context, *, dry_run: bool) -> list[Finding]:
    networks = context.store.networks.all()
    containers = [item for item in context.store.containers.all() if item.mode != MODE_FOREIGN]
    rules = _missing_rules(context, networks, containers)
    findings = _out_of_reach(context, networks, containers)
    if findings:  # the others can still be compared
        unreachable = {net.id for net in networks if DRIVERS[net.driver].needs_switch}
        networks = [net for net in networks if net.id not in unreachable]
        containers = [item for item in containers if not _is_on(item, unreachable)]
    findings += [Finding(f"removal of {what}", error) for what, error in context.left_over]
    findings += [Finding(*item) for item in context.switches.collect(dry_run=dry_run)]
    findings += [Finding(f"device {net.device} of network {net.name}") for net in networks if not is_made(context, net)]
    table = [rule for rule in rules if isinstance(rule, NftTable)]
    findings += [Finding(str(rule)) for rule in table or rules]
    findings += [Finding(what) for what in uplinks.missing_uplinks(context)]
    outdated = list(outdated_resolvers(context))
    findings += [Finding(f"file {path}") for path, _ in outdated]
    lost = [item for item in containers if not item.shares and not os.path.ismount(item.sandbox)]
    whole = [item for item in containers if item not in lost]
    findings += [Finding(f"sandbox of container {item.name}") for item in lost]
    findings += [
        Finding(f"{interface} of container {item.name}")
        for item in whole
        for interface in _missing_interfaces(context, item)
    ]
    findings += [Finding(str(item)) for item in _missing_files(context, whole)]
    ports = repair_ports(context, networks, dry_run=True)
    findings += [Finding(str(item)) for item in ports if isinstance(item, (PortOf, OvsBridge, OvsPort))]
    findings += [Finding(str(item)) for item in missing_vlans(context)]
    spent = [item for item in containers if _is_spent(context, item)]
    findings += [Finding(f"removal of container {item.name}, which has no process any more") for item in spent]
    if dry_run or not findings:
        return findings
    for path, text in outdated:
        files.edit(path, partial(host_files.renewed, after=text))
    if spent:
        removed = {item.id for item in delete_many(context, [one.id for one in spent], missing_ok=True, force=True)}
        lost, whole = ([item for item in items if item.id not in removed] for items in (lost, whole))
    return _repair(context, findings, networks, rules, lost, whole)


def _is_spent(context: Context, container: Container) -> bool:
    """Return whether a container that is removed with its process has none any more, or never had one."""
    if not container.process or not container.process.removes_itself:
        return False
    runtime = context.runtime
    if context.store.is_start_abandoned(container.id) and not runtime.is_begun(container):
        return True
    return runtime.status(container).state == "exited"


def _repair(
    context: Context,
    findings: Sequence[Finding],
    networks: Sequence[Network],
    rules: Sequence[Object],
    lost: Sequence[Container],
    whole: Sequence[Container],
) -> list[Finding]:
    failed: list[Finding] = []
    for network in networks:
        try:
            repair_networks(context, [network.name], with_advice=False)
        except DnetError as error:  # such as a bridge that is not dnet's to make
            failed.append(Finding(f"device {network.device} of network {network.name}", error))
    failed += [Finding(what, error) for what, error in uplinks.restore_uplinks(context) if error]
    reachable = {net.id for net in networks}
    repair_ports(context, [net for net in context.store.networks.all() if net.id in reachable])
    repair_vlans(context)
    create_rules(context, rules)
    if lost:
        groups = list(objects_of(context, lost))
        delete_groups(context, groups)
        errors = create_groups(context, groups, keep_going=True)
        failed += [
            Finding(f"sandbox of container {item.name}", error)
            for item, error in zip(lost, errors, strict=True)
            if error
        ]
    for item in whole:
        missing = set(_missing_interfaces(context, item))
        try:
            if missing:
                kept = tuple(one for one in item.endpoints if one.interface not in missing)
                change_containers(context, [replace(item, endpoints=kept)], [item])
            files.create(_missing_files(context, [item]))
        except DnetError as error:
            failed.append(Finding(f"container {item.name}", error))
    context.kernel.sysctls.keep()
    broken = {item.what for item in failed}
    return [item for item in findings if item.what not in broken] + failed


def _out_of_reach(context: Context, networks: Sequence[Network], containers: Sequence[Container]) -> list[Finding]:
    """Return what is on Open vSwitch if that cannot be reached, each with the error."""
    on_switch = [f"network {net.name}" for net in networks if DRIVERS[net.driver].needs_switch]
    on_switch += [f"interfaces of container {item.name}" for item in containers if _is_on(item, ())]
    try:
        if on_switch:
            context.switches.open().prepare()
    except DnetError as error:
        return [Finding(what, error) for what in on_switch]
    return []


def _missing_interfaces(context: Context, container: Container) -> list[str]:
    """Return the interfaces of a container whose host interface is gone."""
    is_device = context.kernel.is_device
    return [item.interface for item in container.endpoints if not is_device(item.host_index, item.host_interface)]


def _missing_files(context: Context, containers: Sequence[Container]) -> list[Object]:
    """Return the files and names that are missing, names of sandboxes included."""
    missing: list[Object] = []
    for group in objects_of(context, containers):
        for item in group:
            if isinstance(item, (Directory, File, Symlink)) and not os.path.lexists(item.path):
                missing.append(item)
            elif isinstance(item, Sandbox) and not os.path.lexists(item.name_path):
                missing.append(Symlink(item.name_path, item.path))
    return missing


def _missing_rules(context: Context, networks: Sequence[Network], containers: Sequence[Container]) -> list[Object]:
    rules = list(desired.rules(networks, containers)) if networks else []
    nft = context.nft
    if not rules or not nft.has_table(TABLE) or not nft.json(f"list chain {TABLE} forward", "rule"):
        return rules
    kinds = [("map", name) for name in nat_table.MAPS] + [("set", name) for name in nat_table.SETS]
    used = {rule.set_name for rule in rules if isinstance(rule, NatElement)}
    present = {
        (name, nat_table.key_of(name, element.key))
        for kind, name in kinds
        if name in used
        for element in nft.elements(TABLE, kind, name)
    }
    return [
        rule
        for rule in rules
        if isinstance(rule, NatElement) and (rule.set_name, rule.key.replace('"', "")) not in present
    ]


def _is_on(container: Container, networks: Collection[str]) -> bool:
    """Return whether a container is on one of some networks, given by id, or attached to Open vSwitch."""
    on_network = any(endpoint.network_id in networks for endpoint in container.endpoints)
    return on_network or any(KINDS[item.kind].needs_switch for item in container.attachments)
