"""Links: what the parent's hosts says of the child, through all that happens to either, and how they are shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.dnet_commands import network, run
from tests.support.hosts import FakeHost
from tests.support.nft_listing import elements
from tests.support.state_diff import (
    add_line,
    check_refusals,
    differences,
    hosts,
    inside,
    inspect,
    listed,
    resolved,
    whole,
)

MINE = "192.0.2.7 mine # added by somebody"


@pytest.fixture
def host(host: FakeHost) -> FakeHost:
    """Return a host with networks blue and red, and six of both families."""
    network(host, "blue", "--subnet=10.1.0.0/24")
    network(host, "red", "--subnet=10.2.0.0/24")
    network(host, "six", "--subnet=10.6.0.0/24", "--subnet=fd00:6::/64")
    return host


def create(host: FakeHost, name: str, *options: str, net: str = "blue") -> None:
    """Create a container with a host name of its own."""
    run(host, "create", f"--network={net}", f"--hostname={name}-host", *options, name)


def linked(host: FakeHost, name: str, alias: str) -> list[str]:
    """Return the lines of a container's hosts that have an alias."""
    return [line for line in hosts(host, name) if alias in line.split()[1:]]


def links(host: FakeHost) -> list[dict[str, Any]]:
    """Return what `link ls --json` prints."""
    found: list[dict[str, Any]] = run(host, "link", "ls", "--json").json
    return found


# The line


def test_line(host: FakeHost) -> None:
    """The parent's hosts has `ADDRESS ALIAS HOSTNAME NAME` for each address of the child; all of these names work."""
    create(host, "db", net="six")
    create(host, "web", "--link=db:database", net="six")
    lines = ["10.6.0.2\tdatabase db-host db", "fd00:6::2\tdatabase db-host db"]
    assert hosts(host, "web") == ["10.6.0.3\tweb-host", "fd00:6::3\tweb-host", *lines]
    for name in ("database", "db-host", "db"):
        assert resolved(host, "web", name) == ["10.6.0.2", "fd00:6::2"]
        assert "10.6.0.2" in inside(host, "web", "ping", "-4", "-c1", "-W2", name)
    assert inside(host, "web", "getent", "-s", "files", "hosts", "10.6.0.2").split() == lines[0].split()
    assert linked(host, "db", "web") == []


@pytest.mark.parametrize(
    ("link", "hostname", "names"),
    [("db", "", "db {id}"), ("db:db", "x", "db x"), ("db:x", "x", "x db"), ("db:x", "db", "x db"), ("db", "db", "db")],
)
def test_names_once(host: FakeHost, link: str, hostname: str, names: str) -> None:
    """A name that is alias, host name or name at once is written once."""
    run(host, "create", *([f"--hostname={hostname}"] if hostname else []), "db")
    identity = inspect(host, "db")["Id"][:12]
    run(host, "create", "--link", link, "web")
    assert hosts(host, "web")[-1] == f"172.17.0.2\t{names.format(id=identity)}"


def test_many_parents_and_children(host: FakeHost) -> None:
    """Many parents know one child, and one parent knows many children, each under its alias, also one under several."""
    for name in ("db", "cache", "queue"):
        create(host, name, "--expose=80", "--expose=53/udp")
    parents = [f"p-{number}" for number in range(1, 5)]
    for name in parents:
        create(host, name, "--link=db:database")
    create(host, "web", "--link=db", "--link=db:store", "--link=cache:c.c", "--link=queue")
    assert [linked(host, name, "database") for name in parents] == [["10.1.0.2\tdatabase db-host db"]] * 4
    assert hosts(host, "web")[1:] == [
        "10.1.0.2\tdb db-host",
        "10.1.0.2\tstore db-host db",
        "10.1.0.3\tc.c cache-host cache",
        "10.1.0.4\tqueue queue-host",
    ]
    assert sorted(inspect(host, "web")["HostConfig"]["Links"]) == [
        "/cache:/web/c.c",
        "/db:/web/db",
        "/db:/web/store",
        "/queue:/web/queue",
    ]
    assert inspect(host, "db")["HostConfig"]["Links"] == []
    shown = {name: item["links"] for name, item in listed(host).items() if item["links"]}
    assert {name: sorted(found) for name, found in shown.items()} == {
        "db": [*(f"{name}/database" for name in parents), "web/db", "web/store"],
        "cache": ["web/c.c"],
        "queue": ["web/queue"],
    }
    [row] = [line for line in run(host, "ps").stdout.splitlines() if " cache " in line]
    assert row.endswith(" web/c.c")
    about = {"child": "queue", "alias": "queue", "ports": ["53/udp", "80/tcp"], "present": True}
    assert {"parent": "web", **about} in links(host)
    assert len(links(host)) == 8
    table = [line.split() for line in run(host, "link", "ls").stdout.splitlines()]
    assert table[0] == ["PARENT", "CHILD", "ALIAS", "PORTS"]
    assert ["web", "cache", "c.c", "53/udp,", "80/tcp"] in table
    assert [row for row in run(host, "nat", "show", "--json").json if row["kind"] == "link"] == []
    assert elements(host, "links4", "links6") == []


