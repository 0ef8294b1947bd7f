"""What is not dnet's stays untouched, and several engines and processes do not get into each other's way."""

from __future__ import annotations

import contextlib
import fcntl
import subprocess
from pathlib import Path
from typing import Any

import pytest

import dnet
from tests.support.hosts import FakeHost, program
from tests.support.plugin import require_root


def test_foreign_namespace_name(host: FakeHost) -> None:
    """A name that `ip netns add` made is a Conflict, found before anything is touched; the namespace stays."""
    host.run("ip netns add web")
    host.run("ip -n web link set lo up")
    host.dnet("create", "first")
    before = host.snapshot()
    refused = host.dnet("create", "web", code=4)
    assert "web" in refused.stderr
    host.dnet("bulk-create", "--file", listing(host, "a", "web", "b"), code=4)
    assert host.changes(before) == ""
    assert host.json("ip -n web -j link")[0]["flags"] == ["LOOPBACK", "UP", "LOWER_UP"]


def listing(host: FakeHost, *names: str) -> str:
    """Write a file for bulk-create."""
    path = host.directory / "listing.json"
    path.write_text("[" + ", ".join(f'{{"name": "{name}"}}' for name in names) + "]", encoding="ascii")
    return str(path)


def test_foreign_etc_directory(host: FakeHost) -> None:
    """A directory that somebody has in /etc/netns for a namespace of that name is a Conflict, and stays."""
    host.dnet("create", "first")
    host.run("mkdir -p /etc/netns/web")
    host.run("touch /etc/netns/web/resolv.conf")
    before = host.snapshot()
    refused = host.dnet("create", "web", code=4)
    assert "/etc/netns/web" in refused.stderr
    host.dnet("bulk-create", "--file", listing(host, "a", "web", "b"), code=4)
    assert host.changes(before) == ""


def test_foreign_name_is_not_removed_with_a_container(host: FakeHost) -> None:
    """A name that somebody has pointed elsewhere meanwhile stays when the container is removed."""
    host.dnet("create", "web")
    host.run("ip netns add theirs")
    host.run("ln -sf theirs /run/netns/web")
    host.dnet("rm", "web")
    assert host.pins() == []
    assert host.run("readlink /run/netns/web").stdout == "theirs\n"


def test_foreign_device(host: FakeHost) -> None:
    """A device dnet0 that is not dnet's is a Conflict; it stays as it is, and nothing else is made."""
    host.run("ip link add dnet0 type bridge")
    host.run("ip address add 10.99.0.1/24 dev dnet0")
    host.dnet("network", "prune")
    before = host.snapshot()
    refused = host.dnet("create", "web", code=4)
    assert "dnet0" in refused.stderr
    assert host.changes(before) == ""
    host.run("ip link delete dnet0")
    host.dnet("create", "web")


def test_foreign_device_in_place_of_a_deleted_one(host: FakeHost) -> None:
    """When dnet0 was deleted and somebody made another of that name, that one is a Conflict and stays."""
    host.dnet("create", "web")
    host.run("ip link delete dnet0")
    host.run("ip link add dnet0 type bridge")
    before = host.snapshot()
    host.dnet("create", "other", code=4)
    assert host.changes(before) == ""
    host.dnet("rm", "web")
    host.dnet("network", "rm", "bridge")
    assert "dnet0" in [link["ifname"] for link in host.json("ip -j link")]


def test_foreign_device_with_a_container_interface_name(host: FakeHost) -> None:
    """A device that has the next host interface's name, or its index, is refused as a Conflict and stays."""
    host.dnet("create", "first")
    [[index]] = host.rows("SELECT max(host_index) FROM endpoint")
    host.run("ip", "link", "add", f"veth{index + 1:x}", "type", "bridge")
    host.run("ip", "link", "add", "theirs", "index", str(index + 2), "type", "bridge")
    before = host.snapshot()
    for _ in range(2):
        host.dnet("create", "web", code=4)
        assert host.changes(before) == ""
    host.dnet("create", "web")


def test_foreign_pin(host: FakeHost) -> None:
    """A namespace that somebody pins in dnet's directory survives every command of dnet's."""
    host.dnet("create", "first")
    path = f"{host.run_dir}/netns/theirs"
    host.run("touch", path)
    host.run("ip netns add other")
    host.run("mount", "--bind", "/run/netns/other", path)
    host.dnet("bulk-create", "--count", "3")
    host.dnet("bulk-delete", "--all")
    host.dnet("network", "rm", "bridge")
    assert host.pins() == ["theirs"]
    assert "nsfs" in host.run("findmnt", "--noheadings", "--output", "FSTYPE", path).stdout


def test_foreign_table(host: FakeHost) -> None:
    """Other tables of nftables stay as they are, rules, counters and all."""
    host.run("nft add table inet filter")
    host.run("nft", "add chain inet filter input { type filter hook input priority 0; policy accept; }")
    host.run("nft add rule inet filter input tcp dport 22 accept")
    before = host.run("nft -a list table inet filter").stdout
    host.dnet("create", "web")
    host.dnet("rm", "web")
    host.dnet("network", "rm", "bridge")
    assert host.run("nft -a list table inet filter").stdout == before


