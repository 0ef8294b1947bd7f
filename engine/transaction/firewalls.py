"""Other firewalls on the host that stop traffic of networks, and the remedy.

Every base chain at the forward hook has to accept a packet; an accept in `inet dnet` does not override a drop
elsewhere. Where Docker has its chain for the user's rules, DOCKER-USER, dnet adds an accept to it, marked as its own.
All other chains are only read, and reported with the remedy.

To find out whether a chain stops a network, its rules are followed for a new connection from the bridge, and for one to
it. Rules that match more than device names decide nothing, because they concern only a part of the traffic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dnet.drivers.nat_table import TABLE
from dnet.linux.files import legacy_tables
from dnet.linux.nftables import Nft
from dnet.model.network import Network

DOCKER_CHAIN = "DOCKER-USER"
MARK = "made by dnet for "
# Parts of a rule that match every packet.
_UNCONDITIONAL = frozenset({"counter", "log", "accept", "drop", "reject", "return", "jump", "goto"})
DEPTH_MAX = 16  # the kernel's own limit of nested jumps (NFT_JUMP_STACK_SIZE)


class Chain(NamedTuple):
    """A base chain of another firewall at the forward hook."""

    family: str
    table: str
    name: str
    policy: str

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.name}"


class Direction(NamedTuple):
    """The devices that a packet comes from and goes to; an empty name stands for any other device."""

    iifname: str
    oifname: str


class TableRules:
    """The rules of one table, by chain, and its sets of device names."""

    def __init__(self, nft: Nft, chain: Chain) -> None:
        command = f"list table {chain.family} {chain.table}"
        self.by_chain: dict[str, list[dict[str, Any]]] = {}
        for rule in nft.json(command, "rule"):
            self.by_chain.setdefault(rule["chain"], []).append(rule)
        self._sets = {item["name"]: item.get("elem", ()) for item in nft.json(command, "set")}

    def verdict(self, chain: str, direction: Direction, depth: int = 0) -> str:
        """Return `accept` or `drop` when a chain decides about every new connection in a direction, else ``""``."""
        if depth > DEPTH_MAX:
            return ""
        for rule in self.by_chain.get(chain, ()):
            parts = {key: value for item in rule["expr"] for key, value in item.items()}
            if not all(self._is_met(item, direction) for item in rule["expr"]):
                continue
            if "accept" in parts:
                return "accept"
            if "drop" in parts or "reject" in parts:
                return "drop"
            if "return" in parts:
                return ""
            target = (parts.get("jump") or parts.get("goto") or {"target": ""})["target"]
            verdict = self.verdict(target, direction, depth + 1)
            if verdict or "goto" in parts:
                return verdict
        return ""

    def _is_met(self, part: Mapping[str, Any], direction: Direction) -> bool:
        """Whether one part of a rule matches for certain."""
        [(kind, value)] = part.items()
        if kind == "xt":
            return bool(value and value.get("name") == "comment")
        if kind != "match":
            return kind in _UNCONDITIONAL
        key = value["left"].get("meta", {}).get("key", "") if isinstance(value["left"], dict) else ""
        name = {"iif": direction.iifname, "oif": direction.oifname}.get(key.removesuffix("name"), "")
        patterns = self._names(value["right"]) if name else ()
        if not patterns:
            return False
        is_negated: bool = value["op"] == "!="
        return any(_fits(name, pattern) for pattern in patterns) != is_negated

    def _names(self, right: Any) -> Sequence[str]:
        match right:
            case {"set": [*items]}:
                return [item for item in items if isinstance(item, str)]
            case str() if right.startswith("@"):
                return [item for item in self._sets.get(right[1:], ()) if isinstance(item, str)]
            case str():
                return [right]
        return []


def _fits(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def let_through(nft: Nft, networks: Sequence[Network], *, is_thorough: bool, dry_run: bool = False) -> list[str]:
    """Let networks through Docker's rules; return a sentence for each chain that stops some of them still.

    `is_thorough`: also read the rules of chains whose policy is to accept, in tables that may be large. A dry run
    changes nothing.
    """
    chains = nft.all_chains()
    docker = {(item["family"], item["table"]) for item in chains if item["name"] == DOCKER_CHAIN}
    sentences = []
    for item in chains:
        chain = Chain(item["family"], item["table"], item["name"], item.get("policy", ""))
        if item.get("hook") != "forward" or chain.family == "bridge" or f"{chain.family} {chain.table}" == TABLE:
            continue
        devices = [network.device for network in networks if chain.family != "ip6" or network.subnet6]
        if not devices or (chain.policy != "drop" and not is_thorough):
            continue
        rules = TableRules(nft, chain)
        if (chain.family, chain.table) in docker and chain.policy == "drop" and not dry_run:
            _accept_in_docker(nft, chain, rules, devices)
            continue
        stopped = [device for device in devices if _is_stopped(chain, rules, device)]
        if stopped:
            sentences.append(_sentence(chain, rules, stopped))
    return sentences + _legacy([network.device for network in networks])


def chains_naming(nft: Nft, device: str) -> list[str]:
    """Return the chains of other firewalls that have rules for a device by its name."""
    found: dict[str, None] = {}
    for rule in nft.json("list ruleset", "rule"):
        place = f"{rule['family']} {rule['table']}"
        if place != TABLE and any(_is_about(part, device) for part in rule["expr"]):
            found[f"{place} {rule['chain']}"] = None
    return list(found)


def _is_about(part: Mapping[str, Any], device: str) -> bool:
    left = part.get("match", {}).get("left")
    key = left.get("meta", {}).get("key", "") if isinstance(left, dict) else ""
    right = part.get("match", {}).get("right")
    names = right.get("set", ()) if isinstance(right, dict) else [right]
    return key in {"iif", "iifname", "oif", "oifname"} and device in names


def _is_stopped(chain: Chain, rules: TableRules, device: str) -> bool:
    directions = (Direction(device, ""), Direction("", device))
    return any((rules.verdict(chain.name, direction) or chain.policy) == "drop" for direction in directions)


def withdraw(nft: Nft, devices: Sequence[str]) -> None:
    """Remove the rules that `let_through` has added to Docker's chains for these bridges."""
    marks = {MARK + device for device in devices}
    for item in nft.all_chains():
        if item["name"] != DOCKER_CHAIN:
            continue
        place = f"{item['family']} {item['table']} {DOCKER_CHAIN}"
        rules = nft.json(f"list chain {place}", "rule")
        doomed = [rule["handle"] for rule in rules if rule.get("comment") in marks]
        nft.run([f"delete rule {place} handle {handle}" for handle in doomed], f"clean up chain {place}")


