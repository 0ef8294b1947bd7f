"""The files of `bulk-create --file`: JSON or YAML lists of containers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dnet.errors import InvalidRequest
from dnet.model.container_spec import ContainerSpec

TEXT, TEXTS, NUMBER, BOOLEAN = "text", "a list of texts", "a number", "true or false"
PAIRS = "an object of keys and values"
# The long options of create: the field of ContainerSpec that each one sets, and what an entry may give for it.
FIELDS = {
    "name": ("name", TEXT),
    "network": ("network", TEXT),
    "ip": ("ip", TEXT),
    "ip6": ("ip6", TEXT),
    "mac-address": ("mac", TEXT),
    "mtu": ("mtu", NUMBER),
    "publish": ("publish", TEXTS),
    "publish-all": ("publish_all", BOOLEAN),
    "expose": ("expose", TEXTS),
    "hostname": ("hostname", TEXT),
    "domainname": ("domainname", TEXT),
    "dns": ("dns", TEXTS),
    "dns-search": ("dns_search", TEXTS),
    "dns-option": ("dns_options", TEXTS),
    "add-host": ("add_hosts", TEXTS),
    "link": ("links", TEXTS),
    "network-alias": ("aliases", TEXTS),
    "vlan": ("vlan", TEXT),
    "trunk": ("trunk", TEXT),
    "native": ("native", TEXT),
    "label": ("labels", PAIRS),
}


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
        fields[FIELDS[key][0]] = _value(key, value, where)
    try:
        return ContainerSpec(**fields)
    except InvalidRequest as error:
        raise InvalidRequest(f"{where}: {error}", object=error.object, hint=error.hint) from error


def _value(key: str, value: Any, where: str) -> Any:
    if key in {"vlan", "native", "trunk"} and type(value) is int:
        value = str(value)
    kind = FIELDS[key][1]
    if kind == NUMBER and type(value) is int:
        return value
    if kind == BOOLEAN and type(value) is bool:
        return value
    if kind == PAIRS and isinstance(value, dict):
        return {str(name): str(text) for name, text in value.items()}
    if kind == TEXTS and _is_list(value, str, int):
        return [str(item) for item in value]
    if kind == TEXT and (isinstance(value, str) or (key == "network" and value and _is_list(value, str))):
        return value
    raise InvalidRequest(f"{where}: {key} is not {kind}: {value!r}", object=where)


def _is_list(value: Any, *kinds: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kinds) for item in value)
