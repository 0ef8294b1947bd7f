"""Diagnosis of the host: what it lacks, what will run out, what is in the way, each with its remedy."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from dnet.drivers.attachment import KINDS
from dnet.drivers.desired import DRIVERS
from dnet.drivers.nat_table import TABLE
from dnet.errors import DnetError, NeedsRoot
from dnet.linux import files, spawn
from dnet.objects.openvswitch import NETDEV, SYSTEM
from dnet.transaction import firewalls
from dnet.transaction.context import Context

BACKLOG_PATH = "/proc/sys/net/core/netdev_max_backlog"
NEIGHBOURS_PATH = "/proc/sys/net/ipv4/neigh/default/gc_thresh3"
FORWARDING_PATH = "/proc/sys/net/ipv4/ip_forward"
BRIDGE_FILTER_PATH = "/proc/sys/net/bridge/bridge-nf-call-iptables"
NEARLY = 0.9


class Diagnosis(NamedTuple):
    """A finding about the host, and what to do about it. `blocks` is in the way of something, `note` worth knowing."""

    level: Literal["ok", "note", "blocks"]
    about: str
    sentence: str
    remedy: str = ""


def findings(context: Context) -> Iterator[Diagnosis]:
    """Yield everything that is found. Nothing is changed."""
    try:
        context.kernel.require_privilege()
    except NeedsRoot as error:
        yield Diagnosis("blocks", "privilege", str(error), error.hint)
        return
    yield _nftables(context)
    yield from _kernel(context)
    yield from _programs()
    yield from _switch(context)
    yield from _limits(context)
    yield from _forwarding(context)


def _nftables(context: Context) -> Diagnosis:
    try:
        has_table = context.nft.has_table(TABLE)
    except DnetError as error:
        return Diagnosis("blocks", "nftables", str(error), error.hint)
    return Diagnosis("ok", "nftables", f"table {TABLE} {'is there' if has_table else 'comes with the first network'}")


def _kernel(context: Context) -> Iterator[Diagnosis]:
    able = context.kernel.has_bridge_vlans()
    how = "bridges filter VLANs themselves" if able else "bridges do not filter VLANs; programs at their ports do"
    yield Diagnosis("ok", "VLANs", how)
    if not os.path.exists("/proc/sys/net/ipv6"):
        yield Diagnosis("note", "IPv6", "this kernel has no IPv6", "networks with --ipv6 need one that has")


def _programs() -> Iterator[Diagnosis]:
    runtime = next(filter(None, map(spawn.find, ("crun", "runc"))), "")
    if runtime:
        yield Diagnosis("ok", "runtime", f"`dnet run` uses {runtime}")
    else:
        remedy = "install crun (Debian's name)"
        yield Diagnosis("note", "runtime", "no OCI runtime is installed, which `dnet run` needs", remedy)
    if runtime and not spawn.find("conmon"):
        yield Diagnosis("note", "conmon", "conmon is not installed, which `dnet run -d` needs", "install conmon")


def _switch(context: Context) -> Iterator[Diagnosis]:
    """Yield what there is to say of Open vSwitch, where something of dnet's is on it or it runs."""
    devices = {net.device: net.name for net in context.store.networks.all() if DRIVERS[net.driver].needs_switch}
    for item in context.store.containers.all():
        devices |= {one.device: "" for one in item.attachments if KINDS[one.kind].needs_switch}
    if not devices and not context.switches.has_local_server():
        return
    try:
        switch = context.switches.open()
        switch.prepare()
        seen, default, kinds = switch.switch(), switch.datapath_type(), switch.bridge_names()
    except DnetError as error:
        yield Diagnosis("blocks" if devices else "note", "Open vSwitch", str(error), error.hint)
        return
    version = f"version {seen.version}, " if seen.version else ""
    sentence = f"{version}datapaths {', '.join(seen.datapath_types)}; networks get {default}"
    yield Diagnosis("ok", "Open vSwitch", sentence)
    yield from _offloads(
        context, {device: name for device, name in devices.items() if device in kinds}, kinds, wants_tso=seen.wants_tso
    )
    if not devices and default == NETDEV and not seen.wants_tso:
        yield _complete_frames("networks will be on", "other_config:userspace-tso-enable is not set")