# What happens to either end


def test_recreated_child(host: FakeHost) -> None:
    """A child that is removed is unknown; when it comes back, elsewhere, its parents know it again."""
    create(host, "db")
    parents = ("web", "other")
    for name in parents:
        create(host, name, "--link=db:database")
        add_line(host, name, MINE)
    inodes = host.run("stat -L -c %i /etc/netns/web/hosts /etc/netns/other/hosts").stdout
    run(host, "rm", "db")
    assert [linked(host, name, "database") for name in parents] == [[]] * 2
    assert [(item["parent"], item["present"], item["ports"]) for item in links(host)] == [
        ("web", False, []),
        ("other", False, []),
    ]
    for address in ("10.1.0.77", "10.1.0.78"):
        run(host, "create", "--network=blue", f"--ip={address}", "--hostname=new", "db")
        for name in parents:
            assert linked(host, name, "database") == [f"{address}\tdatabase new db"]
            assert MINE in hosts(host, name)
        assert sorted(listed(host)["db"]["links"]) == ["other/database", "web/database"]
        run(host, "rm", "db")
    run(host, "bulk-create", "--count=1", "--prefix=db", "--network=blue")
    run(host, "rename", "db-1", "db")
    assert [len(linked(host, name, "database")) for name in parents] == [1, 1]
    assert host.run("stat -L -c %i /etc/netns/web/hosts /etc/netns/other/hosts").stdout == inodes
    run(host, "rm", "web", "db", "other")
    assert links(host) == []


def test_child_on_another_network(host: FakeHost) -> None:
    """A child that comes back on another network is unknown until it joins one of its parent's."""
    create(host, "db")
    create(host, "web", "--link=db:database")
    run(host, "rm", "db")
    create(host, "db", net="red")
    assert linked(host, "web", "database") == []
    run(host, "network", "connect", "blue", "db")
    assert linked(host, "web", "database") == ["10.1.0.2\tdatabase db-host db"]


def test_renames(host: FakeHost) -> None:
    """A link goes on when either end is renamed: the child's new name is in the parent's hosts."""
    create(host, "db")
    create(host, "web", "--link=db:database")
    add_line(host, "web", MINE)
    run(host, "rename", "db", "store")
    assert linked(host, "web", "database") == ["10.1.0.2\tdatabase db-host store"]
    run(host, "rename", "web", "front")
    assert linked(host, "front", "database") == ["10.1.0.2\tdatabase db-host store"]
    assert MINE in hosts(host, "front")
    assert [(item["parent"], item["child"], item["present"]) for item in links(host)] == [("front", "store", True)]
    assert inspect(host, "front")["HostConfig"]["Links"] == ["/store:/front/database"]
    assert listed(host)["store"]["links"] == ["front/database"]
    create(host, "db")
    assert linked(host, "front", "database") == ["10.1.0.2\tdatabase db-host store"]
    run(host, "rm", "store")
    assert linked(host, "front", "database") == []
    run(host, "rename", "db", "store")
    assert len(linked(host, "front", "database")) == 1


def test_networks_of_either_end(host: FakeHost) -> None:
    """The line has the child's address on the parent's first network that both are on, whoever joins and leaves."""
    create(host, "db")
    create(host, "web", "--link=db:database")
    add_line(host, "web", MINE)
    steps = [
        ("connect", "red", "db", ["10.1.0.2"]),
        ("connect", "red", "web", ["10.1.0.2"]),
        ("disconnect", "blue", "web", ["10.2.0.2"]),
        ("connect", "blue", "web", ["10.1.0.2"]),
        ("disconnect", "blue", "db", ["10.2.0.2"]),
        ("connect", "six", "db", ["10.2.0.2"]),
        ("disconnect", "red", "db", []),
        ("connect", "six", "web", ["10.6.0.2", "fd00:6::2"]),
        ("disconnect", "six", "db", []),
        ("connect", "blue", "db", ["10.1.0.2"]),
    ]
    for verb, net, name, expected in steps:
        run(host, "network", verb, net, name)
        assert [line.split()[0] for line in linked(host, "web", "database")] == expected, (verb, net, name)
        assert MINE in hosts(host, "web")
        if expected:
            assert "1 received" in inside(host, "web", "ping", "-4", "-c1", "-W2", "database")


