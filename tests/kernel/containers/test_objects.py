"""What exists because a container or a network does, as ip, bridge, nft and findmnt see it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.hosts import FakeHost


def device(host: FakeHost, name: str) -> dict[str, Any]:
    """Return what `ip -d` says of one of the host's devices."""
    [found] = host.json("ip", "-d", "-j", "link", "show", "dev", name)
    return dict(found)


def created(host: FakeHost, *arguments: str) -> dict[str, Any]:
    """Create a container and return `inspect`'s document of it."""
    document: dict[str, Any] = host.dnet("create", "--json", *arguments).json
    return document


def test_bridge(host: FakeHost) -> None:
    """Network `bridge` is the Linux bridge dnet0, up, with the gateway's address, marked by its alias."""
    host.dnet("create", "web")
    bridge = device(host, "dnet0")
    assert bridge["linkinfo"]["info_kind"] == "bridge"
    assert bridge["linkinfo"]["info_data"]["mcast_snooping"] == 0
    assert "UP" in bridge["flags"]
    assert bridge["address"] == "02:42:ac:11:00:01"
    assert bridge["ifalias"].startswith("dnet ")
    [shown] = host.json("ip -j address show dev dnet0")
    [address] = shown["addr_info"]
    assert (address["local"], address["prefixlen"], address["broadcast"]) == ("172.17.0.1", 16, "172.17.255.255")


def test_host_interface(host: FakeHost) -> None:
    """The host's end of a container's veth is a forwarding port of dnet0, named veth..., marked by its alias."""
    web = created(host, "web")
    name = web["NetworkSettings"]["Networks"]["bridge"]["HostInterface"]
    assert name.startswith("veth")
    [port] = host.json("bridge", "-j", "link", "show", "dev", name)
    assert (port["master"], port["state"]) == ("dnet0", "forwarding")
    link = device(host, name)
    assert {"UP", "LOWER_UP"} <= set(link["flags"])
    assert link["linkinfo"]["info_kind"] == "veth"
    assert "web" in link["ifalias"]
    assert web["Id"][:12] in link["ifalias"]
    assert (link["num_tx_queues"], link["num_rx_queues"]) == (1, 1)


def test_inside(host: FakeHost) -> None:
    """Inside are lo and eth0, up, with the address, MAC and default route that `inspect` tells."""
    settings = created(host, "web")["NetworkSettings"]
    web = host.sandbox("web")
    links = {link["ifname"]: link for link in web.json("ip -j link")}
    assert {"UP"} <= set(links["lo"]["flags"])
    assert {"UP", "LOWER_UP"} <= set(links["eth0"]["flags"])
    assert links["eth0"]["address"] == settings["MacAddress"] == "02:42:ac:11:00:02"
    [eth0] = web.json("ip -j address show dev eth0")
    [address] = eth0["addr_info"]
    assert (address["local"], address["prefixlen"]) == (settings["IPAddress"], settings["IPPrefixLen"])
    [route] = web.json("ip -j route show default")
    assert (route["gateway"], route["dev"]) == (settings["Gateway"], "eth0") == ("172.17.0.1", "eth0")


def test_quiet(host: FakeHost) -> None:
    """No device has an IPv6 link-local address: nothing is sent of a device's own accord."""
    host.dnet("bulk-create", "--count", "3")
    assert host.json("ip -6 -j address show scope link") in ([], [{}])
    assert host.sandbox("c-1").run("ip -6 address show scope link").stdout == ""
    modes = {link["ifname"]: link.get("inet6_addr_gen_mode") for link in host.json("ip -d -j link")}
    assert {mode for name, mode in modes.items() if name != "lo"} == {"none"}


def test_mode_none(host: FakeHost) -> None:
    """A container of mode none has lo, up, and nothing else; neither bridge nor nftables nor forwarding comes of it."""
    before = {key: host.snapshot()[key] for key in ("links", "nftables", "forwarding", "routes")}
    container = created(host, "--network", "none", "alone")
    [lo] = host.sandbox("alone").json("ip -j address")
    assert lo["ifname"] == "lo"
    assert "UP" in lo["flags"]
    assert host.sandbox("alone").can_ping("127.0.0.1")
    assert container["HostConfig"]["NetworkMode"] == "none"
    assert container["NetworkSettings"]["Networks"] == {}
    after = host.snapshot()
    assert {key: after[key] for key in before} == before
    host.dnet("rm", "alone")
    assert host.pins() == []


def test_static_address_and_mac(host: FakeHost) -> None:
    """--ip and --mac-address are what the container gets, and what automatic addresses then avoid."""
    host.dnet("create", "--ip", "172.17.0.2", "--mac-address", "02:AA:BB:CC:DD:EE", "web")
    [eth0] = host.sandbox("web").json("ip -j address show dev eth0")
    assert eth0["address"] == "02:aa:bb:cc:dd:ee"
    assert eth0["addr_info"][0]["local"] == "172.17.0.2"
    assert created(host, "other")["NetworkSettings"]["IPAddress"] == "172.17.0.3"


