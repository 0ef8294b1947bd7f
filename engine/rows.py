"""What the store's rows mean: networks, endpoints and containers out of columns. Rank 3, pure."""

from __future__ import annotations

import json
import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
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
from typing import Any, NamedTuple, Protocol, TypeVar

from dnet.errors import InvalidRequest, NotFound
from dnet.model import (
    MODE_CONTAINER,
    MODE_FOREIGN,
    Attachment,
    Container,
    Endpoint,
    IPAddress,
    KernelRoute,
    Link,
    Network,
    PortVlans,
    Process,
    Settings,
    StaticRoute,
    Uplink,
)
from dnet.ports import PortMapping
from dnet.values import Value, frozen, replace

T = TypeVar("T", Container, Network)


class Row(Protocol):
    """A row of a query, its columns by name."""

    def __getitem__(self, column: str, /) -> Any: ...


def veth_name(host_index: int) -> str:
    """Return the name of a host interface, derived from its index and as unique as that."""
    return f"veth{host_index:x}"


def _labels(text: str) -> Mapping[str, str]:
    return dict(json.loads(text)) if text != "{}" else {}


class Head(NamedTuple):
    """What a container is called, and whose network it has."""

    id: str
    name: str
    mode: str

    @property
    def shares(self) -> str:
        """The id of the container whose sandbox it has; nothing when it has its own."""
        return _shares(self.mode)


@frozen
class MadeBridge(Value):
    """A bridge that was made because somebody attached to it; `mark` is that of one of Open vSwitch, else empty."""

    device: str
    device_index: int
    mark: str = ""


@frozen
class LeftBehind(Value):
    """A bridge of Open vSwitch, or a port of `bridge`, still in the database that `connection`, as JSON, leads to."""

    name: str
    mark: str
    bridge: str
    connection: str


@frozen
class Adoption(Value):
    """An interface that is, or is being made, a port of a network's bridge; `snapshot` is uplink's.

    `vlans` are those asked for, as `vlans_text` writes them. The phase `trial` is that of one which goes
    back unless somebody confirms it, `restoring` that of one which is being made again, and remembered whether it
    succeeds or not.
    """

    interface: str
    network_id: str
    snapshot: str
    phase: str
    owner: str
    vlans: str = ""


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


def order(interface: str) -> tuple[int, str]:
    """Return a key that sorts a container's interfaces: eth2 before eth10."""
    number = interface.lstrip("abcdefghijklmnopqrstuvwxyz")
    return (int(number), interface) if number.isdecimal() else (1 << 31, interface)


def with_gateways(ends: Sequence[Endpoint], networks: Mapping[str, Network]) -> tuple[Endpoint, ...]:
    """Return a container's endpoints with the gateways of those that the default routes go through.

    As Docker chooses (libnetwork's Sandbox.getGatewayEndpoint): the highest priority, then networks of both
    families, then the first name; for each family by itself, and never an internal network. `networks` are by id.
    """
    if len(ends) == 1 and (ends[0].gateway or networks[ends[0].network_id].internal):
        return tuple(ends)
    able = [end for end in ends if not networks[end.network_id].internal]
    able.sort(key=lambda end: (-end.gateway_priority, end.address6 is None, end.network))
    first = next((end.id for end in able), "")
    first6 = next((end.id for end in able if end.address6), "")
    return tuple(
        _with_gateways(
            end,
            networks[end.network_id].gateway if end.id == first else None,
            networks[end.network_id].gateway6 if end.id == first6 else None,
        )
        for end in sorted(ends, key=lambda end: order(end.interface))
    )


def _with_gateways(end: Endpoint, gateway: IPv4Address | None, gateway6: IPv6Address | None) -> Endpoint:
    is_so = (end.gateway, end.gateway6) == (gateway, gateway6)
    return end if is_so else replace(end, gateway=gateway, gateway6=gateway6)


def with_defaults(container: Container, networks: Mapping[str, Network]) -> Container:
    """Return a container with the default route of each family given to one of its interfaces at most.

    Attachments that ask for it are chosen from before endpoints of the same priority. Into a foreign container only
    what asks for it by a priority above 0 brings a default route.
    """
    is_foreign = container.mode == MODE_FOREIGN
    ends = with_gateways(container.endpoints, networks) if container.endpoints else ()
    if not container.attachments and not is_foreign:
        is_so = all(map(operator.is_, ends, container.endpoints))  # what stays is the same object
        return container if is_so else replace(container, endpoints=ends)
    won: dict[int, str] = {}
    for version in (4, 6):
        able = [item for item in container.attachments if any(way.version == version for way in item.ways)]
        first = max(able, key=lambda item: item.gateway_priority, default=None)
        rivals = [end for end in ends if (end.gateway if version == 4 else end.gateway6)]  # noqa: PLR2004
        if first and all(end.gateway_priority <= first.gateway_priority for end in rivals):
            won[version] = first.id
    kept = [_without_gateways(end, won, is_foreign=is_foreign) for end in ends]
    wired = [
        replace(item, defaults=tuple(version for version, identity in won.items() if identity == item.id))
        for item in sorted(container.attachments, key=lambda item: order(item.interface))
    ]
    return replace(container, endpoints=tuple(kept), attachments=tuple(wired))


def _without_gateways(end: Endpoint, versions: Collection[int], *, is_foreign: bool) -> Endpoint:
    """Return an endpoint without the gateways of families whose default route goes another way."""
    unasked = is_foreign and end.gateway_priority <= 0
    return _with_gateways(
        end,
        None if unasked or 4 in versions else end.gateway,  # noqa: PLR2004
        None if unasked or 6 in versions else end.gateway6,  # noqa: PLR2004
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
        shares = _shares(row["mode"])
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


def _shares(mode: str) -> str:
    """Return the id of the container whose sandbox this one has, also after that one has been removed by force."""
    return mode.removeprefix(MODE_CONTAINER) if mode.startswith(MODE_CONTAINER) else ""


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
