"""Interfaces attached by hand: what the container, the host and the neighbours see of them."""

from __future__ import annotations

import pytest

from tests.support.attachment_lan import (
    HOST4,
    HOST6,
    PEER4,
    PEER6,
    default,
    device,
    global_addresses,
    make_lan,
    names,
    namespace,
    routes,
    state,
)
from tests.support.dnet_commands import run
from tests.support.hosts import FakeHost, wait_until
from tests.support.traffic import neighbour


def attached(host: FakeHost, *arguments: str) -> dict[str, object]:
    """Attach something, and return what `attach --json` says of it."""
    [document] = run(host, "attach", "--json", *arguments).json
    return dict(document)


def test_bridge_of_the_hosts(host: FakeHost) -> None:
    """An interface on a bridge of the host's has its address, reaches the LAN, and leaves the bridge as it was."""
    peer = make_lan(host)
    space = namespace(host, "x")
    before, host_before = state(space), host.snapshot()
    made = attached(host, "--bridge", "br0", "--ip", "192.168.1.150/24", "/run/netns/x")
    assert (made["interface"], made["new"]) == ("eth0", True)
    assert global_addresses(space, "eth0") == ["192.168.1.150/24"]
    assert device(space, "eth0")["address"] == made["mac"] == "02:42:c0:a8:01:96"
    assert space.can_ping(PEER4)
    assert peer.can_ping("192.168.1.150")
    assert default(space) == [("10.9.0.1", "up0")]
    end = device(host, str(made["host_interface"]))
    assert (end["master"], end["linkinfo"]["info_kind"]) == ("br0", "veth")
    assert end["ifalias"].startswith("dnet path:/run/netns/x eth0 ")
    assert str(made["host_interface"]) in [port["ifname"] for port in host.json("bridge -j link")]
    run(host, "detach", "/run/netns/x")
    assert state(space) == before
    after = host.snapshot()
    assert {key: after[key] for key in ("links", "addresses", "routes")} == {
        key: host_before[key] for key in ("links", "addresses", "routes")
    }
    assert host.rows("SELECT * FROM container") == []


def test_twice_is_once(host: FakeHost) -> None:
    """The same command twice changes nothing; one that wants something else under the name is told what is there."""
    make_lan(host)
    space = namespace(host, "x")
    command = ("--bridge", "br0", "-i", "eth1", "--ip", "192.168.1.150/24@192.168.1.1", "/run/netns/x")
    assert [attached(host, *command)["new"] for _ in range(2)] == [True, False]
    before, inside = host.snapshot(), state(space)
    assert attached(host, *command)["new"] is False
    assert attached(host, "--bridge", "br0", *command[4:])["interface"] == "eth1"
    assert host.changes(before) == ""
    assert state(space) == inside
    refused = run(host, "attach", "--bridge", "br0", "-i", "eth1", "--ip", "192.168.1.9/24", "/run/netns/x", code=4)
    assert "has an interface eth1 already: on bridge br0, 192.168.1.150/24" in refused.stderr
    assert host.changes(before) == ""


def test_what_vanished_is_made_again_by_the_same_command(host: FakeHost) -> None:
    """When somebody has deleted the interface, the command that attached it makes it again."""
    make_lan(host)
    space = namespace(host, "x")
    command = ("--bridge", "br0", "--ip", "192.168.1.150/24", "/run/netns/x")
    attached(host, *command)
    space.run("ip link delete eth0")
    attached(host, *command)
    assert space.can_ping(PEER4)


def test_default_route_is_taken_and_given_back(host: FakeHost) -> None:
    """A gateway replaces the default routes of its family; when the last one that did so goes, they are there again."""
    make_lan(host)
    space = namespace(host, "x")
    space.run("ip route add default via 10.9.0.7 metric 100")
    before, inside = routes(space), state(space)
    attached(
        host, "--bridge", "br0", "--ip", f"192.168.1.150/24@{HOST4}", "--ip", f"fd00:1::5/64@{HOST6}", "/run/netns/x"
    )
    assert default(space) == [(HOST4, "eth0"), ("10.9.0.7", "up0")]
    assert default(space, 6) == [(HOST6, "eth0")]
    attached(host, "--bridge", "br0", "--ip", f"192.168.1.151/24@{PEER4}", "/run/netns/x")
    assert default(space)[0] == (PEER4, "eth1")
    run(host, "detach", "/run/netns/x", "-i", "eth0")
    assert default(space)[0] == (PEER4, "eth1")
    assert default(space, 6) == [("fd00:9::1", "up0")]
    run(host, "detach", "/run/netns/x", "-i", "eth1")
    assert sorted(routes(space)) == sorted(before)
    assert sorted(state(space)["6"]) == sorted(inside["6"])


