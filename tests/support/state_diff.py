"""What containers look like from within: the answers are those of programs that run in their namespaces."""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Sequence
from typing import Any

from tests.support.dnet_commands import run, settled_snapshot
from tests.support.hosts import FakeHost, Namespace, wait_until

LOOPBACK_LINES = 6  # of a hosts file


def inside(host: FakeHost, name: str, *command: str, code: int | None = 0) -> str:
    """Run a program in a container as `ip netns exec` does, and return what it prints."""
    return host.run("ip", "netns", "exec", name, *command, code=code).stdout


def hosts(host: FakeHost, name: str) -> list[str]:
    """Return the lines of a container's hosts, those of the loopback left out."""
    return inside(host, name, "cat", "/etc/hosts").splitlines()[LOOPBACK_LINES:]


def resolved(host: FakeHost, name: str, wanted: str) -> list[str]:
    """Return the addresses that a container's resolver finds for a name, without asking any server."""
    lines = inside(host, name, "getent", "-s", "files", "ahosts", wanted, code=None).splitlines()
    return sorted({line.split()[0] for line in lines})


def add_line(host: FakeHost, name: str, line: str) -> None:
    """Add a line to a container's hosts, as somebody does with an editor."""
    host.run("sh", "-c", 'echo "$0" >>"$1"', line, f"/etc/netns/{name}/hosts")


def inspect(host: FakeHost, name: str) -> dict[str, Any]:
    """Return `inspect`'s document of a container."""
    [document] = run(host, "inspect", name).json
    return dict(document)


def listed(host: FakeHost) -> dict[str, dict[str, Any]]:
    """Return the entries of `ps --json`, by name."""
    return {item["name"]: item for item in run(host, "ps", "--json").json}


def addresses_by_device(space: Namespace) -> dict[str, list[str]]:
    """Return the global addresses of each interface, the loopback left out; in the order of the interfaces."""
    return {
        link["ifname"]: [
            f"{item['local']}/{item['prefixlen']}" for item in link["addr_info"] if item["scope"] == "global"
        ]
        for link in space.json("ip -j address")
        if link["ifname"] != "lo"
    }


def default_routes(space: Namespace) -> dict[int, tuple[str, str]]:
    """Return gateway and device of the default route of each family; two of one family are a failure."""
    found = {}
    for family in (4, 6):
        routes = space.json("ip", "-j", f"-{family}", "route", "show", "default")
        assert len(routes) <= 1, routes
        if routes:
            found[family] = (routes[0]["gateway"], routes[0]["dev"])
    return found


def whole(host: FakeHost, *names: str) -> dict[str, Any]:
    """Return a snapshot of the host and of some containers: interfaces, addresses, routes, files.

    Left out are the MAC addresses of the host's ends of veths, which the kernel draws, and the order of routes.
    """
    found = settled_snapshot(host)
    for link in (*found["links"], *found["addresses"]):
        if link["ifname"].startswith("veth"):
            del link["address"]
    for key in ("routes", "routes6"):
        found[key].sort(key=json.dumps)
    for name in names:
        wait_until(lambda name=name: not _unsettled(host, name), f"every device of {name} is up or down")
        found[f"inside {name}"] = _look(host, name)
    return found


def _look(host: FakeHost, name: str) -> list[str]:
    commands = "ip -br link; ip -br address; ip route; ip -6 route; cd /etc; cat hosts hostname resolv.conf"
    return inside(host, name, "sh", "-c", commands).splitlines()


def _unsettled(host: FakeHost, name: str) -> list[str]:
    """Return the devices whose state the kernel has not told yet, which it does a little later."""
    return [line for line in _look(host, name) if line.split()[1:2] == ["UNKNOWN"] and line.split()[0] != "lo"]


def differences(host: FakeHost, before: dict[str, Any], within_s: float = 1.0) -> str:
    """Return how host and containers differ from an earlier `whole`, as a diff; empty when they do not.

    The kernel tells carriers and the states of devices a little later; only what stays is a difference.
    """
    names = [key.removeprefix("inside ") for key in before if key.startswith("inside ")]
    deadline = time.monotonic() + within_s
    while (after := whole(host, *names)) != before and time.monotonic() < deadline:
        continue
    lines = []
    for key, old in before.items():
        texts = [json.dumps(side, indent=1, sort_keys=True).splitlines() for side in (old, after[key])]
        lines += [f"{key}: {line}" for line in difflib.unified_diff(*texts, n=0, lineterm="") if line[:3] not in _MARKS]
    return "\n".join(lines)


_MARKS = frozenset({"---", "+++", "@@ "})


def glance(host: FakeHost, *names: str) -> dict[str, Any]:
    """Return the most telling part of `whole`, for a fifth of the time."""
    commands = "ip -br link | cut -d ' ' -f 1; nft -s list ruleset; ls /run/netns /etc/netns"
    rows = [host.rows(f"SELECT * FROM {table}") for table in ("container", "endpoint", "port_mapping", "link")]
    looks = {f"inside {name}": _look(host, name) for name in names}
    return {"host": host.run("sh", "-c", commands).stdout.splitlines(), "rows": rows, **looks}


def is_as_before(host: FakeHost, before: dict[str, Any], within_s: float = 1.0) -> bool:
    """Whether all is as it was at an earlier `glance`, or soon is."""
    names = [key.removeprefix("inside ") for key in before if key.startswith("inside ")]
    deadline = time.monotonic() + within_s
    while glance(host, *names) != before:
        if time.monotonic() > deadline:
            return False
    return True


def check_refusals(host: FakeHost, commands: Sequence[tuple[int, str, str]], *names: str) -> None:
    """Run command lines that have to fail: each with its exit code, and words of its sentence; nothing may change."""
    before = whole(host, *names)
    for code, words, line in commands:
        done = run(host, *line.split(), code=code)
        assert words in done.stderr.splitlines()[0], (line, done.stderr)
        assert done.stdout == "", line
        assert "Traceback" not in done.stderr, line
    assert differences(host, before) == ""
