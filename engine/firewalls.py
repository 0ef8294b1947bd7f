"""Other firewalls on the host: whether they stop forwarded traffic of dnet's, and what to do about it. Rank 5, IO.

A packet has to be accepted by every base chain at the forward hook; an accept in `inet dnet` does not override a drop
elsewhere. Where Docker keeps its chain for rules of the user's, DOCKER-USER, dnet puts an accept there, marked as
its own; everything else is only looked at, and reported with the remedy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from dnet.nat import TABLE
from dnet.nft import Nft

DOCKER_CHAIN = "DOCKER-USER"
MARK = "made by dnet for "


class Chain(NamedTuple):
    """A chain of somebody's: family, table and name."""

    family: str
    table: str
    name: str

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.name}"


def make_way(nft: Nft, devices: Sequence[str]) -> list[str]:
    """Let the networks of these bridges through Docker's rules; say which chains stop them still."""
    chains = nft.json("list chains", "chain")
    found = [Chain(item["family"], item["table"], item["name"]) for item in chains if _drops_forwarded(item)]
    docker = {(item["family"], item["table"]) for item in chains if item["name"] == DOCKER_CHAIN}
    sentences = []
    for chain in found:
        rules = nft.json(f"list table {chain.family} {chain.table}", "rule")
        if (chain.family, chain.table) in docker:
            _accept_in_docker(nft, chain, rules, devices)
            continue
        stopped = [device for device in devices if not _is_accepted(rules, device)]
        if stopped:
            sentences.append(_sentence(chain, rules, stopped))
    return sentences


def withdraw(nft: Nft, device: str) -> None:
    """Remove what `make_way` put into Docker's chains for a bridge."""
    for item in nft.json("list chains", "chain"):
        if item["name"] != DOCKER_CHAIN:
            continue
        place = f"{item['family']} {item['table']} {DOCKER_CHAIN}"
        rules = nft.json(f"list chain {place}", "rule")
        doomed = [rule["handle"] for rule in rules if rule.get("comment") == MARK + device]
        nft.run([f"delete rule {place} handle {handle}" for handle in doomed], f"clean up chain {place}")


def _drops_forwarded(chain: dict[str, Any]) -> bool:
    own = f"{chain['family']} {chain['table']}" == TABLE
    return chain.get("hook") == "forward" and chain.get("policy") == "drop" and chain["family"] != "bridge" and not own


def _accept_in_docker(nft: Nft, chain: Chain, rules: Iterable[dict[str, Any]], devices: Sequence[str]) -> None:
    """Insert the accepts that are missing, and keep containers away from Docker's, which relied on the policy."""
    place = f"{chain.family} {chain.table} {DOCKER_CHAIN}"
    marked = {rule.get("comment") for rule in rules if rule["chain"] == DOCKER_CHAIN}
    commands = [
        f'insert rule {place} {side} "{device}" counter accept comment "{MARK}{device}"'
        for device in devices
        if MARK + device not in marked
        for side in ("iifname", "oifname")
    ]
    bridges = sorted({name for rule in rules for name in _matched(rule, "oifname", "jump", "DOCKER")})
    if bridges and nft.has_table(TABLE):
        names = ", ".join(f'"{name}"' for name in bridges)
        commands.append(f"add element {TABLE} docker_bridges {{ {names} }}")
    nft.run(commands, f"let networks through chain {place}")


def _is_accepted(rules: Iterable[dict[str, Any]], device: str) -> bool:
    """Whether rules of a table accept what comes from and what goes to a device, judging by its name."""
    known = list(rules)
    return all(any(device in _matched(rule, side, "accept", "") for rule in known) for side in ("iifname", "oifname"))


def _matched(rule: dict[str, Any], side: str, verdict: str, target: str) -> list[str]:
    """Return the device that a rule matches on one side, when its verdict is the one asked for."""
    expressions = rule.get("expr", [])
    is_wanted = any(
        verdict in item and (not target or (item[verdict] or {}).get("target") == target) for item in expressions
    )
    if not is_wanted:
        return []
    matches = [item["match"] for item in expressions if "match" in item]
    return [
        match["right"]
        for match in matches
        if match["op"] == "==" and match["left"] == {"meta": {"key": side}} and isinstance(match["right"], str)
    ]


def _sentence(chain: Chain, rules: Iterable[dict[str, Any]], devices: Sequence[str]) -> str:
    names = ", ".join(devices)
    if any(rule["chain"].startswith("ufw") for rule in rules):
        remedy = "; ".join(f"ufw route allow in on {name}; ufw route allow out on {name}" for name in devices)
    else:
        remedy = "; ".join(
            f"nft insert rule {chain} {side} {name} accept" for name in devices for side in ("iifname", "oifname")
        )
    return f"chain {chain} drops forwarded traffic of {names} (policy drop); to let it through: {remedy}"