def test_gateway_outside_the_subnet(host: FakeHost) -> None:
    """A gateway outside the interface's subnets gets a route of its own first."""
    make_lan(host)
    host.run("ip address add 10.77.0.1/32 dev br0")
    space = namespace(host, "x")
    attached(host, "--bridge", "br0", "--ip", "192.168.1.150/24@10.77.0.1", "/run/netns/x")
    assert default(space) == [("10.77.0.1", "eth0")]
    assert ("10.77.0.1", "", "eth0") in routes(space)
    assert space.can_ping("10.77.0.1")


def test_addresses(host: FakeHost) -> None:
    """Several addresses of both families, or none; a MAC address given, made from a string, or kept; an MTU."""
    make_lan(host)
    space = namespace(host, "x")
    some = (
        "--ip",
        "192.168.1.5/24",
        "--ip",
        "192.168.1.6/32",
        "--ip",
        "fd00:1::5/64",
        "--mac-address",
        "02:00:00:00:00:05",
    )
    attached(host, "--bridge", "br0", "-i", "some0", *some, "--mtu", "1400", "/run/netns/x")
    assert sorted(global_addresses(space, "some0")) == ["192.168.1.5/24", "192.168.1.6/32", "fd00:1::5/64"]
    assert (device(space, "some0")["address"], device(space, "some0")["mtu"]) == ("02:00:00:00:00:05", 1400)
    assert space.can_ping(PEER6)
    attached(host, "--bridge", "br0", "-i", "none0", "--ip", "0/0", "/run/netns/x")
    assert global_addresses(space, "none0") == []
    assert "UP" in device(space, "none0")["flags"]
    mac = device(space, "none0")["address"]
    space.run("ip link delete none0")
    attached(host, "--bridge", "br0", "-i", "none0", "--ip", "0/0", "/run/netns/x")
    assert device(space, "none0")["address"] == mac
    attached(host, "--bridge", "br0", "-i", "made0", "--mac-address", "U:web", "/run/netns/x")
    assert device(space, "made0")["address"] == "02:64:d4:20:24:f1"  # md5sum of "web" and a line feed


def test_bridge_is_made_and_goes_with_the_last(host: FakeHost) -> None:
    """A bridge br... that is missing is made, and goes with the last attachment, unless others use it by then."""
    one, two = namespace(host, "one"), namespace(host, "two")
    run(host, "network", "prune")
    before = host.snapshot()
    attached(host, "--bridge", "br7", "--ip", "10.5.0.1/24", "/run/netns/one")
    attached(host, "--bridge", "br7", "--ip", "10.5.0.2/24", "/run/netns/two")
    assert one.can_ping("10.5.0.2")
    assert device(host, "br7")["ifalias"] == "dnet bridge"
    run(host, "detach", "/run/netns/one")
    assert "br7" in names(host)
    run(host, "detach", "/run/netns/two")
    assert host.changes(before) == ""
    assert two.can_ping("127.0.0.1")
    attached(host, "--bridge", "br7", "--ip", "10.5.0.1/24", "/run/netns/one")
    host.run("ip address add 10.5.0.254/24 dev br7")
    assert "bridge br7 stays" in run(host, "detach", "/run/netns/one").stderr
    assert global_addresses(host, "br7") == ["10.5.0.254/24"]
    missing = run(host, "attach", "--bridge", "lan7", "/run/netns/one", code=3)
    assert "this host has no interface lan7" in missing.stderr


def test_born_inside(host: FakeHost) -> None:
    """The interface is never seen among the host's: nothing is moved."""
    make_lan(host)
    namespace(host, "x")
    with host.start("ip -o monitor link", stdout=-1) as monitor:
        wait_until(lambda: watched(monitor.pid), "ip listens")
        made = attached(host, "--bridge", "br0", "-i", "inner0", "/run/netns/x")
        host.run("ip link add last0 type bridge")
        lines = []
        assert monitor.stdout is not None
        while not lines or " last0:" not in lines[-1]:
            lines.append(monitor.stdout.readline())
        monitor.kill()
    assert any(f" {made['host_interface']}@" in line for line in lines)
    assert not [line for line in lines if "inner0" in line.split("@")[0]]


def watched(pid: int) -> bool:
    """Whether a process has a netlink socket."""
    with open(f"/proc/{pid}/net/netlink", encoding="ascii") as file:
        return any(line.split()[2] == str(pid) for line in file.readlines()[1:])


