"""What the store's rows mean: networks, endpoints and containers out of columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Any, Protocol, TypeVar

from dnet.errors import InvalidRequest, NotFound
from dnet.model.address import IPAddress
from dnet.model.attachment import Attachment, KernelRoute, StaticRoute
from dnet.model.container import MODE_FOREIGN, Container, Endpoint, Link, Process, Settings, shared_id
from dnet.model.default_route import with_defaults
from dnet.model.network import Network, Uplink, veth_name
from dnet.model.published_port import PortMapping
from dnet.model.values import replace
from dnet.model.vlan import PortVlans

T = TypeVar("T", Container, Network)


class Row(Protocol):
    """A row of a query, its columns by name."""

    def __getitem__(self, column: str, /) -> Any: ...


def _labels(text: str) -> Mapping[str, str]:
    return dict(json.loads(text)) if text != "{}" else {}


def uplink(row: Row) -> Uplink:
    """Return the uplink of an adoption's row, of whose snapshot `device_index`, `mac` and `takes_mac` are columns."""
    return Uplink(
        interface=row["interface"],
        index=row["device_index"] or 0,
        mac=row["mac"] if row["takes_mac"] else "",
        vlans=_vlans(row["vlans"]) if row["vlans"] else None,
    )


def network(row: Row, uplinks: Iterable[Uplink] = ()) -> Network:
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
        vlan=row["vlan"],
        vlan_backend=row["vlan_backend"],
        owns_device=bool(row["owns_device"]),
        device_mac=row["device_mac"],
        found=tuple(json.loads(row["found"])) if row["found"] != "[]" else (),
        uplinks=tuple(uplinks),
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
        aliases=tuple(json.loads(row["aliases"])) if row["aliases"] != "[]" else (),
        gateway_priority=row["gateway_priority"],
        vlans=_vlans(row["vlans"]),
    )


def vlans_text(vlans: PortVlans | None) -> str:
    """Return the VLANs of a port as a column has them."""
    return json.dumps(vars(vlans)) if vlans else ""


def _vlans(text: str) -> PortVlans | None:
    if not text:
        return None
    fields = json.loads(text)
    return PortVlans(
        access=fields["access"],
        trunk=tuple((first, last) for first, last in fields["trunk"]),
        native=fields["native"],
    )


def attachment(row: Row) -> Attachment:
    """Return the attachment of a row."""
    fields = json.loads(row["details"])
    return Attachment(
        id=row["id"],
        device=row["device"],
        interface=row["interface"],
        host_index=row["host_index"],
        **fields
        | {
            "addresses": tuple(map(ip_interface, fields["addresses"])),
            "gateways": tuple(map(ip_address, fields["gateways"])),
            "vlans": _vlans(fields.get("vlans", "")),
        },
    )


def attachment_details(item: Attachment) -> str:
    """Return what an attachment's row has besides its other columns."""
    columns = {"id", "device", "interface", "host_index", "defaults"}
    fields = {name: value for name, value in vars(item).items() if name not in columns}
    fields |= {name: list(map(str, fields[name])) for name in ("addresses", "gateways")}
    return json.dumps(fields | {"vlans": vlans_text(item.vlans)})


def static_route(row: Row) -> StaticRoute:
    """Return the route of a row."""
    return StaticRoute(
        ip_network(row["destination"]),
        ip_address(row["gateway"]) if row["gateway"] else None,
        row["interface"],
        row["metric"],
        row["device_index"],
    )


def records(found: Sequence[Any]) -> list[Row]:
    """Return rows of one query as dictionaries, in which many columns are found faster by their names."""
    columns = found[0].keys() if found else ()
    return [dict(zip(columns, row, strict=True)) for row in found]


def only(found: Sequence[T], reference: str, what: str) -> T:
    """Return the one that `reference` means; an exact name comes before ids that begin so."""
    if not found:
        hint = f"`dnet {'ps' if what == 'container' else 'network ls'}` lists them"
        raise NotFound(f"there is no {what} {reference}", object=reference, hint=hint)
    if len(found) > 1 and reference not in (found[0].name, found[0].id):
        count = len(found)
        raise InvalidRequest(f"{what} id prefix {reference} is not unique ({count} begin so)", object=reference)
    return found[0]


def containers(
    rows: Iterable[Row],
    ports: Iterable[Row],
    links: Iterable[Row],
    networks: Mapping[str, Network],
    run_directory: str,
    attachments: Iterable[Row] = (),
    routes: Iterable[Row] = (),
) -> list[Container]:
    """Gather joined rows, one per endpoint, and those of all that a container has besides into containers.

    A link's row has `parent`, `child` and `alias`, as `container_id` the end of it that it is for, and for their order
    the parent's `number` and its `position` among the parent's.
    """
    wired: dict[str, list[Attachment]] = {}
    for row in attachments:
        wired.setdefault(row["container_id"], []).append(attachment(row))
    ways: dict[str, list[StaticRoute]] = {}
    for row in routes:
        ways.setdefault(row["container_id"], []).append(static_route(row))
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
    ends_of_links: dict[str, list[Link]] = {}
    for row in sorted(links, key=lambda row: (row["number"], row["position"])):
        ends_of_links.setdefault(row["container_id"], []).append(Link(row["parent"], row["child"], row["alias"]))
    made = []
    for identity, row in heads.items():
        name, ends_of = row["name"], ends_of_links.get(identity, ())
        shares = shared_id(row["mode"])
        place = (shares or identity)[:12]
        one = Container(
            id=identity,
            name=name,
            mode=row["mode"],
            sandbox=f"{run_directory}/netns/{place}",
            files=f"{run_directory}/etc/{place}",
            settings=_settings(row["settings"]),
            created=float(row["created"]),
            status="created",
            mtu=row["mtu"],
            labels=_labels(row["labels"]),
            publish_all=bool(row["publish_all"]),
            exposed=_exposed(row["exposed"]),
            ports=tuple(sorted(published.get(identity, ()), key=PortMapping.order)),
            endpoints=tuple(endpoints[identity]),
            shares=shares,
            process=_process(row["process"]) if row["process"] else None,
            links=tuple([link for link in ends_of if link.parent == name]),
            linked_by=tuple([link for link in ends_of if link.child == name]),
            attachments=tuple(wired.get(identity, ())),
            routes=tuple(ways.get(identity, ())),
            displaced=_displaced(row["displaced"]),
            target=_labels(row["target"] or "{}"),
        )
        made.append(with_defaults(_at_target(one), networks))
    return made


def _at_target(container: Container) -> Container:
    if container.mode != MODE_FOREIGN:
        return container
    return replace(container, sandbox=container.target["path"], files="")


def _displaced(text: str) -> tuple[KernelRoute, ...]:
    return tuple(KernelRoute(**fields) for fields in json.loads(text)) if text != "[]" else ()


def _process(text: str) -> Process:
    fields = json.loads(text)
    fields["args"] = tuple(fields["args"])
    fields["env"] = tuple((key, value) for key, value in fields["env"])
    return Process(**fields)


@lru_cache(maxsize=64)
def _exposed(text: str) -> tuple[tuple[int, str], ...]:
    return tuple((port, protocol) for port, protocol in json.loads(text))


@lru_cache(maxsize=64)
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
