"""Compares what the store says with what there is, and makes again what is missing.

Looked at are the devices of networks, sandboxes, the host ends of endpoints, files, names, and the elements of the
table; nothing is removed that is not on record as half made. After a reboot everything is missing, and is built as a
bulk is.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from dnet.drivers import desired, host_files, nat_table
from dnet.drivers.nat_table import TABLE
from dnet.errors import DnetError
from dnet.linux import files
from dnet.model.container import MODE_FOREIGN, Container
from dnet.model.network import Network
from dnet.model.values import replace
from dnet.objects.host import Directory, File, NatElement, NftTable, Symlink
from dnet.objects.links import Membership
from dnet.objects.object import Object
from dnet.objects.openvswitch import OvsBridge, OvsPort
from dnet.objects.sandbox import Sandbox
from dnet.operations.containers import Containers
from dnet.operations.networks import Networks
from dnet.transaction.context import Writer


class Finding(NamedTuple):
    """Something that was missing: what it is, and why it could not be made again, or nothing."""

    what: str
    error: DnetError | None = None


class Reconciliation:
    """One comparison of a whole engine with its host."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._store = writer.store

    def run(self, *, is_dry_run: bool) -> list[Finding]:
        """Find what is missing, and make it again unless it is a dry run."""
        if not is_dry_run:
            self._writer.prepare()
        networks = self._store.networks()
        containers = [item for item in self._store.containers() if item.mode != MODE_FOREIGN]
        rules = self._missing_rules(networks, containers)
        findings = self._out_of_reach(networks, containers)
        if findings:  # what is on the others can be looked at
            away = {net.id for net in networks if net.driver == "ovs"}
            networks = [net for net in networks if net.id not in away]
            containers = [item for item in containers if not _is_on(item, away)]
        findings += [Finding(f"removal of {what}", error) for what, error in self._writer.left_over]
        findings += [Finding(*item) for item in self._writer.switches.collect(is_dry_run=is_dry_run)]
        findings += [Finding(text) for text in self._missing_of_networks(networks)]
        table = [rule for rule in rules if isinstance(rule, NftTable)]
        findings += [Finding(str(rule)) for rule in table or rules]
        findings += [Finding(what) for what in Networks(self._writer).missing_uplinks()]
        outdated = list(Containers(self._writer).outdated_resolvers())
        findings += [Finding(f"file {path}") for path, _ in outdated]
        lost = [item for item in containers if not item.shares and not os.path.ismount(item.sandbox)]
        whole = [item for item in containers if item not in lost]
        findings += [Finding(f"sandbox of container {item.name}") for item in lost]
        findings += [Finding(f"{end} of container {item.name}") for item in whole for end in self._missing_ends(item)]
        findings += [Finding(str(item)) for item in self._missing_files(whole)]
        strays = self._writer.mend_ports(networks, is_dry_run=True)
        findings += [Finding(str(item)) for item in strays if isinstance(item, (Membership, OvsBridge, OvsPort))]
        findings += [Finding(str(item)) for item in self._writer.missing_vlans()]
        spent = [item for item in containers if self._is_spent(item)]
        findings += [Finding(f"removal of container {item.name}, which has no process any more") for item in spent]
        if is_dry_run or not findings:
            return findings
        for path, text in outdated:
            files.edit(path, partial(host_files.renewed, after=text))
        if spent:
            gone = Containers(self._writer).delete_many([item.id for item in spent], is_missing_ok=True, is_forced=True)
            lost, whole = (
                [item for item in items if item.id not in {one.id for one in gone}] for items in (lost, whole)
            )
        return self._repair(findings, networks, rules, lost, whole)

    def _is_spent(self, container: Container) -> bool:
        """Whether a container that was to go with its process is there without it: that has ended, or never came."""
        if not container.process or not container.process.removes_itself:
            return False
        runtime = self._writer.runtime()
        if self._store.is_forsaken(container.id) and not runtime.is_begun(container):
            return True
        return runtime.status(container).state == "exited"

    def _repair(
        self,
        findings: Sequence[Finding],
        networks: Sequence[Network],
        rules: Sequence[Object],
        lost: Sequence[Container],
        whole: Sequence[Container],
    ) -> list[Finding]:
        writer = self._writer
        failed: list[Finding] = []
        for network in networks:
            try:
                writer.mend_networks([network.name], with_advice=False)
            except DnetError as error:  # such as a bridge that is not dnet's to make
                failed.append(Finding(f"device {network.device} of network {network.name}", error))
        failed += [Finding(what, error) for what, error in Networks(writer).restore_uplinks() if error]
        reachable = {net.id for net in networks}
        writer.mend_ports([net for net in self._store.networks() if net.id in reachable])
        writer.mend_vlans()
        writer.applier.create_rules(rules)
        if lost:
            groups = list(writer.groups(lost))
            writer.applier.delete(groups)
            errors = writer.applier.create(groups, keep_going=True)
            failed += [
                Finding(f"sandbox of container {item.name}", error)
                for item, error in zip(lost, errors, strict=True)
                if error
            ]
        for item in whole:
            missing = set(self._missing_ends(item))
            try:
                if missing:
                    kept = tuple(end for end in item.endpoints if end.interface not in missing)
                    writer.change([replace(item, endpoints=kept)], [item])
                writer.applier.create_files(self._missing_files([item]))
            except DnetError as error:
                failed.append(Finding(f"container {item.name}", error))
        writer.kernel.keep_switches()
        broken = {item.what for item in failed}
        return [item for item in findings if item.what not in broken] + failed

    # Looking

    def _out_of_reach(self, networks: Sequence[Network], containers: Sequence[Container]) -> list[Finding]:
        """Return the networks, and what is attached by hand, on an Open vSwitch that cannot be asked; and why."""
        on_switch = [f"network {net.name}" for net in networks if net.driver == "ovs"]
        on_switch += [f"interfaces of container {item.name}" for item in containers if _is_on(item, ())]
        try:
            if on_switch:
                self._writer.switches.open().prepare()
        except DnetError as error:
            return [Finding(what, error) for what in on_switch]
        return []

    def _missing_of_networks(self, networks: Sequence[Network]) -> Iterator[str]:
        for network in networks:
            if not self._writer.is_made(network):
                yield f"device {network.device} of network {network.name}"

    def _missing_ends(self, container: Container) -> list[str]:
        """Return the interfaces of a container whose host end is gone."""
        is_device = self._writer.kernel.is_device
        return [end.interface for end in container.endpoints if not is_device(end.host_index, end.host_interface)]

    def _missing_files(self, containers: Sequence[Container]) -> list[Object]:
        """Return the files and names that are gone; a sandbox's own name with them."""
        found: list[Object] = []
        for group in self._writer.groups(containers):
            for item in group:
                if isinstance(item, (Directory, File, Symlink)) and not os.path.lexists(item.path):
                    found.append(item)
                elif isinstance(item, Sandbox) and not os.path.lexists(item.name_path):
                    found.append(Symlink(item.name_path, item.path))
        return found

    def _missing_rules(self, networks: Sequence[Network], containers: Sequence[Container]) -> list[Object]:
        rules = list(desired.rules(networks, containers)) if networks else []
        nft = self._writer.nft
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
    """Whether a container is on one of some networks, by their ids, or attached to Open vSwitch by hand."""
    on_network = any(end.network_id in networks for end in container.endpoints)
    return on_network or any(item.kind == "ovs" for item in container.attachments)
