"""Containers and networks as Docker's documents, and Docker's dotted templates over them. Rank 2, pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from dnet.errors import InvalidRequest
from dnet.model import Container, Endpoint, Network

Document = dict[str, Any]

_PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_PATH = re.compile(r"\.|(\.[A-Za-z0-9_]+)+\Z")


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
            "Hostname": container.id[:12],
            "Domainname": "",
            "Env": [],
            "ExposedPorts": {},
            "Labels": dict(container.labels),
        },
        "HostConfig": {
            "NetworkMode": container.mode,
            "Links": [],
            "PublishAllPorts": False,
            "Dns": [],
            "DnsSearch": [],
        },
        "NetworkSettings": {
            "SandboxKey": container.sandbox,
            "IPAddress": str(first.address.ip) if first else "",
            "IPPrefixLen": first.address.network.prefixlen if first else 0,
            "Gateway": str(first.gateway or "") if first else "",
            "MacAddress": first.mac if first else "",
            "Ports": {},
            "Networks": {end.network: _endpoint_document(end) for end in container.endpoints},
        },
    }


def _endpoint_document(end: Endpoint) -> Document:
    return {
        "IPAddress": str(end.address.ip),
        "IPPrefixLen": end.address.network.prefixlen,
        "Gateway": str(end.gateway or ""),
        "MacAddress": end.mac,
        "EndpointID": end.id,
        "NetworkID": end.network_id,
        "Aliases": [],
        "HostInterface": end.host_interface,
        "Vlan": None,
    }


def network_document(network: Network, containers: Iterable[Container]) -> Document:
    """Return what `network inspect` prints, with Docker's field names."""
    config = {"Subnet": str(network.subnet), "Gateway": str(network.gateway)}
    if network.ip_range:
        config["IPRange"] = str(network.ip_range)
    members = {
        container.id: {
            "Name": container.name,
            "EndpointID": end.id,
            "MacAddress": end.mac,
            "IPv4Address": str(end.address),
            "IPv6Address": "",
        }
        for container in containers
        for end in container.endpoints
        if end.network_id == network.id
    }
    auxiliary = {key: str(address) for key, address in network.aux_addresses.items()}
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": timestamp(network.created),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {
            "Driver": "default",
            "Config": [config | ({"AuxiliaryAddresses": auxiliary} if auxiliary else {})],
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
        "",
        container.status,
        "",
    )


def row_document(container: Container) -> Document:
    """Return one entry of `ps --json`."""
    return {
        "id": container.id,
        "name": container.name,
        "mode": container.mode,
        "networks": [end.network for end in container.endpoints],
        "ips": [str(end.address.ip) for end in container.endpoints],
        "ports": [],
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
        "ports": [],
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
