"""Containers and networks as Docker's documents, and Docker's dotted templates over them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from dnet.errors import InvalidRequest, NotFound
from dnet.model.address import IPAddress, IPInterface
from dnet.model.attachment import Attachment
from dnet.model.container import MODE_CONTAINER, Container, Endpoint
from dnet.model.network import Network
from dnet.model.published_port import PortMapping, parse_expose
from dnet.model.vlan import PortVlans

Document = dict[str, Any]

_PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_PATH = re.compile(r"(?:\.|(?:\.[A-Za-z0-9_-]+)+)\Z")
# Docker's names for an address, its prefix length and the gateway.
_IPV4_FIELDS = ("IPAddress", "IPPrefixLen", "Gateway")
_IPV6_FIELDS = ("GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPv6Gateway")
# Fields of a document that are a network's attributes, as text.
_BRIEF_NETWORK = ("name", "id", "driver", "subnet", "subnet6", "gateway", "device")


def timestamp(seconds: float) -> str:
    """Return a time as RFC 3339, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def container_document(container: Container, networks: Iterable[Network]) -> Document:
    """Return what `inspect` prints of a container, with Docker's field names; `networks` has all that it is on."""
    known = {net.id: net for net in networks}
    first = _first(container)
    process, settings = container.process, container.settings
    return {
        "Id": container.id,
        "Name": container.name,
        "Created": timestamp(container.created),
        "State": {
            "Status": container.status.partition(" ")[0],
            "Running": container.status == "running",
            "Pid": container.pid,
            "ExitCode": container.exit_code or 0,
        },
        "Config": {
            "Hostname": settings.hostname,
            "Domainname": settings.domainname,
            "Env": [f"{key}={value}" for key, value in process.env] if process else [],
            "Cmd": list(process.args) if process else None,
            "WorkingDir": process.workdir if process else "",
            "User": process.user if process else "",
            "Tty": bool(process and process.has_terminal),
            "ExposedPorts": {port: {} for port in _exposed(container)},
            "Labels": dict(container.labels),
        },
        "HostConfig": {
            "NetworkMode": container.mode,
            "Links": [f"/{link.child}:/{link}" for link in container.links],
            "PublishAllPorts": container.publish_all,
            "Dns": list(settings.dns),
            "DnsSearch": list(settings.dns_search),
            "DnsOptions": list(settings.dns_options),
            "AutoRemove": bool(process and process.removes_itself),
            "ReadonlyRootfs": bool(process and process.is_read_only),
            "ExtraHosts": [f"{name}:{address}" for name, address in settings.extra_hosts],
        },
        "HostsPath": f"{container.files}/hosts",
        "HostnamePath": f"{container.files}/hostname",
        "ResolvConfPath": f"{container.files}/resolv.conf",
        "NetworkSettings": {
            "SandboxKey": container.sandbox,
            **_address(_IPV4_FIELDS, first.address if first else None, first.gateway if first else None),
            "MacAddress": first.mac if first else "",
            **_address(_IPV6_FIELDS, first.address6 if first else None, first.gateway6 if first else None),
            "Ports": ports_document(container),
            "Networks": {item.network: _endpoint(item, known[item.network_id]) for item in container.endpoints},
            "Attachments": [attached_document(container, item, is_new=None) for item in container.attachments],
        },
    }


def _first(container: Container) -> Endpoint | None:
    return next(iter(container.endpoints), None)


def _exposed(container: Container) -> list[str]:
    return [f"{port}/{protocol}" for port, protocol in container.exposed]


def _address(fields: tuple[str, str, str], address: IPInterface | None, gateway: IPAddress | None) -> Document:
    """Return an address and its gateway by Docker's names."""
    ip, length = (str(address.ip), address.network.prefixlen) if address else ("", 0)
    return dict(zip(fields, (ip, length, str(gateway or "")), strict=True))


def ports_document(container: Container) -> Document:
    """Return Docker's map from `80/tcp` to where it is published, None for a port that is only exposed."""
    document: Document = dict.fromkeys(_exposed(container))
    for item in container.ports:
        key = f"{item.container_port}/{item.protocol}"
        binding = {"HostIp": str(item.host_ip), "HostPort": str(item.host_port)}
        document[key] = [*(document.get(key) or []), binding]
    return document


def published(container: Container, port: str = "") -> list[PortMapping]:
    """Return the mappings of a container, or those of one container port such as `80` or `53/udp`."""
    if not port:
        return list(container.ports)
    wanted = parse_expose(port)
    found = [item for item in container.ports if (item.container_port, item.protocol) in wanted]
    if not found:
        raise NotFound(f"no public port {port} published for {container.name}", object=port)
    return found


def port_documents(ports: Iterable[PortMapping]) -> list[Document]:
    """Return the mappings one by one, as `bulk-create --json` prints them."""
    return [
        {
            "host_ip": str(item.host_ip),
            "host_port": item.host_port,
            "container_port": item.container_port,
            "protocol": item.protocol,
        }
        for item in ports
    ]