def _accept_in_docker(nft: Nft, chain: Chain, rules: TableRules, devices: Sequence[str]) -> None:
    """Add the missing accepts after the user's own rules, so that what these drop stays dropped.

    Docker's containers relied on the policy: dnet's table keeps networks away from them.
    """
    place = f"{chain.family} {chain.table} {DOCKER_CHAIN}"
    present = rules.by_chain.get(DOCKER_CHAIN, [])
    marked = {rule.get("comment") for rule in present}
    verb = f"add rule {place}"
    if present and {key for item in present[-1]["expr"] for key in item} <= {"counter", "return"}:
        verb = f"insert rule {place} handle {present[-1]['handle']}"
    commands = [
        f'{verb} {side} "{device}" counter accept comment "{MARK}{device}"'
        for device in devices
        if MARK + device not in marked
        for side in ("iifname", "oifname")
    ]
    jumps = [rule for members in rules.by_chain.values() for rule in members if _jumps_to_docker(rule)]
    bridges = sorted({name for rule in jumps for name in _outgoing(rule)})
    if bridges and nft.has_table(TABLE):
        names = ", ".join(f'"{name}"' for name in bridges)
        commands.append(f"add element {TABLE} docker_bridges {{ {names} }}")
    nft.run(commands, f"let networks through chain {place}")


def _jumps_to_docker(rule: Mapping[str, Any]) -> bool:
    return any((item.get("jump") or {}).get("target") == "DOCKER" for item in rule["expr"])


def _outgoing(rule: Mapping[str, Any]) -> list[str]:
    """Return the device that a rule wants packets to go to."""
    matches = [item["match"] for item in rule["expr"] if "match" in item]
    return [
        match["right"]
        for match in matches
        if match["op"] == "==" and match["left"] == {"meta": {"key": "oifname"}} and isinstance(match["right"], str)
    ]


def _sentence(chain: Chain, rules: TableRules, devices: Sequence[str]) -> str:
    names = ", ".join(devices)
    if any(name.startswith("ufw") for name in rules.by_chain):
        remedy = "; ".join(f"ufw route allow in on {name}; ufw route allow out on {name}" for name in devices)
    else:
        remedy = "; ".join(
            f"nft insert rule {chain} {side} {name} accept" for name in devices for side in ("iifname", "oifname")
        )
    why = "policy drop" if chain.policy == "drop" else "its rules refuse what they do not know"
    return f"chain {chain} drops forwarded traffic of {names} ({why}); to let it through: {remedy}"


def _legacy(devices: Sequence[str]) -> list[str]:
    """Return what `let_through` does of the rules of iptables-legacy, which nftables does not show."""
    if "filter" not in legacy_tables():
        return []
    import subprocess

    command = ["iptables-legacy", "-w", "-S", "FORWARD"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return []
    if "-P FORWARD DROP" not in lines:
        return []
    stopped = [name for name in devices if not {f"-A FORWARD -{side} {name} -j ACCEPT" for side in "io"} <= set(lines)]
    if not stopped:
        return []
    remedy = "; ".join(f"iptables-legacy -I FORWARD -{side} {name} -j ACCEPT" for name in stopped for side in "io")
    names = ", ".join(stopped)
    return [f"chain FORWARD of iptables-legacy drops forwarded traffic of {names}; to let it through: {remedy}"]
