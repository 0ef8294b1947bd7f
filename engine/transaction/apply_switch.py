"""Open vSwitch's part of a change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dnet.errors import DnetError, NotFound
from dnet.objects.grouping import ByKind, by_kind, of_kind
from dnet.objects.links import Veth
from dnet.objects.openvswitch import OvsBridge, OvsMac, OvsPort
from dnet.transaction.context import Context, Group


def create_bridges(context: Context, bridges: Sequence[OvsBridge]) -> None:
    """Create bridges; raise OvsError."""
    if bridges:
        context.unknown_to_switch.clear()
        context.switches.open().create_bridges(bridges)


def create_ports(
    context: Context, groups: Sequence[Group], errors: list[DnetError | None], *, keep_going: bool
) -> None:
    """Create the ports of the groups without an error, in one transaction; put what it refuses into `errors`."""
    owners = [
        (position, item)
        for position, group in enumerate(groups)
        for item in group
        if isinstance(item, OvsPort) and position < len(errors) and not errors[position]
    ]
    if not owners or (any(errors) and not keep_going):
        return
    context.unknown_to_switch.clear()
    refused = context.switches.open().create_ports([item for _, item in owners], keep_going=keep_going)
    for (position, _), error in zip(owners, refused, strict=True):
        errors[position] = errors[position] or error


def leave_switch(context: Context, gone: ByKind, made: ByKind) -> set[str]:
    """Take out of Open vSwitch what gets no successor there, and return the names of the ports that stay."""
    ports, bridges = of_kind(OvsPort, gone), of_kind(OvsBridge, gone)
    veths = {item.device for item in of_kind(Veth, gone)}
    wanted = {item.port for item in of_kind(OvsPort, made)} - veths
    left = {item.bridge for item in of_kind(OvsBridge, made)}
    leaving = [item for item in ports if item.port not in wanted]
    if leaving:
        context.switches.open().delete_ports(leaving)
    removed = [item for item in bridges if item.bridge not in left]
    if removed:
        context.switches.open().delete_bridges(removed)
    return wanted & {item.port for item in ports}


def enter_switch(context: Context, made: Sequence[Group], staying: set[str]) -> None:
    """Create bridges and ports; of the ports `staying`, set what differs in one transaction.

    Raises OvsError.
    """
    kinds = by_kind(made)
    bridges, ports = of_kind(OvsBridge, kinds), of_kind(OvsPort, kinds)
    if bridges:
        context.switches.open().create_bridges(bridges)
    joining = [item for item in ports if item.port not in staying]
    try:
        if len(joining) < len(ports):
            context.switches.open().set_vlans([item for item in ports if item.port in staying])
    except NotFound:  # somebody has removed one
        joining = ports
    if joining:
        context.switches.open().create_ports(joining)


@contextmanager
def keeping_addresses(context: Context, macs: Sequence[OvsMac]) -> Iterator[Sequence[OvsMac]]:
    """Keep what is on the bridges' own devices while Open vSwitch gives them MAC addresses.

    In user space that device is a tap, which has to be down for that (netdev_linux_set_etheraddr), and loses what needs
    it to be up: IPv6 addresses, and routes.
    """
    report = context.kernel.look().report() if macs else None
    try:
        yield macs
    finally:
        from dnet.objects import replay

        links = [report.link(item.bridge) for item in macs] if report else []
        context.kernel.sender.put_back(
            [item for link in links if report and link for item in replay.again(report, link)]
        )
