"""The main job, and where it ends: 500 containers in one command, 1,023 on one network."""

from __future__ import annotations

from tests.support.hosts import FakeHost


def test_five_hundred(host: FakeHost) -> None:
    """500 containers of one command all answer a ping from the host; one more command leaves nothing of them."""
    before = host.snapshot()
    made = host.dnet("bulk-create", "--count", "500", "--json").json
    addresses = [item["ip"] for item in made["containers"]]
    assert made["created"] == len(set(addresses)) == 500
    assert host.silent(addresses, within_s=60) == []
    assert host.sandbox("c-1").can_ping(addresses[-1])
    ports = [item["ifname"] for item in host.json("bridge -j link") if item.get("master") == "dnet0"]
    assert sorted(ports) == sorted(item["host_interface"] for item in made["containers"])
    assert len(host.pins()) == len(host.json("ip -j netns")) == 500
    host.dnet("bulk-delete", "--all")
    assert [link["ifname"] for link in host.json("ip -j link")] == ["lo", "dnet0"]
    assert host.pins() == host.json("ip -j netns") == []
    host.dnet("network", "rm", "bridge")
    after = host.snapshot()
    for key in ("links", "addresses", "routes", "routes6", "nftables"):
        assert after[key] == before[key], key
    assert not any("nsfs" in line for line in after["mounts"])
    for table in ("container", "endpoint", "network"):
        assert host.rows(f"SELECT * FROM {table}") == []


def test_bridge_is_full(host: FakeHost) -> None:
    """A network holds 1,023 containers; more are refused before anything is made, and it is said how many fit."""
    host.dnet("network", "create", "--subnet", "10.1.0.0/16", "blue")
    host.dnet("bulk-create", "--count", "3", "--network", "blue", "--prefix", "first")
    before = host.snapshot()
    refused = host.dnet("bulk-create", "--count", "1021", "--network", "blue", code=5)
    assert "1020" in refused.stderr.replace(",", "")
    assert "1023" in refused.stderr.replace(",", "")
    assert host.changes(before) == ""


def test_every_port_of_a_bridge(host: FakeHost) -> None:
    """The 1,023rd container fits, communicates, and the next one is Exhausted."""
    host.dnet("bulk-create", "--count", "1023", "--quiet")
    assert host.can_ping("172.17.4.0")
    assert host.sandbox("c-1023").can_ping("172.17.0.1")
    host.dnet("create", "one-more", code=5)
    assert len(host.pins()) == 1023
    host.dnet("bulk-delete", "--all", "--quiet")
    assert host.pins() == []
    host.dnet("create", "again")