def _endpoint(item: Endpoint, network: Network) -> Document:
    """Return an endpoint's document; as with Docker, the gateway is the network's, wherever the default route leads."""
    gateway = None if network.internal else network.gateway
    gateway6 = network.gateway6 if gateway and item.address6 else None
    return {
        **_address(_IPV4_FIELDS, item.address, gateway),
        **_address(_IPV6_FIELDS, item.address6, gateway6),
        "MacAddress": item.mac,
        "EndpointID": item.id,
        "NetworkID": item.network_id,
        "Aliases": list(item.aliases),
        "HostInterface": item.host_interface,
        "Vlan": vlan_document(item.vlans),
    }


def vlan_document(vlans: PortVlans | None) -> int | Document | None:
    """Return the VID of an access port, a trunk's parts, or None where nothing is asked for."""
    if vlans is None or vlans.access:
        return vlans.access if vlans else None
    return {"Trunk": vlans.trunk_text, "Native": vlans.native or None}


def vlan_rows(containers: Iterable[Container], networks: Iterable[Network]) -> list[Document]:
    """Return the ports of networks with VLANs, and the VLANs of each."""
    known = {net.id: net for net in networks}
    rows = []
    for net in known.values():
        if net.vlan:
            rows.append(_vlan_row("gateway", "", net, net.device, PortVlans(access=net.vlan)))
        rows += [_vlan_row("uplink", "", net, str(item), item.vlans_on(net)) for item in net.uplinks if net.vlan]
    for item in containers:
        for endpoint in item.endpoints:
            net = known[endpoint.network_id]
            if net.vlan:
                rows.append(_vlan_row("container", item.name, net, endpoint.interface, endpoint.vlans_on(net)))
    return rows


def _vlan_row(port: str, container: str, network: Network, interface: str, vlans: PortVlans | None) -> Document:
    known = vlans or PortVlans()
    return {
        "port": port,
        "container": container,
        "network": network.name,
        "interface": interface,
        "vlan": known.access,
        "trunk": known.trunk_text,
        "native": known.native,
        "backend": network.vlan_backend,
    }


def attached_interfaces(container: Container) -> list[Attachment | Endpoint]:
    """Return a container's interfaces that were attached by hand: all that another's container has of dnet's."""
    return [*container.attachments, *(container.endpoints if container.target else ())]


def attached_document(container: Container, item: Attachment | Endpoint, *, is_new: bool | None) -> Document:
    """Return an interface that was attached to a container; with `is_new` None the document does not say."""
    if isinstance(item, Endpoint):
        addresses = [str(address) for address in (item.address, item.address6) if address]
        gateways = [str(gateway) for gateway in (item.gateway, item.gateway6) if gateway]
        kind, device, mode = "network", item.network, ""
    else:
        addresses, gateways = (
            [str(address) for address in item.addresses],
            [str(gateway) for gateway in item.default_gateways],
        )
        addresses = ([item.lease["address"]] if item.lease else []) + addresses
        kind, device, mode = item.kind, item.device, item.macvlan_mode
    document: Document = {
        "target": container.name,
        "interface": item.interface,
        "kind": kind,
        "device": device,
        "mode": mode,
        "vlan": str(item.vlans or ""),
        "addresses": addresses,
        "gateways": gateways,
        "mac": item.mac,
        "host_interface": item.host_interface,
    }
    return document if is_new is None else document | {"new": is_new}


def network_document(network: Network, containers: Iterable[Container]) -> Document:
    """Return what `network inspect` prints, with Docker's field names."""
    config: Document = {"Subnet": str(network.subnet), "Gateway": str(network.gateway)}
    if network.ip_range:
        config["IPRange"] = str(network.ip_range)
    members = {
        container.id: {
            "Name": container.name,
            "EndpointID": endpoint.id,
            "MacAddress": endpoint.mac,
            "IPv4Address": str(endpoint.address),
            "IPv6Address": str(endpoint.address6 or ""),
        }
        for container in containers
        for endpoint in container.endpoints
        if endpoint.network_id == network.id
    }
    auxiliary = {key: str(address) for key, address in network.aux_addresses.items()}
    configs = [config | ({"AuxiliaryAddresses": auxiliary} if auxiliary else {})]
    if network.subnet6:
        configs.append({"Subnet": str(network.subnet6), "Gateway": str(network.gateway6)})
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": timestamp(network.created),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": True,
        "EnableIPv6": network.subnet6 is not None,
        "IPAM": {"Driver": "default", "Config": configs},
        "Internal": network.internal,
        "Vlan": network.vlan or None,
        "VlanBackend": network.vlan_backend or None,
        "Options": {"com.docker.network.bridge.name": network.device} | dict(network.options),
        "Labels": dict(network.labels),
        "Containers": members,
        "Segments": [{"Device": network.device, "Endpoints": len(members)}],
        "Uplinks": [str(item) for item in network.uplinks],
        "UplinkVlans": {str(item): str(vlans) for item in network.uplinks if (vlans := item.vlans_on(network))},
    }


