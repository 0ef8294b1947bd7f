"""What pipework's command lines say, done."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dnet.adapters import pipework
from dnet.errors import InvalidRequest, NotFound, Unsupported
from dnet.linux import namespaces
from dnet.model import attachment_spec
from dnet.model.attachment_spec import AttachmentSpec
from dnet.model.container import Container
from dnet.objects.observed import INFINIBAND, Link
from dnet.operations.attachments import Attaching
from dnet.operations.routes import Routing
from dnet.operations.targets import Foreign
from dnet.transaction.context import Writer


class Plumbing:
    """pipework's words."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def run(self, words: Sequence[str]) -> int:
        """Do what a command line says, `pipework` itself left out; return its exit status."""
        self._writer.prepare()
        name = pipework.host_interface(words)
        link = self._link(name)
        is_ipoib = bool(link and link.type == INFINIBAND)
        command = pipework.parse(words, exists=link is not None, is_ipoib=is_ipoib)
        match command:
            case pipework.Tool():
                return self._run_tool(command)
            case pipework.Attach():
                Attaching(self._writer).attach([command.guest], self._specification(command, link))
                return 0
            case _:
                raise InvalidRequest("--wait is for the inside of a container", hint="`dnet pipework --wait` alone")

    def _link(self, name: str) -> Link | None:
        """Return the host's interface of a name, or with `mac:` the one of a MAC address."""
        if name.startswith("mac:"):
            mac = name.removeprefix("mac:").lower().replace("-", ":")
            links = self._writer.kernel.look().links()
            return next((link for link in links if link.mac == mac and not link.master), None)
        return self._writer.kernel.link(name) if name and len(name) <= pipework.INTERFACE_CHARACTERS_MAX else None

    def _specification(self, command: pipework.Attach, link: Link | None) -> AttachmentSpec:
        kind = pipework.kind_of(
            command.host_interface,
            exists=link is not None,
            is_bridge=bool(link and link.kind == "bridge"),
            is_ovs=bool(link and self._writer.switches.has_bridge(link)),
            is_ipoib=bool(link and link.type == INFINIBAND),
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
        return spec.of_kind("ovs") if is_switch else spec

    # route, rule, tc

    def _run_tool(self, command: pipework.Tool) -> int:
        """Run `ip route`, `ip rule` or `tc` in a container; routes that dnet understands are remembered."""
        if command.name == "route" and self._route(command):
            return 0
        container = Foreign(self._writer).find(command.guest)
        program = [command.name] if command.name == "tc" else ["ip", command.name]
        with _opened(container) as descriptor:
            try:
                return namespaces.call(
                    descriptor, lambda: subprocess.run([*program, *command.arguments], check=False).returncode
                )
            except FileNotFoundError as error:
                hint = "it is in the package iproute2"
                raise Unsupported(f"this host has no program {program[0]}", object=program[0], hint=hint) from error

    def _route(self, command: pipework.Tool) -> bool:
        """Add or take away a route if dnet understands it; return whether it has."""
        verb, *words = command.arguments
        if verb not in {"add", "del", "delete"}:
            return False
        try:
            way = attachment_spec.parse_route(words)
        except InvalidRequest:
            return False
        routing = Routing(self._writer)
        if verb == "add":
            routing.add(command.guest, way)
            return True
        try:
            is_known = routing.has(command.guest, way)
        except NotFound:
            return False
        if is_known:
            routing.delete(command.guest, way)
        return is_known


@contextmanager
def _opened(container: Container) -> Iterator[int]:
    """Open a container's namespace for a while."""
    import os

    from dnet.runtime import targets

    if container.target:
        with targets.opened(targets.Target(**container.target)) as descriptor:
            yield descriptor
        return
    descriptor = namespaces.open_namespace(container.sandbox)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
