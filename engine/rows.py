"""What the store's rows mean: networks, endpoints and containers out of columns. Rank 3, pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_address
from typing import Any, Protocol

from dnet.model import Container, Endpoint, IPAddress, Network, Settings
from dnet.ports import PortMapping


class Row(Protocol):
    """A row of a query, its columns by name."""

    def __getitem__(self, column: str, /) -> Any: ...


def veth_name(host_index: int) -> str:
    """Return the name of a host interface, derived from its index and as unique as that."""
    return f"veth{host_index:x}"


def _labels(text: str) -> Mapping[str, str]:
    return dict(json.loads(text)) if text != "{}" else {}


def network(row: Row) -> Network:
    """Return the network of a row."""
    return Network(
        id=row["id"],
        name=row["name"],
        driver=row["driver"],
        subnet=IPv4Network(row["subnet"]),
        gateway=IPv4Address(row["gateway"]),
        ip_range=IPv4Network(row["ip_range"]) if row["ip_range"] else None,
        subnet6=IPv6Network(row["subnet6"]) if row["subnet6"] else None,
        gateway6=IPv6Address(row["gateway6"]) if row["gateway6"] else None,
        aux_addresses={key: ip_address(value) for key, value in _labels(row["aux_addresses"]).items()},
        internal=bool(row["internal"]),
        icc=bool(row["icc"]),
        masquerade=bool(row["masquerade"]),
        host_binding=ip_address(row["host_binding"]) if row["host_binding"] else None,
        snat=IPv4Address(row["snat"]) if row["snat"] else None,
        snat6=IPv6Address(row["snat6"]) if row["snat6"] else None,
        mtu=row["mtu"],
        device=row["device"],
        device_index=row["device_index"],
        labels=_labels(row["labels"]),
        options=_labels(row["options"]),
        created=float(row["created"]),
    )


def _endpoint(row: Row, network: Network) -> Endpoint:
    address6 = None
    if row["address6"] and network.subnet6:
        address6 = IPv6Interface((row["address6"], network.subnet6.prefixlen))
    return Endpoint(
        id=row["endpoint_id"],
        network_id=network.id,
        network=network.name,
        interface=row["interface"],
        address=IPv4Interface((row["address"], network.subnet.prefixlen)),
        gateway=None if network.internal else network.gateway,
        address6=address6,
        gateway6=network.gateway6 if address6 and not network.internal else None,
        mac=row["mac"],
        host_index=row["host_index"],
        host_interface=veth_name(row["host_index"]),
    )


def containers(
    rows: Iterable[Row],
    ports: Iterable[Row],
    networks: Mapping[str, Network],
    run_directory: str,
) -> list[Container]:
    """Gather joined rows, one per endpoint, and the published ports into containers."""
    endpoints: dict[str, list[Endpoint]] = {}
    heads: dict[str, Row] = {}
    for row in rows:
        heads.setdefault(row["id"], row)
        members = endpoints.setdefault(row["id"], [])
        if row["endpoint_id"] is not None:
            members.append(_endpoint(row, networks[row["network_id"]]))
    published: dict[str, list[PortMapping]] = {}
    for row in ports:
        mapping = PortMapping(_host_ip(row["host_ip"]), row["host_port"], row["container_port"], row["protocol"])
        published.setdefault(row["container_id"], []).append(mapping)
    return [
        Container(
            id=identity,
            name=row["name"],
            mode=row["mode"],
            sandbox=f"{run_directory}/netns/{identity[:12]}",
            files=f"{run_directory}/etc/{identity[:12]}",
            settings=_settings(row["settings"]),
            created=float(row["created"]),
            status="created",
            mtu=row["mtu"],
            labels=_labels(row["labels"]),
            publish_all=bool(row["publish_all"]),
            exposed=tuple((port, protocol) for port, protocol in json.loads(row["exposed"])),
            ports=tuple(sorted(published.get(identity, ()), key=PortMapping.order)),
            endpoints=tuple(sorted(endpoints[identity], key=lambda end: end.interface)),
        )
        for identity, row in heads.items()
    ]


def _settings(text: str) -> Settings:
    fields = json.loads(text)
    return Settings(
        hostname=fields["hostname"],
        domainname=fields["domainname"],
        dns=tuple(fields["dns"]),
        dns_search=tuple(fields["dns_search"]),
        dns_options=tuple(fields["dns_options"]),
        extra_hosts=tuple((name, address) for name, address in fields["extra_hosts"]),
    )


@lru_cache(maxsize=64)
def _host_ip(text: str) -> IPAddress:
    return ip_address(text)
