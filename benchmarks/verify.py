"""Check with other programs (ip, ping, nsenter) that a job was done. Runs on a fake host."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.timed_process import ContestantFailedError

REAP_LIMIT_S = 60.0
_POLL_S = 0.01

# Until one answer or for 5 s: hundreds of containers with IPv6 autoconfiguration flood a bridge, and it drops frames.
_PING = ("ping", "-q", "-c", "1", "-w", "5", "-i", "0.2")


def _ask(*argv: str) -> str:
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ContestantFailedError(
            f"{' '.join(argv)} exited {result.returncode}: {(result.stderr or result.stdout).strip()}"
        )
    return result.stdout


def _ask_json(*argv: str) -> list[dict[str, Any]]:
    answer = _ask(*argv).strip()
    # iproute2 prints empty objects for what its filters leave out.
    return [item for item in json.loads(answer or "[]") if item]


def veths() -> list[dict[str, Any]]:
    """Return the veth devices of this namespace."""
    return _ask_json("ip", "-j", "link", "show", "type", "veth")


def pins() -> int:
    """Count the namespaces that are bound to a path in this mount namespace."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return sum(" - nsfs " in mount for mount in mounts)


def require_containers(count: int, sandbox_path: Callable[[int], Path]) -> None:
    """Raise ContestantFailedError unless there are `count` containers and the first, middle and last can be reached."""
    enslaved = [veth for veth in veths() if "master" in veth and "UP" in veth["flags"]]
    if len(enslaved) != count:
        raise ContestantFailedError(f"{len(enslaved)} of {count} veths are up and on a bridge")
    addresses = {_require_reachable(sandbox_path(number)) for number in sorted({1, (count + 1) // 2, count})}
    if len(addresses) != min(count, 3):
        raise ContestantFailedError(f"two containers have one address: {', '.join(addresses)}")


def _require_reachable(sandbox: Path) -> str:
    """Return the address of the container at `sandbox`, after a ping in both directions."""
    inside = ("nsenter", f"--net={sandbox}")
    links = _ask_json(*inside, "ip", "-j", "-4", "address", "show", "up")
    addresses = {link["ifname"]: [info["local"] for info in link["addr_info"]] for link in links}
    if "127.0.0.1" not in addresses.get("lo", []) or not addresses.get("eth0"):
        raise ContestantFailedError(f"lo or eth0 is not configured in {sandbox}: {addresses}")
    routes = _ask_json(*inside, "ip", "-j", "route", "show", "default")
    if len(routes) != 1:
        raise ContestantFailedError(f"{sandbox} has {len(routes)} default routes")
    address = str(addresses["eth0"][0])
    _ask(*_PING, address)
    _ask(*inside, *_PING, routes[0]["gateway"])
    return address


def await_nothing(pins_before: int) -> float:
    """Wait until no veth is left here and no more than `pins_before` namespaces are pinned.

    Returns the seconds until the look that found nothing: 0 when it was the first.
    """
    start = look = time.monotonic()
    while veths() or pins() > pins_before:
        if look - start > REAP_LIMIT_S:
            raise ContestantFailedError(f"{len(veths())} veths and {pins() - pins_before} pins are left")
        time.sleep(_POLL_S)
        look = time.monotonic()
    return look - start


def settle() -> None:
    """Wait until the kernel has reaped the namespaces of earlier runs.

    The kernel's cleanup_net takes dead namespaces in order, many at a time, removing devices before the rest. So the
    veth of a namespace that dies now goes after the devices of all that died earlier, and the veth of a second one
    after everything else of theirs.
    """
    for _ in range(2):
        holder = subprocess.Popen(
            ["unshare", "-n", "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert holder.stdout is not None  # noqa: S101 - a pipe was asked for
        holder.stdout.readline()
        _ask("ip", "link", "add", "probe", "type", "veth", "peer", "name", "probe1", "netns", str(holder.pid))
        holder.communicate()
        await_nothing(pins())


def require_attached(count: int, sandbox_path: Callable[[int], Path]) -> None:
    """Raise unless `count` containers have a second interface each, and the first reaches the last one's."""
    enslaved = [veth for veth in veths() if "master" in veth and "UP" in veth["flags"]]
    if len(enslaved) != 2 * count:
        raise ContestantFailedError(f"{len(enslaved)} of {2 * count} veths are up and on a bridge")
    inside = ("nsenter", f"--net={sandbox_path(count)}")
    [link] = _ask_json(*inside, "ip", "-j", "-4", "address", "show", "dev", "eth1")
    _ask("nsenter", f"--net={sandbox_path(1)}", *_PING, link["addr_info"][0]["local"])


def require_default_route(namespace: Path, gateway: str) -> None:
    """Raise unless the default route of a namespace goes to `gateway` by eth1."""
    routes = _ask_json("nsenter", f"--net={namespace}", "ip", "-j", "route", "show", "default")
    if [(route["gateway"], route["dev"]) for route in routes] != [(gateway, "eth1")]:
        raise ContestantFailedError(f"the default route is {routes}")