@pytest.mark.parametrize("family", [4, 6])
def test_neighbours_are_told(host: FakeHost, family: int) -> None:
    """A neighbour that knew another MAC address for the container's address knows the new one at once."""
    peer = make_lan(host)
    namespace(host, "x")
    address, length = ("192.168.1.150", 24) if family == 4 else ("fd00:1::150", 64)
    peer.run("ip", "neigh", "replace", address, "lladdr", "02:00:00:00:00:99", "nud", "stale", "dev", "eth0")
    mac = attached(host, "--bridge", "br0", "--ip", f"{address}/{length}", "/run/netns/x")["mac"]

    def known() -> str:
        [entry] = peer.json("ip", "-j", "neigh", "show", "to", address)
        return str(entry["lladdr"])

    wait_until(lambda: known() == mac, "the neighbour knows the new address", within_s=10)


def test_own_container(host: FakeHost) -> None:
    """One of dnet's own containers gets a further interface; its default route moves only when a gateway is given."""
    peer = make_lan(host)
    run(host, "create", "web")
    web = host.sandbox("web")
    attached(host, "--bridge", "br0", "--ip", "192.168.1.150/24", "web")
    assert default(web) == [("172.17.0.1", "eth0")]
    assert peer.can_ping("192.168.1.150")
    attached(host, "--bridge", "br0", "--ip", f"192.168.1.151/24@{HOST4}", "web")
    assert default(web) == [(HOST4, "eth2")]
    [document] = run(host, "inspect", "web").json
    assert [item["interface"] for item in document["NetworkSettings"]["Attachments"]] == ["eth1", "eth2"]
    run(host, "detach", "web", "-i", "eth2")
    assert default(web) == [("172.17.0.1", "eth0")]
    run(host, "rm", "web")
    assert [port["ifname"] for port in host.json("bridge -j link") if port["master"] == "br0"] == ["port1"]


def test_network_of_dnets(host: FakeHost) -> None:
    """To a network: an address of its IPAM; the default route stays where it is unless it is asked for."""
    run(host, "network", "create", "--subnet", "10.1.0.0/24", "--ipv6", "blue")
    run(host, "create", "--network", "blue", "db")
    space = namespace(host, "x")
    made = attached(host, "--network", "blue", "/run/netns/x")
    assert made["addresses"][0] == "10.1.0.3/24"  # type: ignore[index]
    assert space.can_ping("10.1.0.2")
    assert default(space) == [("10.9.0.1", "up0")]
    assert attached(host, "--network", "blue", "/run/netns/x")["new"] is False
    [document] = run(host, "network", "inspect", "blue").json
    assert "path:/run/netns/x" in [item["Name"] for item in document["Containers"].values()]
    assert "in use" in run(host, "network", "rm", "blue", code=4).stderr
    assert "path:/run/netns/x" not in run(host, "ps", "-a").stdout
    run(host, "detach", "/run/netns/x")
    attached(host, "--network", "blue", "--ip", "10.1.0.9@10.1.0.1", "/run/netns/x")
    assert (default(space), default(space, 6)[0][1]) == ([("10.1.0.1", "eth0")], "eth0")
    run(host, "detach", "/run/netns/x")
    assert (default(space), default(space, 6)) == ([("10.9.0.1", "up0")], [("fd00:9::1", "up0")])
    run(host, "create", "--network", "none", "alone")
    attached(host, "--network", "blue", "alone")
    assert default(host.sandbox("alone")) == [("10.1.0.1", "eth0")]
    run(host, "network", "create", "--subnet", "10.2.0.0/24", "apple")
    attached(host, "--network", "apple", "alone")
    assert default(host.sandbox("alone")) == [("10.1.0.1", "eth0")]
    run(host, "create", "web")
    attached(host, "--network", "bridge", "--default-route", "alone")
    assert default(host.sandbox("alone")) == [("172.17.0.1", "eth2")]


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa", "passthru"])
def test_macvlan(host: FakeHost, mode: str) -> None:
    """A macvlan of each mode reaches the LAN behind its parent; deleting it leaves the parent as it was."""
    outside = neighbour(host, "lan0", "10.3.0.0/24")
    space = namespace(host, "x")
    run(host, "network", "prune")
    before = host.snapshot()
    made = attached(
        host, "--macvlan", "lan0", "--mode", mode, "--ip", "10.3.0.9/24", "--ip", "10.3.1.9/24", "/run/netns/x"
    )
    assert device(space, "eth0")["linkinfo"]["info_data"]["mode"] == mode
    assert device(space, "eth0")["ifalias"].startswith("dnet path:/run/netns/x eth0 ")
    assert outside.can_ping("10.3.0.9")
    assert device(space, "eth0")["address"] == made["mac"]
    assert (made["mac"] == device(host, "lan0")["address"]) == (mode == "passthru")
    run(host, "detach", "/run/netns/x")
    assert "eth0" not in names(space)
    assert host.changes(before) == ""


