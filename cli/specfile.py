"""The files of `bulk-create --file`: JSON or YAML lists of containers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dnet.errors import InvalidRequest
from dnet.model.container_spec import ContainerSpec

# The long options of create, and the field of ContainerSpec that each one sets.
FIELDS = {
    "name": "name",
    "network": "network",
    "ip": "ip",
    "ip6": "ip6",
    "mac-address": "mac",
    "mtu": "mtu",
    "publish": "publish",
    "publish-all": "publish_all",
    "expose": "expose",
    "hostname": "hostname",
    "domainname": "domainname",
    "dns": "dns",
    "dns-search": "dns_search",
    "dns-option": "dns_options",
    "add-host": "add_hosts",
    "link": "links",
    "network-alias": "aliases",
    "vlan": "vlan",
    "trunk": "trunk",
    "native": "native",
    "label": "labels",
}
LISTS = ("publish", "expose", "dns", "dns-search", "dns-option", "add-host", "link", "network-alias")
TEXTS = ("name", "network", "ip", "ip6", "mac-address", "hostname", "domainname", "vlan", "trunk", "native")


def read(path: str) -> list[ContainerSpec]:
    """Return the specifications of the containers that a file lists."""
    entries = _load(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        hint = 'write [{"name": "web", "network": "blue"}, ...]'
        raise InvalidRequest(f"{path} does not hold a list of containers", object=path, hint=hint)
    if not entries:
        raise InvalidRequest(f"{path} lists no containers", object=path)
    return [_spec(entry, f"{path}, entry {number}") for number, entry in enumerate(entries, 1)]


def _load(path: str) -> Any:
    try:
        text = Path(path).read_text(encoding="utf-8")
        if path.endswith((".yaml", ".yml")):
            import yaml

            try:
                # All scalars as text: YAML 1.1 reads 22:22, a published port, as the number 1342.
                return _typed(yaml.load(text, Loader=yaml.BaseLoader))  # noqa: S506  builds lists, maps and texts only
            except yaml.YAMLError as error:
                words = " ".join(str(error).split())
                raise InvalidRequest(f"{path} is not YAML: {words}", object=path) from error
        return json.loads(text)
    except ValueError as error:
        if isinstance(error, InvalidRequest):
            raise
        raise InvalidRequest(f"{path} is not JSON: {error}", object=path) from error
    except RecursionError as error:
        raise InvalidRequest(f"{path} is nested too deeply", object=path) from error


def _typed(entries: Any) -> Any:
    """Give numbers and booleans in entries from YAML their types."""
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict):
            if str(entry.get("mtu", "")).isdecimal():
                entry["mtu"] = int(entry["mtu"])
            if entry.get("publish-all") in {"true", "false"}:
                entry["publish-all"] = entry["publish-all"] == "true"
    return entries


def _spec(entry: dict[str, Any], where: str) -> ContainerSpec:
    fields: dict[str, Any] = {}
    for key, value in entry.items():
        if key not in FIELDS:
            raise InvalidRequest(
                f"{where}: there is no option {key!r}", object=where, hint=f"known: {', '.join(FIELDS)}"
            )
        fields[FIELDS[key]] = _value(key, value, where)
    try:
        return ContainerSpec(**fields)
    except InvalidRequest as error:
        raise InvalidRequest(f"{where}: {error}", object=error.object, hint=error.hint) from error


def _value(key: str, value: Any, where: str) -> Any:
    if key in {"vlan", "native", "trunk"} and type(value) is int:
        value = str(value)
    match key, value:
        case "mtu", int() if not isinstance(value, bool):
            return value
        case "publish-all", bool():
            return value
        case "label", dict():
            return {str(name): str(text) for name, text in value.items()}
        case _, [*items] if key in LISTS and all(isinstance(item, (str, int)) for item in items):
            return [str(item) for item in items]
        case "network", [*items] if items and all(isinstance(item, str) for item in items):
            return items
        case _, str() if key in TEXTS:
            return value
    kinds = {"mtu": "a number", "publish-all": "true or false", "label": "an object of keys and values"}
    kinds |= dict.fromkeys(LISTS, "a list of texts")
    raise InvalidRequest(f"{where}: {key} is not {kinds.get(key, 'text')}: {value!r}", object=where)
