"""The table `inet dnet`: what every network adds to it, as objects and as nft's text. Rank 3, pure.

Everything that comes and goes is an element of a set or map, so that neither the cost of a packet nor that of a
change depends on how much there is. The chains are fixed; making the table again replaces their rules in one
transaction and leaves the elements.
"""

from __future__ import annotations

from collections.abc import Iterable

from dnet.model import Network
from dnet.objects import NatElement, NftTable, Object

TABLE = "inet dnet"

# In nft's own syntax. A chain is flushed and filled in the same transaction, so packets never see it empty.
# An adding command is harmless where the thing exists.
TABLE_COMMANDS = f"""
add table {TABLE} {{ comment "container networks; made by dnet"; }}
add set {TABLE} bridges {{ type ifname; comment "the bridges of dnet networks"; }}
add set {TABLE} masquerade4 {{ type ipv4_addr; flags interval; comment "subnets that leave under the host's address"; }}
add chain {TABLE} postrouting {{ type nat hook postrouting priority srcnat; policy accept; \
    comment "traffic from containers to the outside gets the address of the interface it leaves by"; }}
flush chain {TABLE} postrouting
add rule {TABLE} postrouting oifname @bridges return
add rule {TABLE} postrouting ip saddr @masquerade4 counter masquerade
"""


def network_objects(network: Network) -> tuple[Object, ...]:
    """Return the elements that exist because `network` does."""
    elements = [NatElement("bridges", f'"{network.device}"')]
    if network.masquerade and not network.internal:
        elements.append(NatElement("masquerade4", str(network.subnet)))
    return tuple(elements)


def commands(objects: Iterable[Object], verb: str) -> list[str]:
    """Return nft's commands that `add` or `delete` objects, elements of one set gathered into one command."""
    lines: list[str] = []
    elements: dict[str, list[str]] = {}
    for item in objects:
        match item:
            case NftTable():
                lines.append(TABLE_COMMANDS if verb == "add" else f"delete table {TABLE}")
            case NatElement():
                value = f" : {item.value}" if item.value and verb == "add" else ""
                elements.setdefault(item.set_name, []).append(item.key + value)
            case _:
                raise TypeError(item)
    whole = [f"{verb} element {TABLE} {name} {{ {', '.join(keys)} }}" for name, keys in elements.items()]
    return whole + lines if verb == "delete" else lines + whole
