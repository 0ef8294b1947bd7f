"""What dnet is told, and says: its command line, run in a child of the test process."""

from __future__ import annotations

import contextlib
import importlib
import io
import pkgutil
import shlex
from collections.abc import Sequence
from typing import Any

import dnet
from dnet import cli
from tests.support.hosts import FakeHost, Result, wait_until

# Loaded here, once for all children, each of which would load anew what its command needs.
for _module in pkgutil.walk_packages(dnet.__path__, "dnet."):
    if not _module.name.endswith("__main__"):
        importlib.import_module(_module.name)


def run(host: FakeHost, *arguments: str, code: int | None = 0) -> Result:
    """Run the command line in a child of this process: what `host.dnet` does, without starting an interpreter.

    That is four fifths of what a command costs, and tests of the network give hundreds of commands.
    """
    result = Result(*host.call(_run, arguments))
    if code is not None and result.code != code:
        words = shlex.join(("dnet", *arguments))
        raise AssertionError(f"`{words}` exited with {result.code}, not {code}:\n{result.stdout}{result.stderr}")
    return result


def _run(arguments: Sequence[str]) -> tuple[int, str, str]:
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        code = cli.run(list(arguments))
    return code, stdout.getvalue(), stderr.getvalue()


def created(host: FakeHost, *arguments: str) -> dict[str, Any]:
    """Create a container and return `inspect`'s document of it."""
    document: dict[str, Any] = run(host, "create", "--json", *arguments).json
    return document


def network(host: FakeHost, name: str, *options: str) -> dict[str, Any]:
    """Create a network and return `network inspect`'s document of it."""
    document: dict[str, Any] = run(host, "network", "create", *options, name, "--json").json
    return document


def bridge_of(document: dict[str, Any]) -> str:
    """Return the device of a network."""
    return str(document["Segments"][0]["Device"])


def ports_of(host: FakeHost, name: str) -> list[str]:
    """Return what `dnet port` prints, line by line."""
    return run(host, "port", name).stdout.splitlines()


def host_port(document: dict[str, Any], port: str = "80/tcp") -> int:
    """Return the host port of a container's port, the same for all its addresses."""
    [number] = {binding["HostPort"] for binding in document["NetworkSettings"]["Ports"][port]}
    return int(number)


def address(host: FakeHost, name: str, family: int = 4) -> str:
    """Return a container's address, as its own namespace shows it."""
    [device] = host.sandbox(name).json("ip", "-j", f"-{family}", "address", "show", "dev", "eth0", "scope", "global")
    return str(device["addr_info"][0]["local"])


def gateway(host: FakeHost, name: str, family: int = 4) -> str:
    """Return a container's gateway, as its own namespace shows it."""
    [route] = host.sandbox(name).json("ip", "-j", f"-{family}", "route", "show", "default")
    return str(route["gateway"])


def settled_snapshot(host: FakeHost) -> dict[str, Any]:
    """Return FakeHost.snapshot once the kernel has told the state of every device, which it does a little later."""

    def is_settled() -> bool:
        return all(link["operstate"] != "UNKNOWN" for link in host.json("ip -j link") if link["ifname"] != "lo")

    wait_until(is_settled, "every device is up or down")
    return host.snapshot()
