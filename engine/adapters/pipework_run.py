"""Command lines of pipework, run by calls of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dnet.adapters import pipework
from dnet.errors import InvalidRequest, NotFound, Unsupported
from dnet.model import attachment_spec
from dnet.model.attachment_spec import AttachmentSpec

if TYPE_CHECKING:
    from dnet.engine import Engine
    from dnet.model.host_link import HostLink


def run(engine: Engine, words: Sequence[str]) -> int:
    """Run a command line, given without the word `pipework`; return its exit status."""
    link = engine.host_link(pipework.host_interface(words))
    is_ipoib = bool(link and link.is_infiniband)
    command = pipework.parse(words, exists=link is not None, is_ipoib=is_ipoib)
    match command:
        case pipework.Tool():
            return _run_tool(engine, command)
        case pipework.Attach():
            engine.attach(command.guest, _specification(command, link))
            return 0
        case _:
            raise InvalidRequest("--wait is for the inside of a container", hint="`dnet pipework --wait` alone")


def _specification(command: pipework.Attach, link: HostLink | None) -> AttachmentSpec:
    kind = pipework.kind_of(
        command.host_interface,
        exists=link is not None,
        is_bridge=bool(link and link.is_bridge),
        is_ovs=bool(link and link.is_switch),
        is_ipoib=bool(link and link.is_infiniband),
    )
    pipework.check(command, kind)
    if kind is pipework.Kind.IPOIB:
        raise Unsupported(f"{command.host_interface} is InfiniBand, to which dnet does not attach by hand")
    how = command.addressing
    static = how if isinstance(how, pipework.Static) else pipework.Static(None, None, 4)
    device = link.name if link else command.host_interface
    is_switch = kind is pipework.Kind.OVS  # which does not move, also when that is asked for
    is_bridge = is_switch or (kind is pipework.Kind.BRIDGE and not command.is_direct)
    is_dummy = kind is pipework.Kind.DUMMY
    spec = AttachmentSpec(
        bridge=device if is_bridge else "",
        direct=device if command.is_direct and not is_switch else "",
        dummy=is_dummy and not command.is_direct,
        macvlan=device if not (is_bridge or command.is_direct or is_dummy) else "",
        interface=command.interface,
        addresses=[static.address] if static.address else [],
        gateways=[static.gateway] if static.gateway else [],
        mac=command.mac,
        vlan=command.vlan or None,
        dhcp=isinstance(how, pipework.Dhcp),
        hostname=how.hostname if isinstance(how, pipework.Dhcp) else "",  # or else the container's name
        host_interface=command.host_end if is_bridge else "",
    )
    return spec.on_switch() if is_switch else spec


def _run_tool(engine: Engine, command: pipework.Tool) -> int:
    """Run `ip route`, `ip rule` or `tc` in a container. Routes that the engine understands are stored."""
    if command.name == "route" and _change_route(engine, command):
        return 0
    program = [command.name] if command.name == "tc" else ["ip", command.name]
    try:
        return engine.run_inside(command.guest, [*program, *command.arguments])
    except FileNotFoundError as error:
        hint = "it is in the package iproute2"
        raise Unsupported(f"this host has no program {program[0]}", object=program[0], hint=hint) from error


def _change_route(engine: Engine, command: pipework.Tool) -> bool:
    """Add or delete a route by the engine, if that understands it; return whether it has done so."""
    verb, *words = command.arguments
    if verb not in {"add", "del", "delete"}:
        return False
    try:
        route = attachment_spec.parse_route(words)
    except InvalidRequest:
        return False
    if verb == "add":
        engine.add_route(command.guest, route)
        return True
    try:
        is_known = engine.has_route(command.guest, route)
    except NotFound:
        return False
    if is_known:
        engine.delete_route(command.guest, route)
    return is_known