def brief_network(network: Network) -> Document:
    """Return a network's entry of `network ls --json`."""
    return {field: str(getattr(network, field) or "") for field in _BRIEF_NETWORK}


def row(container: Container, names: Mapping[str, str]) -> tuple[str, ...]:
    """Return one line of `ps`; `names` are containers' names by id."""
    return (
        container.id[:12],
        container.name,
        _mode(container, names),
        ", ".join(item.network for item in container.endpoints),
        ", ".join(str(item.address.ip) for item in container.endpoints),
        ", ".join(ports_column(container)),
        container.status,
        ", ".join(map(str, container.linked_by)),
    )


def _mode(container: Container, names: Mapping[str, str]) -> str:
    """Return the mode; one that shares a sandbox names the container that has it."""
    if not container.mode.startswith(MODE_CONTAINER):
        return container.mode
    return MODE_CONTAINER + names.get(container.shares, container.mode.removeprefix(MODE_CONTAINER)[:12])


def ports_column(container: Container) -> list[str]:
    """Return Docker's short forms: `0.0.0.0:8080->80/tcp` where published, `80/tcp` where only exposed."""
    published = {f"{item.container_port}/{item.protocol}" for item in container.ports}
    return [*map(str, container.ports), *(port for port in _exposed(container) if port not in published)]


def row_document(container: Container, names: Mapping[str, str]) -> Document:
    """Return one entry of `ps --json`; `names` as for `row`."""
    return {
        "id": container.id,
        "name": container.name,
        "mode": _mode(container, names),
        "networks": [item.network for item in container.endpoints],
        "ips": [str(item.address.ip) for item in container.endpoints],
        "ports": port_documents(container.ports),
        "status": container.status,
        "links": [str(link) for link in container.linked_by],
        "created": timestamp(container.created),
        "labels": dict(container.labels),
    }


def bulk_document(container: Container) -> Document:
    """Return one entry of what `bulk-create --json` prints."""
    first = _first(container)
    return {
        "name": container.name,
        "id": container.id,
        "ip": str(first.address.ip) if first else "",
        "mac": first.mac if first else "",
        "gateway": str(first.gateway or "") if first else "",
        "sandbox": container.sandbox,
        "host_interface": first.host_interface if first else "",
        "ports": port_documents(container.ports),
    }


def link_rows(containers: Iterable[Container]) -> list[Document]:
    """Return the links between containers, each with the child's exposed ports, which it is about."""
    by_name = {item.name: item for item in containers}
    return [
        {
            "parent": link.parent,
            "child": link.child,
            "alias": link.alias,
            "ports": _exposed(by_name[link.child]) if link.child in by_name else [],
            "present": link.child in by_name,
        }
        for item in by_name.values()
        for link in item.links
    ]


def check_template(template: str) -> None:
    """Raise InvalidRequest unless every `{{ ... }}` is `.A.B` or `json .A.B`."""
    rest = _PLACEHOLDER.sub("", template)
    if "{{" in rest or "}}" in rest:
        raise _bad_template(template, "a brace pair is not closed")
    for inner in _PLACEHOLDER.findall(template):
        _split(inner, template)


def render(template: str, document: Mapping[str, Any]) -> str:
    """Fill a template such as `{{ .NetworkSettings.IPAddress }}` or `{{ json .Config }}` from a document."""

    def replace(match: re.Match[str]) -> str:
        is_json, keys = _split(match[1], template)
        value: Any = document
        for key in keys:
            if not isinstance(value, Mapping) or key not in value:
                known = ", ".join(sorted(value)) if isinstance(value, Mapping) and value else "none"
                raise _bad_template(template, f"there is no field {key!r} (known here: {known})")
            value = value[key]
        return json.dumps(value) if is_json else _plain(value)

    check_template(template)
    return _PLACEHOLDER.sub(replace, template)


def _split(inner: str, template: str) -> tuple[bool, list[str]]:
    words = inner.split()
    is_json = len(words) == 2 and words[0] == "json"
    if not words or len(words) > 1 + is_json or not _PATH.match(words[-1]):
        raise _bad_template(template, f"cannot read {inner.strip()!r}")
    return is_json, [key for key in words[-1].split(".") if key]


def _bad_template(template: str, why: str) -> InvalidRequest:
    hint = "write {{ .Name }}, {{ .NetworkSettings.IPAddress }} or {{ json .NetworkSettings.Ports }}"
    return InvalidRequest(f"invalid format {template!r}: {why}", object=template, hint=hint)


def _plain(value: Any) -> str:
    """Write a value as Docker's templates (Go's) do."""
    match value:
        case None:
            return "<no value>"
        case bool():
            return "true" if value else "false"
        case Mapping():
            return "map[" + " ".join(f"{key}:{_plain(item)}" for key, item in sorted(value.items())) + "]"
        case list() | tuple():
            return "[" + " ".join(_plain(item) for item in value) + "]"
        case _:
            return str(value)