def test_macvlan_raises_its_parent(host: FakeHost) -> None:
    """A parent that is down is raised, as pipework does, and that is said."""
    host.neighbour("lan0", "10.3.0.0/24")
    host.run("ip link set lan0 down")
    namespace(host, "x")
    assert "raised lan0" in run(host, "attach", "--macvlan", "lan0", "/run/netns/x").stderr
    assert "UP" in device(host, "lan0")["flags"]


def test_interface_itself(host: FakeHost) -> None:
    """An interface that moves itself keeps its MAC address inside, and comes back with all that it had."""
    outside = host.neighbour("lan0", "10.3.0.0/24", "fd00:3::/64")
    host.run("sh", "-ec", "ip link set lan0 mtu 1400; ip route add 10.30.0.0/16 via 10.3.0.2 metric 7")
    host.run("ip -6 route add fd00:30::/64 via fd00:3::2")
    space = namespace(host, "x")
    before, mac, inside = state(host), device(host, "lan0")["address"], state(space)
    made = attached(host, "--direct", "lan0", "-i", "wan", "--ip", "10.3.0.1/24@10.3.0.2", "/run/netns/x")
    assert "lan0" not in names(host)
    assert device(space, "wan")["address"] == made["mac"] == mac
    assert default(space) == [("10.3.0.2", "wan")]
    wait_until(lambda: outside.can_ping("10.3.0.1"), "the neighbour reaches it")
    twice = run(host, "attach", "--macvlan", "lan0", "/run/netns/peer", code=3)
    assert "lan0 has been moved into path:/run/netns/x" in twice.stderr or "there is no" in twice.stderr
    run(host, "detach", "/run/netns/x", "-i", "wan")
    assert state(space) == inside
    # The link-local address is the kernel's to make, when it hears that the link is up.
    wait_until(lambda: state(host)["addresses"] == before["addresses"], "all addresses are there")
    assert state(host) == before
    assert outside.can_ping("10.3.0.1")


def test_restored_after_a_reboot(host: FakeHost) -> None:
    """`dnet restore` makes attachments again with the containers: bridges, routes, and others by their path."""
    run(host, "create", "web")
    attached(host, "--bridge", "br7", "--ip", "10.5.0.1/24@10.5.0.9", "web")
    run(host, "route", "add", "web", "10.50.0.0/16", "via", "10.5.0.8")
    namespace(host, "x")
    attached(host, "--bridge", "br7", "--ip", "10.5.0.2/24", "/run/netns/x")
    before = {
        name: (global_addresses(host.sandbox(name), end), routes(host.sandbox(name))) for name, end in ENDS.items()
    }
    host.run("sh", "-c", f"for pin in {host.run_dir}/netns/*; do umount $pin; rm $pin; done; ip netns delete x")
    for name in ("br7", "dnet0"):
        host.run("ip", "link", "delete", name)
    namespace(host, "x")
    missing = run(host, "reconcile", "--dry-run", code=10).stdout
    assert "missing: sandbox of container web" in missing
    assert "missing: path:/run/netns/x, which has been restarted" in missing
    run(host, "restore")
    after = {
        name: (global_addresses(host.sandbox(name), end), routes(host.sandbox(name))) for name, end in ENDS.items()
    }
    assert after == before
    assert host.sandbox("x").can_ping("10.5.0.1")
    assert run(host, "reconcile").stdout == ""


ENDS = {"web": "eth1", "x": "eth0"}


def test_bridge_that_was_made_anew(host: FakeHost) -> None:
    """When somebody has made the host's bridge anew, with another number, `dnet reconcile` makes its ports again."""
    make_lan(host)
    space = namespace(host, "x")
    attached(host, "--bridge", "br0", "--ip", "192.168.1.150/24", "/run/netns/x")
    host.run("ip link delete br0")
    host.run("sh", "-ec", f"ip link add br0 type bridge; ip address add {HOST4}/24 dev br0; ip link set br0 up")
    assert not space.can_ping(HOST4)
    run(host, "reconcile")
    assert space.can_ping(HOST4)
