"""One end of a link is created or changed while another process removes or changes the other end."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.kernel.links.test_isolated_networks import LINKS, opened
from tests.support.dnet_commands import network, run
from tests.support.hosts import FakeHost
from tests.support.state_diff import hosts, listed

# A process that waits in the middle of creating a container, nothing of it in the kernel, until it is told to go on.
HELD = """
import sys
from dnet import cli
from dnet.operations import containers
create = containers.create_groups
def held(*arguments, **options):
    print(flush=True)
    sys.stdin.readline()
    return create(*arguments, **options)
containers.create_groups = held
cli.main(sys.argv[1:])
"""


@pytest.fixture
def host(host: FakeHost) -> FakeHost:
    """Return a host with a network whose containers may not talk."""
    network(host, "apart", "--icc=false", "--subnet=10.3.0.0/24", "--subnet=fd00:3::/64")
    return host


def meanwhile(host: FakeHost, created: str, *others: str) -> None:
    """Give commands while a process is in the middle of `create`; then it goes on."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    holder = host.start(sys.executable, "-c", HELD, "create", "--network=apart", *created.split(), **pipes)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "\n"
    for line in others:
        run(host, *line.split())
    holder.communicate("\n" * 9)
    assert holder.returncode in {0, 4}


def lines(host: FakeHost) -> list[str]:
    """Return the addresses that web's hosts has for its link."""
    return [line.split()[0] for line in hosts(host, "web") if "database" in line]


def create(host: FakeHost, *options: str) -> None:
    """Create a container on the network."""
    run(host, "create", "--network=apart", *options)


def test_child_is_removed_meanwhile(host: FakeHost) -> None:
    """A parent whose child was removed while it was made has no line for it, and nothing is open."""
    create(host, "--expose=80", "db")
    meanwhile(host, "--link=db:database web", "rm db")
    assert (opened(host), lines(host) if "web" in listed(host) else []) == ([], [])


def test_parent_is_removed_meanwhile(host: FakeHost) -> None:
    """A child whose parent was removed while it was made again is open to nobody."""
    create(host, "--expose=80", "db")
    create(host, "--link=db:database", "web")
    run(host, "rm", "db")
    meanwhile(host, "--expose=80 db", "rm web")
    assert opened(host) == []


def test_child_comes_back_elsewhere_meanwhile(host: FakeHost) -> None:
    """A parent whose child was made again at another address meanwhile knows that one, and it is open."""
    create(host, "--expose=80", "db")
    again = "create --network=apart --ip=10.3.0.7 --ip6=fd00:3::7 --expose=80 db"
    meanwhile(host, "--link=db:database --ip=10.3.0.9 --ip6=fd00:3::9 web", "rm db", again)
    assert lines(host) == ["10.3.0.7", "fd00:3::7"]
    assert [key[:2] for key, _ in opened(host)] == [("10.3.0.9", "10.3.0.7"), ("fd00:3::9", "fd00:3::7")]


def test_child_is_renamed_meanwhile(host: FakeHost) -> None:
    """A parent whose child was renamed while it was made knows it by its new name."""
    create(host, "--expose=80", "--expose=53/udp", "db")
    meanwhile(host, "--link=db:database web", "rename db store")
    assert [line.split()[-1] for line in hosts(host, "web") if "database" in line] == ["store", "store"]
    assert opened(host) == LINKS
    run(host, "rm", "store")
    assert (opened(host), lines(host)) == ([], [])


def test_child_leaves_the_network_meanwhile(host: FakeHost) -> None:
    """A parent whose child left the network while it was made has no line for it, and nothing is open."""
    create(host, "--expose=80", "db")
    meanwhile(host, "--link=db:database web", "network disconnect apart db")
    assert (opened(host), lines(host)) == ([], [])