def _offloads(
    context: Context, devices: Mapping[str, str], kinds: Mapping[str, str], *, wants_tso: bool
) -> Iterator[Diagnosis]:
    """Yield for each bridge who completes frames there, and what is set; `devices` are dnet's, with networks."""
    wish = f"other_config:userspace-tso-enable is {'true' if wants_tso else 'not set'}"
    for device, network in sorted(devices.items()):
        place = f"bridge {device}" + (f" of network {network}" if network else "")
        if kinds[device] == SYSTEM:
            yield Diagnosis("ok", "offloads", f"{place} has the kernel's datapath, and containers all their offloads")
        elif context.kernel.device_index(device) is None:
            yield Diagnosis("note", "offloads", f"the device of {place} is not here", "dnet reconcile")
        elif context.kernel.has_offloads(device):
            done = f"{place} does segmentation offload, and containers leave it to that: {wish}"
            remedy = "" if wants_tso else "its next start is without, and TCP of containers then hangs: set it"
            yield Diagnosis("ok" if wants_tso else "note", "offloads", done, remedy)
        else:
            pending = ", from the next start of ovs-vswitchd on" if wants_tso else ""
            yield _complete_frames(f"{place} is on", wish + pending)


def _limits(context: Context) -> Iterator[Diagnosis]:
    networks = context.store.networks.all()
    sizes = {net.name: len(context.store.networks.member_names(net.id)) for net in networks}
    for net in networks:
        ports_max = DRIVERS[net.driver].ports_max
        if ports_max and sizes[net.name] > NEARLY * ports_max:
            used = f"network {net.name} has {sizes[net.name]} of the {ports_max} ports of a bridge"
            yield Diagnosis("note", "bridge ports", used, "spread containers over several networks")
    largest, total = max(sizes.values(), default=0), sum(sizes.values())
    backlog = files.read_number(BACKLOG_PATH)
    if backlog and largest > NEARLY * backlog:
        yield Diagnosis(
            "note",
            "backlog",
            f"broadcasts to {largest} ports lose copies: net.core.netdev_max_backlog is {backlog}",
            f"sysctl net.core.netdev_max_backlog={2 * largest}",
        )
    neighbours = files.read_number(NEIGHBOURS_PATH)
    if neighbours and total > NEARLY * neighbours:
        yield Diagnosis(
            "note",
            "neighbours",
            f"{total} containers fill the table of neighbours: net.ipv4.neigh.default.gc_thresh3 is {neighbours}",
            f"sysctl net.ipv4.neigh.default.gc_thresh3={4 * total}",
        )
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield Diagnosis("ok", "descriptors", f"{soft} may be open; any number of containers needs fewer than 100")


def _forwarding(context: Context) -> Iterator[Diagnosis]:
    networks = context.store.networks.all()
    if files.read_number(FORWARDING_PATH) != 1 and networks:
        sentence = "IPv4 forwarding is off, so containers reach neither the outside nor other networks"
        yield Diagnosis("blocks", "forwarding", sentence, "sysctl net.ipv4.ip_forward=1")
    else:
        state = "is on" if files.read_number(FORWARDING_PATH) == 1 else "is switched on with the first network"
        yield Diagnosis("ok", "forwarding", f"IPv4 forwarding {state}")
    if files.read_number(BRIDGE_FILTER_PATH) == 1 and any(not net.icc for net in networks):
        yield Diagnosis(
            "note",
            "br_netfilter",
            "on networks with --icc=false, neighbours' published ports cannot be reached: "
            "net.bridge.bridge-nf-call-iptables is 1",
            "sysctl net.bridge.bridge-nf-call-iptables=0, if nothing else on this host needs it",
        )
    if networks:
        for sentence in firewalls.let_through(context.nft, networks, is_thorough=True, dry_run=True):
            what, _, remedy = sentence.partition("; to let it through: ")
            yield Diagnosis("blocks", "firewall", what, remedy)


def _complete_frames(place: str, wish: str) -> Diagnosis:
    return Diagnosis(
        "note",
        "offloads",
        f"{place} the datapath in user space, without segmentation offload ({wish}): containers there send complete "
        "frames, since their offloads of checksums and segmentation are switched off",
        "ovs-vsctl set Open_vSwitch . other_config:userspace-tso-enable=true, then restart ovs-vswitchd: "
        "several times the throughput; before version 3.3 its tunnels then drop TCP",
    )
