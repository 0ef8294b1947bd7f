"""Addresses and subnets: which are free, and which a network or a container may have."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network

from dnet.errors import Conflict, Exhausted, InvalidRequest
from dnet.model.address import IPV4_BYTES, IPAddress, IPNetwork
from dnet.model.network import Network
from dnet.model.network_spec import NetworkSpec

PREFIX_LENGTH_MAX = {4: 30, 6: 126}  # room for a gateway and a container, network and broadcast address apart
# This network, loopback, link-local, multicast, reserved (RFC 6890); for IPv6 also what embeds IPv4.
_NOT_FOR_HOSTS: tuple[IPNetwork, ...] = (
    *map(IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4")),
    *map(IPv6Network, ("::/8", "fe80::/10", "ff00::/8")),
)


def default_pools() -> Iterator[IPv4Network]:
    """Docker's default address pools, in its order (libnetwork/ipamutils)."""
    for second in range(17, 32):
        yield IPv4Network((f"172.{second}.0.0", 16))
    yield from IPv4Network("192.168.0.0/16").subnets(new_prefix=20)


def free_subnet(busy: Iterable[IPNetwork]) -> IPv4Network:
    """Return the first default pool that overlaps none of `busy`."""
    taken = list(busy)
    for pool in default_pools():
        if not any(_overlap(pool, other) for other in taken):
            return pool
    raise Exhausted(
        "every default subnet overlaps a route, a nameserver or a network of dnet's",
        hint="give one with --subnet",
    )


def unique_local_subnet(identity: str) -> IPv6Network:
    """Return the unique local /64 (RFC 4193) whose global id is the first 40 bits of a network's random id."""
    return IPv6Network((bytes([0xFD]) + bytes.fromhex(identity[:10]) + bytes(10), 64))


def _overlap(one: IPNetwork, other: IPNetwork) -> bool:
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.overlaps(other)
    return isinstance(other, IPv6Network) and one.overlaps(other)


def check_subnet(subnet: IPNetwork, networks: Iterable[tuple[str, IPNetwork]], routes: Iterable[IPNetwork]) -> None:
    """Raise unless `subnet` can be a network's: large enough, unicast, overlapping neither networks nor routes."""
    if subnet.prefixlen > PREFIX_LENGTH_MAX[subnet.version]:
        raise InvalidRequest(
            f"subnet {subnet} is too small for a gateway and a container",
            object=str(subnet),
            hint=f"use a prefix length of {PREFIX_LENGTH_MAX[subnet.version]} or less",
        )
    if any(_overlap(subnet, special) for special in _NOT_FOR_HOSTS):
        hint = "use one of RFC 1918, such as 10.1.0.0/16, or of RFC 4193, such as fd00:1::/64"
        raise InvalidRequest(f"subnet {subnet} is not usable for hosts", object=str(subnet), hint=hint)
    for name, other in networks:
        if _overlap(subnet, other):
            hint = "choose another --subnet"
            raise Conflict(f"subnet {subnet} overlaps {other} of network {name}", object=str(subnet), hint=hint)
    for route in routes:
        if _overlap(subnet, route):
            hint = "choose another --subnet, or remove the route"
            raise Conflict(f"subnet {subnet} overlaps the host's route to {route}", object=str(subnet), hint=hint)


def check_gateways(
    spec: NetworkSpec,
    subnet: IPv4Network,
    subnet6: IPv6Network | None,
    gateways: tuple[IPAddress | None, IPAddress | None] = (None, None),
) -> None:
    """Raise unless all addresses of a network lie in its subnets and differ from each other.

    `gateways` are those that it has whatever is asked for.
    """
    seen: dict[IPAddress, str] = {}
    wanted: list[tuple[str, IPAddress]] = [("gateway", gateways[0] or spec.gateway or subnet[1])]
    if subnet6:
        wanted.append(("gateway", gateways[1] or spec.gateway6 or subnet6[1]))
    wanted += [(f"aux-address {key}", address) for key, address in spec.aux_addresses.items()]
    for what, address in wanted:
        _check_host_address(address, subnet if address.version == IPV4_BYTES else subnet6, what)
        if address in seen:
            raise InvalidRequest(f"{what} {address} is the {seen[address]} already", object=str(address))
        seen[address] = what
    if spec.ip_range and not spec.ip_range.subnet_of(subnet):
        raise InvalidRequest(f"ip-range {spec.ip_range} is outside subnet {subnet}", object=str(spec.ip_range))


def _check_host_address(address: IPAddress, subnet: IPNetwork | None, what: str) -> None:
    if subnet is None:
        hint = "make the network with --ipv6"
        raise InvalidRequest(f"{what} {address} needs a network with IPv6", object=str(address), hint=hint)
    if address not in subnet:
        raise InvalidRequest(f"{what} {address} is outside subnet {subnet}", object=str(address))
    if address == subnet.network_address or (subnet.version == 4 and address == subnet.broadcast_address):
        raise InvalidRequest(
            f"{what} {address} is the network or broadcast address of subnet {subnet}", object=str(address)
        )


def check_static(network: Network, address: IPAddress) -> None:
    """Raise unless a container of `network` may have `address` (whether it is free is another question)."""
    subnet = network.subnet if address.version == IPV4_BYTES else network.subnet6
    _check_host_address(address, subnet, "address")
    if address in (network.gateway, network.gateway6):
        raise Conflict(f"address {address} is the gateway of network {network.name}", object=str(address))
    for key, auxiliary in network.aux_addresses.items():
        if address == auxiliary:
            raise Conflict(f"address {address} is aux-address {key} of network {network.name}", object=str(address))


def free_addresses(network: Network, version: int, taken: Collection[int], count: int) -> list[IPAddress]:
    """Return the `count` lowest free addresses of one family; `taken` holds addresses as integers."""
    if version == IPV4_BYTES:
        pool: IPNetwork = network.ip_range or network.subnet
        subnet: IPNetwork = network.subnet
    else:
        assert network.subnet6 is not None  # noqa: S101  the caller asks for a family that the network has
        pool = subnet = network.subnet6
    busy = {int(address) for address in (network.gateway, network.gateway6, *network.aux_addresses.values()) if address}
    busy.update((int(subnet.network_address), int(subnet.broadcast_address)))
    busy.update(taken)
    kind = type(pool.network_address)
    found: list[IPAddress] = []
    for value in range(int(pool.network_address), int(pool.broadcast_address) + 1):
        if len(found) == count:
            break
        if value not in busy:
            found.append(kind(value))
    if len(found) < count:
        fit = f"only {len(found)} fit" if found else "none is left"
        raise Exhausted(
            f"{count} more addresses are needed in {pool} of network {network.name}, but {fit}",
            object=network.name,
            hint="remove containers, or create a network with a larger --subnet",
        )
    return found
