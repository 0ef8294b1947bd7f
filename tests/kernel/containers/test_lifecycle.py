"""Names, references, removal, automatic subnets, and healing."""

from __future__ import annotations

import subprocess

import pytest

from tests.support.hosts import FakeHost


def names(host: FakeHost) -> list[str]:
    """Return the names of all containers, as `ps` tells them."""
    return [item["name"] for item in host.dnet("ps", "--json").json]


def subnet(host: FakeHost, name: str) -> str:
    """Return the subnet of a network."""
    [document] = host.dnet("network", "inspect", name).json
    return str(document["IPAM"]["Config"][0]["Subnet"])


@pytest.mark.parametrize("kind", ["name", "id", "prefix"])
def test_rm(host: FakeHost, kind: str) -> None:
    """A container is removed by its name, its id or a unique prefix of that; the other one stays."""
    web = host.dnet("create", "--json", "web").json
    host.dnet("create", "other")
    reference = {"name": "web", "id": web["Id"], "prefix": web["Id"][:12]}[kind]
    host.dnet("rm", reference)
    assert names(host) == ["other"]
    assert [item["name"] for item in host.json("ip -j netns")] == ["other"]
    assert len(host.pins()) == 1
    ports = [item["ifname"] for item in host.json("bridge -j link") if item.get("master") == "dnet0"]
    assert len(ports) == 1


def test_rm_is_all_or_nothing(host: FakeHost) -> None:
    """When one of several names does not exist, none is removed; with --force the others are."""
    host.dnet("bulk-create", "--count", "2")
    before = host.snapshot()
    host.dnet("rm", "c-1", "absent", "c-2", code=3)
    assert host.changes(before) == ""
    host.dnet("rm", "--force", "c-1", "absent", "c-2")
    assert names(host) == []


def test_removed_address_and_name_are_free_again(host: FakeHost) -> None:
    """A removed container's name and address go to the next one, MAC included."""
    first = host.dnet("create", "--json", "web").json["NetworkSettings"]
    host.dnet("rm", "web")
    second = host.dnet("create", "--json", "web").json["NetworkSettings"]
    assert (second["IPAddress"], second["MacAddress"]) == (first["IPAddress"], first["MacAddress"])


def test_random_names(host: FakeHost) -> None:
    """Containers without a name get readable ones, each its own."""
    made = [host.dnet("create").stdout.strip() for _ in range(3)]
    assert len(set(made)) == 3
    assert names(host) == made


def test_bulk_delete(host: FakeHost) -> None:
    """bulk-delete removes by prefix, by name, by file or all, and returns when the kernel shows nothing of them."""
    host.dnet("bulk-create", "--count", "12")
    host.dnet("bulk-create", "--count", "2", "--prefix", "c-1")
    host.dnet("bulk-delete", "--prefix", "c-1")
    assert names(host) == [f"c-{number}" for number in range(1, 13)]
    host.dnet("bulk-delete", "c-3", "c-4")
    listing = host.directory / "some.json"
    listing.write_text('[{"name": "c-5"}]', encoding="ascii")
    host.dnet("bulk-delete", "--file", str(listing))
    assert len(names(host)) == len(host.pins()) == 9
    host.dnet("bulk-delete", "--all")
    assert host.pins() == names(host) == host.json("ip -j netns") == []
    assert not [link for link in host.json("ip -j link") if link["ifname"].startswith("veth")]


def test_network_in_use_is_not_removed(host: FakeHost) -> None:
    """A network with a container on it is not removed, and says who is on it; afterwards it is."""
    host.dnet("create", "web")
    before = host.snapshot()
    refused = host.dnet("network", "rm", "bridge", code=4)
    assert "web" in refused.stderr
    assert host.changes(before) == ""
    host.dnet("rm", "web")
    host.dnet("network", "rm", "bridge")
    assert [link["ifname"] for link in host.json("ip -j link")] == ["lo"]
    assert host.json("nft -j list tables")["nftables"][1:] == []


def test_network_prune(host: FakeHost) -> None:
    """Prune removes the networks that nobody is on, and no other."""
    host.dnet("create", "web")
    host.dnet("network", "create", "blue")
    host.dnet("network", "create", "green")
    assert sorted(host.dnet("network", "prune", "--json").json["deleted"]) == ["blue", "green"]
    assert [item["name"] for item in host.dnet("network", "ls", "--json").json] == ["bridge"]
    assert len([link for link in host.json("ip -j link") if link["ifname"].startswith(("br-", "dnet"))]) == 1


def test_network_by_id(host: FakeHost) -> None:
    """A network is found by its name, its id or a unique prefix of that."""
    identity = host.dnet("network", "create", "blue").stdout.strip()
    assert host.dnet("network", "inspect", identity[:12]).json[0]["Name"] == "blue"
    host.dnet("create", "--network", identity, "web")
    host.dnet("rm", "web")
    host.dnet("network", "rm", identity[:6])


