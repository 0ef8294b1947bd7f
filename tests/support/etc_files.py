"""A container's files in /etc, as programs in its namespace read them."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.hosts import FakeHost
from tests.support.state_diff import inside, inspect

SERVER = "198.51.100.53"  # the fake host's
NEW = "198.51.100.54"
MANY = 1000
# One second is what 1,000 containers may take; the machine that runs this may be busy.
PATIENCE_S = 10.0
FILES = ("hostname", "hosts", "resolv.conf")


def read(host: FakeHost, name: str, file: str) -> list[str]:
    """Return the lines of a file in a container's /etc."""
    return inside(host, name, "cat", f"/etc/{file}").splitlines()


def servers(host: FakeHost, name: str) -> list[str]:
    """Return a container's name servers."""
    return [line.split()[1] for line in read(host, name, "resolv.conf") if line.startswith("nameserver")]


def directories(host: FakeHost) -> list[str]:
    """Return the directories with containers' files, and the links to them."""
    places = [host.inside(f"{host.run_dir}/etc"), host.inside("/etc/netns")]
    return [name for place in places if os.path.isdir(place) for name in os.listdir(place)]


def conf(host: FakeHost, name: str) -> Path:
    """Return a container's resolv.conf, as the test process sees it."""
    return Path(host.inside(inspect(host, name)["ResolvConfPath"]))