# Many


def test_bulk(host: FakeHost) -> None:
    """Fifty containers are linked to a common one in one command, and all follow it when it comes back elsewhere."""
    create(host, "first", net="six")
    before = whole(host, "first")
    create(host, "common", "--expose=80", net="six")
    run(host, "bulk-create", "--count=50", "--network=six", "--link=common:c")
    names = [f"c-{number}" for number in range(1, 51)]
    assert {tuple(linked(host, name, "c")) for name in names} == {
        ("10.6.0.3\tc common-host common", "fd00:6::3\tc common-host common")
    }
    assert len(links(host)) == len(listed(host)["common"]["links"]) == 50
    run(host, "rm", "common")
    run(host, "create", "--network=six", "--ip=10.6.0.99", "--ip6=fd00:6::99", "--hostname=x", "common")
    assert {tuple(linked(host, name, "c")) for name in names} == {("10.6.0.99\tc x common", "fd00:6::99\tc x common")}
    run(host, "bulk-delete", "--prefix=c")
    run(host, "rm", "common")
    assert links(host) == []
    assert differences(host, before) == ""


def test_specification_file(host: FakeHost, tmp_path: Path) -> None:
    """The entries of a file may be linked to each other, in whatever order they come, and both ways."""
    entries = [
        {"name": "web", "network": "blue", "hostname": "w", "link": ["db:database", "cache"]},
        {"name": "db", "network": ["red", "blue"], "hostname": "d", "link": ["web:front"], "expose": [5432]},
        {"name": "cache", "network": "blue", "hostname": "c"},
    ]
    path = tmp_path / "specs.json"
    path.write_text(json.dumps(entries), encoding="ascii")
    run(host, "bulk-create", "--file", str(path))
    assert hosts(host, "web") == ["10.1.0.2\tw", "10.1.0.3\tdatabase d db", "10.1.0.4\tcache c"]
    assert linked(host, "db", "front") == ["10.1.0.2\tfront w web"]
    assert [(item["parent"], item["child"]) for item in links(host)] == [("web", "db"), ("web", "cache"), ("db", "web")]
    run(host, "bulk-delete", "--file", str(path))
    path.write_text(json.dumps([*entries[:2], entries[2] | {"network": "red"}]), encoding="ascii")
    check_refusals(host, [(2, "no network together", f"bulk-create --file {path}")])


# Refused


def test_bad_links(host: FakeHost) -> None:
    """A link that cannot be is refused with its exit code, in a bulk as well, and nothing is touched."""
    create(host, "db")
    create(host, "red-db", net="red")
    run(host, "create", "--network=container:db", "side")
    run(host, "create", "--network=none", "alone")
    commands = [
        (3, "nobody", "create --network blue --link nobody web"),
        (3, "nobody", "bulk-create --count 5 --network blue --link nobody:x"),
        (2, "linked to itself", "create --network blue --link web web"),
        (2, "linked to itself", "create --network blue --link web:x --name web"),
        (2, "no network together", "create --network blue --link red-db web"),
        (2, "no network together", "create --link db web"),
        (2, "no network together", "create --network blue --link alone web"),
        (2, "no network together", "create --network blue --link side web"),
        (2, "given twice", "create --network blue --link db:x --link side:x web"),
        (2, "given twice", "create --network blue --link db --link db web"),
        (2, "network mode none", "create --network none --link db web"),
        (2, "network mode host", "create --network host --link db web"),
        (2, "network mode container:db", "create --network container:db --link db web"),
        (2, "invalid --link", "create --network blue --link db: web"),
        (2, "invalid --link", "create --network blue --link :x web"),
        (2, "'-x'", "create --network blue --link db:-x web"),
        (2, "'x:y'", "create --network blue --link db:x:y web"),
        (2, "linked to itself", "bulk-create --count 2 --network blue --link c-2"),
    ]
    check_refusals(host, commands, "db", "side")