def test_automatic_subnet_avoids_routes(host: FakeHost) -> None:
    """An automatic subnet overlaps no route of the host, whether connected or through a gateway."""
    host.neighbour("lan", "172.17.5.0/24")
    host.run("ip route add 172.18.0.0/15 via 172.17.5.2")
    host.dnet("create", "web")
    assert subnet(host, "bridge") == "172.20.0.0/16"


def test_automatic_subnet_avoids_nameservers(host: FakeHost) -> None:
    """An automatic subnet holds none of the host's nameservers."""
    host.resolv_conf.write_text(
        "search example.org\nnameserver 172.17.0.53\nnameserver 2001:db8::53\nnameserver 172.18.255.1 # c\n",
        encoding="ascii",
    )
    host.dnet("create", "web")
    assert subnet(host, "bridge") == "172.19.0.0/16"


def test_automatic_subnets_avoid_each_other(host: FakeHost) -> None:
    """Each network without a subnet gets one of its own."""
    for name in ("blue", "green", "red"):
        host.dnet("network", "create", name)
    assert [subnet(host, name) for name in ("blue", "green", "red")] == [f"172.{n}.0.0/16" for n in (17, 18, 19)]


def test_deleted_bridge_is_healed(host: FakeHost) -> None:
    """When somebody has deleted dnet0, the next create makes it again, and the new container communicates."""
    host.dnet("create", "web")
    host.run("ip link delete dnet0")
    host.dnet("create", "other")
    assert host.can_ping("172.17.0.3")
    assert host.sandbox("other").can_ping("172.17.0.1")


def test_flushed_rules_are_no_obstacle(host: FakeHost) -> None:
    """After somebody's `nft flush ruleset`, containers and networks are removed all the same."""
    host.dnet("create", "web")
    host.dnet("network", "create", "--subnet", "10.1.0.0/16", "blue")
    host.run("nft flush ruleset")
    host.dnet("rm", "web")
    host.dnet("network", "rm", "blue")
    host.dnet("network", "rm", "bridge")
    assert [link["ifname"] for link in host.json("ip -j link")] == ["lo"]


@pytest.mark.parametrize("name", ["masquerade4", "bridges"])
def test_flushed_set_is_no_obstacle(host: FakeHost, name: str) -> None:
    """A network is removed although somebody has emptied one of the table's sets."""
    host.dnet("network", "create", "--subnet", "10.1.0.0/16", "blue")
    host.dnet("network", "create", "--subnet", "10.2.0.0/16", "green")
    host.run("nft", "flush", "set", "inet", "dnet", name)
    host.dnet("network", "rm", "blue")
    host.dnet("network", "rm", "green")
    assert [link["ifname"] for link in host.json("ip -j link")] == ["lo"]


def test_everything_gone_but_the_database(host: FakeHost) -> None:
    """Containers and networks that somebody else has already removed from the kernel are removed from the database."""
    host.dnet("bulk-create", "--count", "3")
    host.run("ip link delete dnet0")
    host.run("nft flush ruleset")
    for pin in host.pins():
        host.run("umount", f"{host.run_dir}/netns/{pin}")
        host.run("rm", f"{host.run_dir}/netns/{pin}")
    host.run("sh", "-c", "rm /run/netns/c-1")
    host.dnet("bulk-delete", "--all")
    host.dnet("network", "rm", "bridge")
    assert host.rows("SELECT * FROM container") == host.rows("SELECT * FROM network") == []
    assert host.run("ls /run/netns").stdout == ""


def test_container_somebody_holds_is_removed(host: FakeHost) -> None:
    """A container whose namespace a process still holds is removed at once: veth, pin, name and row are gone."""
    web = host.dnet("create", "--json", "web").json
    port = web["NetworkSettings"]["Networks"]["bridge"]["HostInterface"]
    holder = host.start("ip", "netns", "exec", "web", "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    holder.stdin.write("in\n")  # type: ignore[union-attr]
    holder.stdin.flush()  # type: ignore[union-attr]
    assert holder.stdout.readline() == "in\n"  # type: ignore[union-attr]
    host.dnet("rm", "web")
    assert port not in [link["ifname"] for link in host.json("ip -j link")]
    assert host.pins() == host.json("ip -j netns") == names(host) == []
    left = host.run("nsenter", f"--target={holder.pid}", "--net", "ip", "-o", "link").stdout
    assert "eth0" not in left
    host.dnet("create", "--ip", web["NetworkSettings"]["IPAddress"], "web")
    assert host.can_ping(web["NetworkSettings"]["IPAddress"])
