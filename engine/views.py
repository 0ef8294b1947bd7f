"""Containers and networks as Docker's documents, and Docker's dotted templates over them. Rank 3, pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from dnet.errors import InvalidRequest, NotFound
from dnet.model import Container, Endpoint, Network
from dnet.ports import PortMapping, parse_expose

Document = dict[str, Any]

_PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_PATH = re.compile(r"(?:\.|(?:\.[A-Za-z0-9_-]+)+)\Z")


def timestamp(seconds: float) -> str:
    """Return a time as RFC 3339, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def container_document(container: Container) -> Document:
    """Return what `inspect` prints of a container, with Docker's field names."""
    first = container.endpoints[0] if container.endpoints else None
    return {
        "Id": container.id,
        "Name": container.name,
        "Created": timestamp(container.created),
        "State": {"Status": container.status, "Pid": 0},
        "Config": {
            "Hostname": container.settings.hostname,
            "Domainname": container.settings.domainname,
            "Env": [],
            "ExposedPorts": {f"{port}/{protocol}": {} for port, protocol in container.exposed},
            "Labels": dict(container.labels),
        },
        "HostConfig": {
            "NetworkMode": container.mode,
            "Links": [],
            "PublishAllPorts": container.publish_all,
            "Dns": list(container.settings.dns),
            "DnsSearch": list(container.settings.dns_search),
            "DnsOptions": list(container.settings.dns_options),
            "ExtraHosts": [f"{name}:{address}" for name, address in container.settings.extra_hosts],
        },
        "HostsPath": f"{container.files}/hosts",
        "HostnamePath": f"{container.files}/hostname",
        "ResolvConfPath": f"{container.files}/resolv.conf",
        "NetworkSettings": {
            "SandboxKey": container.sandbox,
            "IPAddress": str(first.address.ip) if first else "",
            "IPPrefixLen": first.address.network.prefixlen if first else 0,
            "Gateway": str(first.gateway or "") if first else "",
            "MacAddress": first.mac if first else "",
            "GlobalIPv6Address": str(first.address6.ip) if first and first.address6 else "",
            "GlobalIPv6PrefixLen": first.address6.network.prefixlen if first and first.address6 else 0,
            "IPv6Gateway": str(first.gateway6 or "") if first else "",
            "Ports": ports_document(container),
            "Networks": {end.network: _endpoint_document(end) for end in container.endpoints},
        },
    }


def ports_document(container: Container) -> Document:
    """Return Docker's map from `80/tcp` to where it is published, None for a port that is only exposed."""
    found: Document = {f"{port}/{protocol}": None for port, protocol in container.exposed}
    for item in container.ports:
        key = f"{item.container_port}/{item.protocol}"
        bindings = found.get(key) or []
        found[key] = [*bindings, {"HostIp": str(item.host_ip), "HostPort": str(item.host_port)}]
    return found


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


def _endpoint_document(end: Endpoint) -> Document:
    return {
        "IPAddress": str(end.address.ip),
        "IPPrefixLen": end.address.network.prefixlen,
        "Gateway": str(end.gateway or ""),
        "GlobalIPv6Address": str(end.address6.ip) if end.address6 else "",
        "GlobalIPv6PrefixLen": end.address6.network.prefixlen if end.address6 else 0,
        "IPv6Gateway": str(end.gateway6 or ""),
        "MacAddress": end.mac,
        "EndpointID": end.id,
        "NetworkID": end.network_id,
        "Aliases": [],
        "HostInterface": end.host_interface,
        "Vlan": None,
    }


def network_document(network: Network, containers: Iterable[Container]) -> Document:
    """Return what `network inspect` prints, with Docker's field names."""
    config: Document = {"Subnet": str(network.subnet), "Gateway": str(network.gateway)}
    if network.ip_range:
        config["IPRange"] = str(network.ip_range)
    members = {
        container.id: {
            "Name": container.name,
            "EndpointID": end.id,
            "MacAddress": end.mac,
            "IPv4Address": str(end.address),
            "IPv6Address": str(end.address6 or ""),
        }
        for container in containers
        for end in container.endpoints
        if end.network_id == network.id
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
        "IPAM": {
            "Driver": "default",
            "Config": configs,
        },
        "Internal": network.internal,
        "Options": {"com.docker.network.bridge.name": network.device} | dict(network.options),
        "Labels": dict(network.labels),
        "Containers": members,
        "Segments": [{"Device": network.device, "Endpoints": len(members)}],
    }


def brief_network(network: Network) -> Document:
    """Return a network in one line's worth."""
    return {
        "name": network.name,
        "id": network.id,
        "driver": network.driver,
        "subnet": str(network.subnet),
        "subnet6": str(network.subnet6 or ""),
        "gateway": str(network.gateway),
        "device": network.device,
    }


def row(container: Container) -> tuple[str, ...]:
    """Return one line of `ps`."""
    return (
        container.id[:12],
        container.name,
        container.mode,
        ", ".join(end.network for end in container.endpoints),
        ", ".join(str(end.address.ip) for end in container.endpoints),
        ", ".join(ports_column(container)),
        container.status,
        "",
    )


def ports_column(container: Container) -> list[str]:
    """Return Docker's short forms: `0.0.0.0:8080->80/tcp` where published, `80/tcp` where only exposed."""
    published = {(item.container_port, item.protocol) for item in container.ports}
    return [str(item) for item in container.ports] + [
        f"{port}/{protocol}" for port, protocol in container.exposed if (port, protocol) not in published
    ]


def row_document(container: Container) -> Document:
    """Return one entry of `ps --json`."""
    return {
        "id": container.id,
        "name": container.name,
        "mode": container.mode,
        "networks": [end.network for end in container.endpoints],
        "ips": [str(end.address.ip) for end in container.endpoints],
        "ports": port_documents(container.ports),
        "status": container.status,
        "links": [],
        "created": timestamp(container.created),
        "labels": dict(container.labels),
    }


def bulk_document(container: Container) -> Document:
    """Return one entry of what `bulk-create --json` prints."""
    first = container.endpoints[0] if container.endpoints else None
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


def check_template(template: str) -> None:
    """Raise unless every `{{ ... }}` is `.A.B` or `json .A.B`."""
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
    is_json = len(words) == 2 and words[0] == "json"  # noqa: PLR2004
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