@pytest.mark.kernel
def test_two_engines(tmp_path: Path) -> None:
    """Two engines in network and mount namespaces of their own use the same names without touching each other."""
    require_root()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with FakeHost(tmp_path / "a") as one, FakeHost(tmp_path / "b") as two:
        for host in (one, two):
            host.dnet("bulk-create", "--count", "5")
        before = two.snapshot()
        one.dnet("bulk-delete", "--all")
        one.dnet("network", "rm", "bridge")
        assert two.changes(before) == ""
        assert two.silent([f"172.17.0.{last}" for last in range(2, 7)]) == []


def test_two_engines_on_one_host(host: FakeHost) -> None:
    """Two state directories on one host: clashes of names are Conflicts, and neither removes what is the other's."""
    host.dnet("create", "web")
    before = host.snapshot()
    other = ("--state-dir", f"{host.directory}/state2", "--run-dir", f"{host.directory}/run2")
    assert "dnet0" in host.dnet(*other, "create", "db", code=4).stderr
    host.dnet(*other, "network", "create", "blue")
    assert "web" in host.dnet(*other, "create", "--network", "blue", "web", code=4).stderr
    host.dnet(*other, "create", "--network", "blue", "db")
    host.dnet(*other, "rm", "db")
    host.dnet(*other, "network", "rm", "blue")
    after = host.snapshot()
    for key in ("links", "addresses", "routes", "rows", "nftables"):
        assert after[key] == before[key]


def test_race_for_a_name(host: FakeHost) -> None:
    """Of several processes that create the same name at once, one succeeds and the others get a Conflict."""
    racers = [host.start_dnet("create", "web") for _ in range(4)]
    errors = [racer.communicate()[1] for racer in racers]
    assert sorted(racer.returncode for racer in racers) == [0, 4, 4, 4], errors
    assert len(host.pins()) == 1
    assert host.can_ping("172.17.0.2")
    assert host.run("find", str(host.state_dir / "operations"), "-type", "f").stdout == ""


def test_race_for_an_address(host: FakeHost) -> None:
    """Of several processes that want the same address at once, one succeeds and the others get a Conflict."""
    racers = [host.start_dnet("create", "--ip", "172.17.0.9", f"c-{number}") for number in range(4)]
    errors = [racer.communicate()[1] for racer in racers]
    assert sorted(racer.returncode for racer in racers) == [0, 4, 4, 4], errors
    assert len(host.pins()) == 1
    assert host.can_ping("172.17.0.9")


def test_race_for_a_network(host: FakeHost) -> None:
    """Of several processes that create the same network at once, one succeeds and the others get a Conflict."""
    racers = [host.start_dnet("network", "create", "blue") for _ in range(4)]
    errors = [racer.communicate()[1] for racer in racers]
    assert sorted(racer.returncode for racer in racers) == [0, 4, 4, 4], errors
    assert len([link for link in host.json("ip -j link") if link["ifname"].startswith("br-")]) == 1


def test_parallel_bulks(host: FakeHost) -> None:
    """Four bulk-creates at once, on a network that none of them finds, all succeed with addresses of their own."""
    racers = [host.start_dnet("bulk-create", "--count", "25", "--prefix", f"p{number}") for number in range(4)]
    errors = [racer.communicate()[1] for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0, 0], errors
    addresses = [ip for item in host.dnet("ps", "--json").json for ip in item["ips"]]
    assert len(set(addresses)) == len(addresses) == 100
    assert host.silent(addresses) == []
    assert len(host.pins()) == 100
    racers = [host.start_dnet("bulk-delete", "--prefix", f"p{number}") for number in range(4)]
    errors = [racer.communicate()[1] for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0, 0], errors
    assert host.pins() == host.json("ip -j netns") == []


def test_working_beside_commands_that_clear_up(host: FakeHost) -> None:
    """Whenever another process looks for what dead ones left, it takes a living one's work for no such thing."""
    host.dnet("create", "first")
    assert host.call(create_beside_others, host.directories) == 30
    assert len(host.pins()) == 31
    assert len(host.dnet("ps", "-q").stdout.split()) == 31


def create_beside_others(directories: tuple[str, str]) -> int:
    """Create containers; others clear up before this process has locked what tells that it lives, and in the middle."""
    lock = fcntl.flock
    events = []

    def others(event: str) -> None:
        if event not in events:
            events.append(event)
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run([program(), "rm", "--force", "nobody"], check=True, timeout=5)

    def late_lock(file: Any, operation: int) -> None:
        if "/operations/" in getattr(file, "name", ""):
            others("before the lock")
        lock(file, operation)

    fcntl.flock = late_lock
    with dnet.open(*directories) as engine:
        specs = [dnet.ContainerSpec(name=f"c-{number}") for number in range(30)]
        return len(engine.create_many(specs, on_progress=lambda *_: others("in the middle")).containers)


def test_creating_and_removing_at_once(host: FakeHost) -> None:
    """While one process creates and removes containers of its own, another does the same; both succeed."""
    host.dnet("network", "create", "--subnet", "10.1.0.0/16", "blue")
    loop = 'for n in 1 2 3; do "$1" bulk-create -q --count 10 --network blue --prefix "$2" || exit; \
        "$1" bulk-delete -q --prefix "$2" || exit; done'

    racers = [host.start("sh", "-c", loop, "sh", program(), prefix, stderr=-1) for prefix in ("a", "b")]
    errors = [racer.communicate()[1] for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0], errors
    assert host.pins() == host.json("ip -j netns") == []
