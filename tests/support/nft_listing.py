"""What nft shows of dnet's table, and how listings differ."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

from tests.support.hosts import FakeHost

PUBLISH_MAPS = ("publish4", "publish6", "publish4_on", "publish6_on")
Element = tuple[tuple[str, ...], tuple[str, ...]]


def elements(host: FakeHost, *names: str) -> list[Element]:
    """Return the elements of maps and sets of the table as (key, value), sorted; the value of a set's is empty."""
    found = []
    for name in names:
        kind = "map" if name.startswith(("publish", "snat")) else "set"
        for item in host.json("nft", "-j", "list", kind, "inet", "dnet", name)["nftables"]:
            for element in item.get(kind, {}).get("elem", []):
                key, value = element if isinstance(element, list) else (element, None)
                found.append((_words(key), () if value is None else _words(value)))
    return sorted(found)


def published(host: FakeHost) -> list[Element]:
    """Return the elements of all maps of published ports."""
    return elements(host, *PUBLISH_MAPS)


def _words(value: Any) -> tuple[str, ...]:
    match value:
        case {"elem": {"val": inner}}:
            return _words(inner)
        case {"concat": [*parts]}:
            return tuple(word for part in parts for word in _words(part))
        case {"prefix": {"addr": start, "len": length}}:
            return (f"{start}/{length}",)
        case _:
            return (str(value),)


def generation(host: FakeHost) -> int:
    """Return the number of the ruleset's generation; each transaction that is committed makes a new one."""
    number: int = host.call(_generation)
    return number


def _generation() -> int:
    # NFT_MSG_GETGEN of NFNL_SUBSYS_NFTABLES; NFTA_GEN_ID is attribute 1 of the answer (linux/netfilter/nf_tables.h).
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as sock:  # NETLINK_NETFILTER
        sock.send(struct.pack("=IHHIIBBH", 20, 10 << 8 | 16, 1, 1, 0, 0, 0, 0))
        answer = sock.recv(4096)
    offset = 20
    while offset < len(answer):
        size, kind = struct.unpack_from("=HH", answer, offset)
        if kind == 1:
            return int.from_bytes(answer[offset + 4 : offset + 8])
        offset += (size + 3) & ~3
    raise AssertionError(answer)


def only_change(before: str, after: str) -> tuple[list[str], list[str]]:
    """Return the lines that went and the lines that came between two listings."""
    old, new = before.splitlines(), after.splitlines()
    return [line for line in old if line not in new], [line for line in new if line not in old]


def plain(ruleset: Any) -> Any:
    """Return nft's JSON without handles and counters."""
    if isinstance(ruleset, dict):
        kept = {key: value for key, value in ruleset.items() if key not in {"handle", "packets", "bytes", "metainfo"}}
        return {key: plain(value) for key, value in kept.items()}
    return [plain(item) for item in ruleset] if isinstance(ruleset, list) else ruleset


def as_text(value: Any) -> str:
    """Return a JSON value as text that can be compared and read."""
    return json.dumps(value, indent=1, sort_keys=True)
