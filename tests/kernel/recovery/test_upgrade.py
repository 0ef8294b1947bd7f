"""What version 1 of the database and of the table left on a host that is alive: this version goes on with it."""

from __future__ import annotations

import pytest

from dnet.state.schema import SCHEMA_VERSION
from tests.support import old_databases
from tests.support.dnet_commands import network, run
from tests.support.hosts import FakeHost, Neighbour
from tests.support.nft_listing import elements
from tests.support.state_diff import addresses_by_device, differences, hosts, inspect, listed, whole
from tests.support.traffic import HOST, reach


@pytest.fixture
def host(host: FakeHost, lan: Neighbour) -> FakeHost:
    """Return a host on which version 1 has made networks blue and apart, and three containers."""
    assert lan
    network(host, "blue", "--subnet=10.1.0.0/24")
    network(host, "apart", "--icc=false", "--subnet=10.3.0.0/24", "--subnet=fd00:3::/64")
    run(host, "create", "--network=blue", "-p", "8080:80", "--label=a=b", "web")
    run(host, "create", "--network=apart", "--expose=80", "--dns=192.0.2.53", "db")
    run(host, "create", "--network=none", "alone")
    old_databases.take_back_to_1(host.state_dir / "state.db")
    host.run("nft", "-f", "-", stdin=old_databases.table_commands_1())
    # On networks whose containers may not talk, neighbours were on the link.
    db = host.sandbox("db")
    for route in ("10.3.0.0/24", "fd00:3::/64"):
        db.run("ip", "route", "replace", route, "dev", "eth0", *(["scope", "link"] if "." in route else []))
    return host


def test_everything_is_known(host: FakeHost, lan: Neighbour) -> None:
    """All commands that look see what version 1 made; nothing in the kernel or the files is touched by that."""
    before = whole(host, "web", "db", "alone")
    assert host.rows("PRAGMA user_version") == [[1]]
    assert {name: (item["networks"], item["ips"]) for name, item in listed(host).items()} == {
        "web": (["blue"], ["10.1.0.2"]),
        "db": (["apart"], ["10.3.0.2"]),
        "alone": ([], []),
    }
    assert host.rows("PRAGMA user_version") == [[SCHEMA_VERSION]]
    document = inspect(host, "web")
    assert (document["Config"]["Labels"], document["HostConfig"]["Links"]) == ({"a": "b"}, [])
    assert run(host, "port", "web").stdout == "80/tcp -> 0.0.0.0:8080\n"
    assert len(run(host, "network", "inspect", "blue", "apart").json) == 2
    assert run(host, "link", "ls", "--json").json == []
    kinds = [row["kind"] for row in run(host, "nat", "show", "--json").json]
    assert sorted(kinds) == ["masquerade", "masquerade", "masquerade", "publish"]
    assert "rows" in before
    assert [line for line in differences(host, before).splitlines() if not line.startswith("rows: ")] == []
    with host.sandbox("web").serve(80):
        assert reach(lan, HOST[4], 8080)


def test_it_is_all_removed(host: FakeHost) -> None:
    """What version 1 made is removed without a trace."""
    run(host, "rm", "web", "db", "alone")
    run(host, "network", "rm", "blue", "apart")
    assert host.run("nft list ruleset").stdout == ""
    assert sorted(link["ifname"] for link in host.json("ip -j link")) == ["lan", "lo"]
    assert host.pins() == []
    assert host.run("ls /run/netns /etc/netns").stdout.split() == ["/etc/netns:", "/run/netns:"]
    assert [host.rows(f"SELECT * FROM {table}") for table in ("container", "endpoint", "network", "port_mapping")] == [
        []
    ] * 4


def test_it_is_worked_with(host: FakeHost, lan: Neighbour) -> None:
    """Containers of version 1 join and leave networks, are shared, linked to, renamed; the table is made up to date."""
    run(host, "network", "connect", "apart", "web")
    web = host.sandbox("web")
    assert addresses_by_device(web) == {"eth0": ["10.1.0.2/24"], "eth1": ["10.3.0.3/24", "fd00:3::3/64"]}
    with web.serve(80):
        assert reach(lan, HOST[4], 8080)
    run(host, "network", "disconnect", "apart", "web")
    run(host, "create", "--network=container:web", "side")
    run(host, "create", "--network=apart", "--link=db:database", "front")
    [line] = [line for line in hosts(host, "front") if line.startswith("10.3.0.2\t")]
    assert line.split()[1] == "database"
    assert [key for key, _ in elements(host, "links4")] == [("10.3.0.3", "10.3.0.2", "tcp", "80")]
    run(host, "rename", "db", "store")
    assert [line for line in hosts(host, "front") if line.endswith(" store")]
    run(host, "rm", "side", "front", "web", "store", "alone")
    assert listed(host) == {}
