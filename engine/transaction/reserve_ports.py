"""Host ports that containers publish, chosen among those that are free."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, ip_address

from dnet.drivers import nat_table
from dnet.errors import Conflict, Exhausted, InvalidRequest
from dnet.linux import listeners
from dnet.linux.kernel import Kernel
from dnet.model.address import IPAddress
from dnet.model.container import Container
from dnet.model.network import Network
from dnet.model.published_port import PortMapping, Publish
from dnet.state.store import Store

ANY = {4: IPv4Address(0), 6: ip_address("::")}
_LAST_PORT = "last_automatic_port"


class HostPorts:
    """Host ports given out inside one transaction; 0.0.0.0 and :: clash with each address of their family.

    A port is held by a container, in the store or served before, or by a process that listens.
    """

    def __init__(self, store: Store, kernel: Kernel) -> None:
        self._store = store
        self._local = kernel.look().local_addresses()
        self._listeners = listeners.listeners(kernel.dump_sockets)
        self._after = store.setting(_LAST_PORT)
        self._given: dict[tuple[str, int], dict[IPAddress, str]] = {}
        # Where the search in a range that several containers share goes on, so that it is walked once.
        self._searches: dict[tuple[object, ...], Iterator[int]] = {}
        self.last_automatic = 0

    def remember(self) -> None:
        """Have the next operation begin behind the last automatic port of this one."""
        if self.last_automatic:
            self._store.set_setting(_LAST_PORT, self.last_automatic)

    def publish(
        self, container: Container, networks: Mapping[str, Network], wanted: Sequence[Publish]
    ) -> tuple[PortMapping, ...]:
        """Return the mappings of a container's `-p`s; each of them one for every address it is bound to.

        `networks` are by id. Raises as `assign` does.
        """
        found: list[PortMapping] = []
        for item in wanted:
            found += self.assign(container.name, item, _bindings(container, networks, item))
        return tuple(sorted(found, key=PortMapping.order))

    def assign(self, name: str, published: Publish, addresses: Sequence[IPAddress]) -> list[PortMapping]:
        """Return the mappings of one `-p` of container `name`, bound to `addresses` of the host.

        Raises InvalidRequest for an address that is not the host's, Conflict for a port in use, and Exhausted when
        none of a range is free.
        """
        for address in addresses:
            if not address.is_unspecified and not address.is_loopback and address not in self._local:
                hint = "publish on an address of the host, or on none for all of them"
                raise InvalidRequest(f"no interface of the host has address {address}", object=str(address), hint=hint)
        mappings = []
        for candidates, container_port in published.pairs():
            if len(candidates) == 1:
                port = candidates[0]
                self._check_free(addresses, published.protocol, port)
            else:
                port = self._search(name, published.protocol, addresses, candidates, container_port)
            taken = self._given.setdefault((published.protocol, port), {})
            for address in addresses:
                taken[address] = name
                mappings.append(PortMapping(address, port, container_port, published.protocol))
        return mappings

    def _check_free(self, addresses: Sequence[IPAddress], protocol: str, port: int) -> None:
        holder = self._holder(addresses, protocol, port)
        if holder is None:
            return
        name = listeners.owner_of(holder) if isinstance(holder, int) else holder  # slow
        raise Conflict(
            f"port {port}/{protocol} on {', '.join(map(str, addresses))} is in use by {name}",
            object=f"{port}/{protocol}",
            hint="choose another host port, or none for an automatic one",
        )

    def _search(
        self, name: str, protocol: str, addresses: Sequence[IPAddress], candidates: range, container_port: int
    ) -> int:
        key = (candidates, protocol, *addresses)
        ports = iter(candidates) if candidates else listeners.automatic_ports(self._after)
        for port in self._searches.setdefault(key, ports):
            if self._holder(addresses, protocol, port) is None:
                if not candidates:
                    self.last_automatic = port
                return port
        span = f"range {candidates[0]}-{candidates[-1]}" if candidates else ""
        raise Exhausted(
            f"no {protocol} port of the {span or 'automatic range (net.ipv4.ip_local_port_range)'} is left for port "
            f"{container_port} of {name}",
            object=name,
            hint="widen the range, or remove containers",
        )

    def _holder(self, addresses: Sequence[IPAddress], protocol: str, port: int) -> str | int | None:
        """Return the container that has a port, or the inode of a process's socket."""
        held: tuple[Mapping[IPAddress, str | int], ...] = (
            self._given.get((protocol, port), {}),
            self._store.containers.port_holders(protocol, port),
            self._listeners.get((protocol, port), {}),
        )
        for holders in held:
            for other, holder in holders.items():
                for address in addresses:
                    is_any = other.is_unspecified or address.is_unspecified
                    if other == address or (is_any and other.version == address.version):
                        return holder
        return None


def _bindings(container: Container, networks: Mapping[str, Network], item: Publish) -> list[IPAddress]:
    """Return the host addresses that a `-p` is bound to; without one, all of each family that the container has."""
    outlet, outlet6 = nat_table.outlet(container, 4), nat_table.outlet(container, 6)
    binding = networks[outlet.network_id].host_binding if outlet else None
    address = item.host_ip or binding
    if address is None:
        return [ANY[4], *([ANY[6]] if outlet6 else [])]
    if address.version == 6 and outlet6 is None:
        name = outlet.network if outlet else "none"
        hint = "make the network with --ipv6, or publish on an IPv4 address"
        raise InvalidRequest(
            f"port cannot be published on {address}: network {name} has no IPv6", object=str(address), hint=hint
        )
    return [address]