def test_network_options(host: FakeHost) -> None:
    """Subnet, gateway, ip-range, aux addresses and labels of a network are honoured."""
    options = ("--subnet", "10.1.0.0/16", "--gateway", "10.1.9.9", "--ip-range", "10.1.7.0/29")
    aux = ("--aux-address", "router=10.1.7.2", "--aux-address", "printer=10.1.7.3")
    host.dnet("network", "create", *options, *aux, "--label", "tier=front", "blue")
    made = host.dnet("bulk-create", "--count", "5", "--network", "blue", "--json").json
    assert [item["ip"] for item in made["containers"]] == [f"10.1.7.{last}" for last in (0, 1, 4, 5, 6)]
    [route] = host.sandbox("c-1").json("ip -j route show default")
    assert route["gateway"] == "10.1.9.9"
    [document] = host.dnet("network", "inspect", "blue").json
    [config] = document["IPAM"]["Config"]
    assert config == {
        "Subnet": "10.1.0.0/16",
        "Gateway": "10.1.9.9",
        "IPRange": "10.1.7.0/29",
        "AuxiliaryAddresses": {"router": "10.1.7.2", "printer": "10.1.7.3"},
    }
    assert document["Labels"] == {"tier": "front"}
    bridge = device(host, document["Segments"][0]["Device"])
    assert "blue" in bridge["ifalias"]
    assert host.json("ip", "-j", "address", "show", "dev", bridge["ifname"])[0]["addr_info"][0]["local"] == "10.1.9.9"


@pytest.mark.parametrize("option", [("--mtu", "1400"), ("-o", "com.docker.network.driver.mtu=1400")])
def test_mtu_of_a_network(host: FakeHost, option: tuple[str, str]) -> None:
    """A network's MTU is the bridge's, and both ends' of each container's veth."""
    host.dnet("network", "create", *option, "--subnet", "10.1.0.0/24", "small")
    web = created(host, "--network", "small", "web")
    port = web["NetworkSettings"]["Networks"]["small"]["HostInterface"]
    [document] = host.dnet("network", "inspect", "small").json
    bridge = document["Segments"][0]["Device"]
    assert device(host, bridge)["mtu"] == device(host, port)["mtu"] == 1400
    [eth0] = host.sandbox("web").json("ip -j link show dev eth0")
    assert eth0["mtu"] == 1400


def test_mtu_of_a_container(host: FakeHost) -> None:
    """A container's own MTU is that of its interface; the network's stays as it is."""
    host.dnet("create", "--mtu", "1300", "web")
    host.dnet("create", "other")
    mtus = [host.sandbox(name).json("ip -j link show dev eth0")[0]["mtu"] for name in ("web", "other")]
    assert mtus == [1300, 1500]


def test_ip_netns(host: FakeHost) -> None:
    """`ip netns` lists a container by its name and runs programs in it."""
    host.dnet("create", "web")
    assert [item["name"] for item in host.json("ip -j netns")] == ["web"]
    inside = host.json("ip netns exec web ip -j -4 address show dev eth0")
    assert inside[0]["addr_info"][0]["local"] == "172.17.0.2"


def test_sandbox_key(host: FakeHost) -> None:
    """SandboxKey is a mount of the namespace: it can be joined, and bind-mounted elsewhere."""
    key = created(host, "web")["NetworkSettings"]["SandboxKey"]
    source = host.run("findmnt", "--noheadings", "--output", "SOURCE,FSTYPE", key).stdout
    assert "nsfs" in source
    inside = host.run("nsenter", f"--net={key}", "ip", "-4", "-o", "address", "show", "dev", "eth0").stdout
    assert "172.17.0.2/16" in inside
    host.run("touch", f"{host.directory}/elsewhere")
    host.run("mount", "--bind", key, f"{host.directory}/elsewhere")
    host.dnet("rm", "web")
    links = host.json("nsenter", f"--net={host.directory}/elsewhere", "ip", "-j", "link")
    assert [link["ifname"] for link in links] == ["lo"]


def test_nftables(host: FakeHost) -> None:
    """Everything that comes and goes with a network is in sets of the one table; containers add no rule."""
    host.dnet("create", "c-0")
    [before] = [rules(host)]
    host.dnet("bulk-create", "--count", "20")
    assert rules(host) == before
    tables = [item["table"] for item in host.json("nft -j list tables")["nftables"] if "table" in item]
    assert [(table["family"], table["name"]) for table in tables] == [("inet", "dnet")]
    assert "172.17.0.0/16" in host.run("nft list table inet dnet").stdout
    host.dnet("network", "create", "--subnet", "10.1.0.0/16", "blue")
    assert rules(host) == before
    assert "10.1.0.0/16" in host.run("nft list table inet dnet").stdout
    host.dnet("network", "rm", "blue")
    assert "10.1.0.0/16" not in host.run("nft list table inet dnet").stdout


def rules(host: FakeHost) -> int:
    """Return how many rules there are."""
    return sum("rule" in item for item in host.json("nft -j list ruleset")["nftables"])


def test_nothing_is_left(host: FakeHost) -> None:
    """After everything is removed, the host is as before the first command, forwarding apart."""
    before = host.snapshot()
    host.dnet("network", "create", "--subnet", "10.1.0.0/16", "blue")
    host.dnet("bulk-create", "--count", "20")
    host.dnet("bulk-create", "--count", "20", "--network", "blue", "--prefix", "b")
    host.dnet("create", "--network", "none", "alone")
    host.dnet("bulk-delete", "--all")
    host.dnet("network", "rm", "blue", "bridge")
    after = host.snapshot()
    for key in ("links", "addresses", "routes", "routes6", "nftables"):
        assert after[key] == before[key], key
    # The directories of the pins stay, each a tmpfs of its own, without a pin in it.
    assert not any("nsfs" in line for line in after["mounts"])
    assert host.pins() == []
    assert host.json("ip -j netns") == []
    assert host.rows("SELECT * FROM container") == host.rows("SELECT * FROM endpoint") == []
    assert host.rows("SELECT * FROM network") == []
    assert host.run("find", str(host.state_dir / "operations"), "-type", "f").stdout == ""
