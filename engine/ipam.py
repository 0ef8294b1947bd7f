"""Addresses and subnets: functions over what is taken. Rank 3, pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network

from dnet.errors import Conflict, Exhausted, InvalidRequest
from dnet.model import Network, NetworkSpec

PREFIX_LENGTH_MAX = 30  # a network address, a gateway, one container, a broadcast address
_POINT_TO_POINT = 31  # RFC 3021: no network and broadcast address from here on


def default_pools() -> Iterator[IPv4Network]:
    """Docker's default address pools, in its order (libnetwork/ipamutils)."""
    for second in range(17, 32):
        yield IPv4Network((f"172.{second}.0.0", 16))
    yield from IPv4Network("192.168.0.0/16").subnets(new_prefix=20)


def free_subnet(busy: Iterable[IPv4Network]) -> IPv4Network:
    """Return the first default pool that overlaps none of `busy`."""
    taken = list(busy)
    for pool in default_pools():
        if not any(pool.overlaps(other) for other in taken):
            return pool
    raise Exhausted(
        "every default subnet overlaps a route, a nameserver or a network of dnet's",
        hint="give one with --subnet",
    )


def check_subnet(
    subnet: IPv4Network, networks: Iterable[tuple[str, IPv4Network]], routes: Iterable[IPv4Network]
) -> None:
    """Raise unless `subnet` can be a network's: large enough, unicast, overlapping neither networks nor routes."""
    if subnet.prefixlen > PREFIX_LENGTH_MAX:
        raise InvalidRequest(
            f"subnet {subnet} is too small for a gateway and a container",
            object=str(subnet),
            hint=f"use a prefix length of {PREFIX_LENGTH_MAX} or less",
        )
    if subnet.is_multicast or subnet.is_loopback or subnet.is_reserved or int(subnet.network_address) >> 24 == 0:
        raise InvalidRequest(
            f"subnet {subnet} is not usable for hosts",
            object=str(subnet),
            hint="use one of RFC 1918, such as 10.1.0.0/16",
        )
    for name, other in networks:
        if subnet.overlaps(other):
            raise Conflict(
                f"subnet {subnet} overlaps {other} of network {name}",
                object=str(subnet),
                hint="choose another --subnet",
            )
    for route in routes:
        if subnet.overlaps(route):
            raise Conflict(
                f"subnet {subnet} overlaps the host's route to {route}",
                object=str(subnet),
                hint="choose another --subnet, or remove the route",
            )


def check_gateway(spec: NetworkSpec, subnet: IPv4Network) -> IPv4Address:
    """Return the gateway that `spec` asks for, or the subnet's first address; check what else lies in the subnet."""
    gateway = spec.gateway or subnet[1]
    _check_host_address(gateway, subnet, "gateway")
    if spec.ip_range and not spec.ip_range.subnet_of(subnet):
        raise InvalidRequest(f"ip-range {spec.ip_range} is outside subnet {subnet}", object=str(spec.ip_range))
    for key, address in spec.aux_addresses.items():
        _check_host_address(address, subnet, f"aux-address {key}")
        if address == gateway:
            raise InvalidRequest(f"aux-address {key}={address} is the gateway", object=str(address))
    return gateway


def _check_host_address(address: IPv4Address, subnet: IPv4Network, what: str) -> None:
    if address not in subnet:
        raise InvalidRequest(f"{what} {address} is outside subnet {subnet}", object=str(address))
    if subnet.prefixlen < _POINT_TO_POINT and address in (subnet.network_address, subnet.broadcast_address):
        raise InvalidRequest(
            f"{what} {address} is the network or broadcast address of subnet {subnet}", object=str(address)
        )


def check_static(network: Network, address: IPv4Address) -> None:
    """Raise unless a container of `network` may have `address` (whether it is free is another question)."""
    _check_host_address(address, network.subnet, "address")
    if address == network.gateway:
        raise Conflict(f"address {address} is the gateway of network {network.name}", object=str(address))


def free_addresses(network: Network, taken: Collection[int], count: int) -> list[IPv4Address]:
    """Return the `count` lowest free addresses of the network's range; `taken` holds addresses as integers."""
    pool = network.ip_range or network.subnet
    busy = {int(network.gateway), *(int(address) for address in network.aux_addresses.values())}
    busy.update((int(network.subnet.network_address), int(network.subnet.broadcast_address)))
    busy.update(taken)
    first, last = int(pool.network_address), int(pool.broadcast_address)
    found: list[IPv4Address] = []
    for value in range(first, last + 1):
        if len(found) == count:
            break
        if value not in busy:
            found.append(IPv4Address(value))
    if len(found) < count:
        fit = f"{len(found)} more fit" if found else "none is left"
        raise Exhausted(
            f"{count} addresses are needed in {pool} of network {network.name}, but {fit}",
            object=network.name,
            hint="remove containers, or create a network with a larger --subnet",
        )
    return found


def mac_of(address: IPv4Address) -> str:
    """Return the MAC that goes with an address: 02:42 and its four bytes, as Docker chose them up to release 27.

    An address that changes hands keeps its MAC, so no neighbour cache is ever wrong.
    """
    return "02:42:" + address.packed.hex(":")
