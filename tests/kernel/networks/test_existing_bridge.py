"""Networks on a bridge of the user's own: used as it is, and left as it was."""

from __future__ import annotations

import re
from typing import Any

import dnet
from dnet.engine import Engine
from dnet.linux.nftables import Nft
from tests.support.dnet_commands import network, run
from tests.support.faults import FaultyKernel
from tests.support.hosts import FakeHost, wait_until
from tests.support.nft_listing import elements
from tests.support.traffic import PEER, is_refused, reach
from tests.support.uplink_lan import Switch, addresses, link, uplink_changes, uplink_state

BRIDGE = """
ip link add br0 type bridge
ip link set br0 addrgenmode none
ip link set br0 up
ip address add 10.1.0.254/24 brd + dev br0
"""
BOTH = BRIDGE + "ip address add fd00:1::fe/64 dev br0 nodad"


def make(host: FakeHost, script: str = BRIDGE) -> None:
    """Make bridge br0 by hand, with a port of somebody's."""
    host.run("sh", "-ec", script)
    host.run("sh", "-ec", "ip link add theirs type veth peer name theirs2; ip link set theirs master br0 up")
    host.run("sh", "-ec", "ip link set theirs2 up")
    is_told = lambda: "UNKNOWN" not in {item["operstate"] for item in host.json("ip -j link")[1:]}  # noqa: E731
    tentative = ("ip", "-j", "address", "show", "tentative")
    wait_until(lambda: is_told() and not [item for item in host.json(*tentative) if item], "all has settled")


def ports(host: FakeHost) -> list[str]:
    """Return the ports of br0."""
    return [item["ifname"] for item in host.json("ip -j link show master br0")]


def test_addresses_are_gateway_and_subnet(host: FakeHost) -> None:
    """The bridge's addresses of each family are the network's gateways and subnets; containers get others there."""
    make(host, BOTH)
    made = network(host, "own", "--bridge", "br0")
    assert made["IPAM"]["Config"] == [
        {"Subnet": "10.1.0.0/24", "Gateway": "10.1.0.254"},
        {"Subnet": "fd00:1::/64", "Gateway": "fd00:1::fe"},
    ]
    assert made["Options"] == {"com.docker.network.bridge.name": "br0"}
    run(host, "create", "--network", "own", "web")
    web = host.sandbox("web")
    assert addresses(web, "eth0")[:2] == ["10.1.0.1/24", "fd00:1::1/64"]
    assert web.can_ping("10.1.0.254")
    assert web.can_ping("fd00:1::fe")
    assert len(ports(host)) == 2


def test_nothing_is_made_and_all_is_put_back(host: FakeHost) -> None:
    """With the network goes what it added; the bridge, its ports, its addresses and settings are as they were."""
    make(host, BOTH)
    network(host, "first", "--ipv6")
    before = uplink_state(host)
    network(host, "own", "--bridge", "br0")
    run(host, "create", "--network", "own", "web")
    shown = link(host, "br0")
    assert (shown["address"], shown["mtu"]) == next(
        (item["address"], item["mtu"]) for item in before["links"] if item["ifname"] == "br0"
    )
    assert "ifalias" not in shown
    assert host.run("cat /proc/sys/net/ipv4/conf/br0/route_localnet").stdout == "1\n"
    run(host, "rm", "web")
    run(host, "network", "rm", "own")
    assert uplink_changes(before, uplink_state(host)) == ""
    assert ports(host) == ["theirs"]


def test_what_was_there_stays(host: FakeHost) -> None:
    """Settings that the bridge had before are neither made nor taken away."""
    make(host, BOTH)
    host.run("sysctl -qw net.ipv4.conf.br0.route_localnet=1")
    host.run("ip address add fe80::fe/64 dev br0 nodad")
    host.run("ip -6 route add local ::1 dev br0 table local metric 77")
    network(host, "first", "--ipv6")
    before = uplink_state(host)
    network(host, "own", "--bridge", "br0")
    assert addresses(host, "br0") == ["10.1.0.254/24", "fd00:1::fe/64", "fe80::fe/64"]
    run(host, "network", "rm", "own")
    assert uplink_changes(before, uplink_state(host)) == ""


def test_dockers_word(host: FakeHost) -> None:
    """The Docker option of that name is the same; the default network can be on such a bridge, as with dockerd's -b."""
    make(host)
    made = network(host, "bridge", "-o", "com.docker.network.bridge.name=br0")
    assert made["Segments"][0]["Device"] == "br0"
    run(host, "create", "-p", "8080:80", "web")
    with host.sandbox("web").serve(80):
        assert reach(host, "10.1.0.254", 8080) == "10.1.0.254"
        assert reach(host, "127.0.0.1", 8080) == "10.1.0.254"


def test_gateway_chooses_among_addresses(host: FakeHost) -> None:
    """Of several addresses --gateway, or --subnet, chooses; without either it is refused, and they are named."""
    make(host, BRIDGE + "ip address add 10.2.0.254/24 dev br0; ip address add 10.2.0.253/24 dev br0")
    refusal = run(host, "network", "create", "--bridge", "br0", "own", code=2)
    assert "bridge br0 has several addresses: 10.1.0.254/24, 10.2.0.254/24" in refusal.stderr
    for option, gateway in (
        (("--gateway", "10.1.0.254"), "10.1.0.254"),
        (("--gateway", "10.2.0.254"), "10.2.0.254"),
        (("--subnet", "10.2.0.0/24"), "10.2.0.254"),
    ):
        made = network(host, "own", "--bridge", "br0", *option)
        assert made["IPAM"]["Config"][0]["Gateway"] == gateway
        run(host, "network", "rm", "own")


def test_address_that_is_missing_is_added(host: FakeHost) -> None:
    """A bridge without an address gets the gateway's, as with dockerd's -b, and loses it with the network."""
    host.run("sh", "-c", "ip link add br0 type bridge; ip link set br0 addrgenmode none")
    before = addresses(host, "br0")
    made = network(host, "own", "--bridge", "br0", "--subnet", "10.9.0.0/24", "--ipv6")
    assert addresses(host, "br0")[0] == "10.9.0.1/24"
    assert made["EnableIPv6"]
    run(host, "create", "--network", "own", "web")
    assert host.sandbox("web").can_ping("10.9.0.1")
    run(host, "rm", "web")
    run(host, "network", "rm", "own")
    assert addresses(host, "br0") == before == []


def test_missing_bridge_is_made_and_owned(host: FakeHost) -> None:
    """A bridge that does not exist is made under that name, and goes with the network."""
    network(host, "own", "--bridge", "br0", "--subnet", "10.9.0.0/24")
    assert link(host, "br0")["ifalias"] == "dnet network own"
    assert addresses(host, "br0")[0] == "10.9.0.1/24"
    run(host, "network", "rm", "own")
    assert "br0" not in [item["ifname"] for item in host.json("ip -j link")]


def test_mtu_is_the_bridges(host: FakeHost) -> None:
    """Containers have the bridge's MTU unless --mtu says otherwise, so that a new port does not change the bridge's."""
    make(host, BRIDGE + "ip link set br0 mtu 9000")
    host.run("sh", "-c", "ip link set theirs mtu 9000; ip link set br0 mtu 9000")
    network(host, "own", "--bridge", "br0")
    run(host, "create", "--network", "own", "web")
    assert link(host.sandbox("web"), "eth0")["mtu"] == 9000
    assert link(host, "br0")["mtu"] == 9000


def test_others_on_the_bridge(host: FakeHost) -> None:
    """Machines on the bridge are reached, and routed for, as before; containers from elsewhere only where published."""
    make(host)
    host.run("sh", "-c", "ip link delete theirs")
    machine = host.neighbour("machine")
    host.run("sh", "-c", "ip link set machine master br0")
    machine.run("sh", "-c", "ip address add 10.1.0.7/24 dev eth0; ip route add default via 10.1.0.254")
    far = host.neighbour("far", "192.0.2.0/24")
    far.run("ip route add 10.1.0.0/24 via 192.0.2.1")
    network(host, "own", "--bridge", "br0", "--ip-range", "10.1.0.128/25")
    run(host, "create", "--network", "own", "-p", "8080:80", "web")
    web = host.sandbox("web")
    with machine.serve(80):
        assert reach(far, "10.1.0.7", 80) == PEER[4]
        assert reach(web, "10.1.0.7", 80) == "10.1.0.128"
    with far.serve(80):
        assert reach(machine, PEER[4], 80) == "10.1.0.7"  # its address is not the network's to replace
        assert reach(web, PEER[4], 80) == "192.0.2.1"
    with web.serve(80):
        assert is_refused(far, "10.1.0.128", 80)
        assert reach(far, "192.0.2.1", 8080) == PEER[4]
        assert reach(machine, "10.1.0.128", 80) == "10.1.0.7"
    assert elements(host, "enclosed") == []


def test_internal_on_a_bridge_with_others(host: FakeHost) -> None:
    """--internal keeps the host from routing; who else is on the bridge is reached all the same."""
    make(host)
    host.run("ip link delete theirs")
    machine = host.neighbour("machine")
    host.run("ip link set machine master br0")
    machine.run("ip address add 10.1.0.7/24 dev eth0")
    far = host.neighbour("far", "192.0.2.0/24")
    network(host, "own", "--bridge", "br0", "--internal")
    run(host, "create", "--network", "own", "web")
    web = host.sandbox("web")
    web.run("ip route add default via 10.1.0.254")  # a container that looks for a way out
    with machine.serve(80), far.serve(80):
        assert reach(web, "10.1.0.7", 80) == "10.1.0.1"
        assert is_refused(web, PEER[4], 80)


def test_bridge_that_is_made_again(host: FakeHost) -> None:
    """A bridge of another index under the same name is the network's: its settings and ports come back."""
    make(host)
    network(host, "own", "--bridge", "br0")
    run(host, "create", "--network", "own", "web")
    web = host.sandbox("web")
    host.run("ip link delete br0")
    assert not web.can_ping("10.1.0.254")
    gone = run(host, "create", "--network", "own", "second", code=3)
    assert "bridge br0 of network own, which is not dnet's, is gone" in gone.stderr
    assert "ip link add br0 type bridge" in gone.stderr
    assert "ip address add 10.1.0.254/24 dev br0" in gone.stderr
    host.run("ip link add pad type bridge")
    host.run("sh", "-ec", BRIDGE)
    run(host, "create", "--network", "own", "second")
    assert web.can_ping("10.1.0.254")
    assert host.sandbox("second").can_ping("10.1.0.1")
    assert host.run("cat /proc/sys/net/ipv4/conf/br0/route_localnet").stdout == "1\n"
    assert host.rows("SELECT device_index FROM network") == [[link(host, "br0")["ifindex"]]]


def test_indexes_that_change_places(host: FakeHost) -> None:
    """After a reboot one bridge may have the index that another had; each network finds its own."""
    for name, subnet in (("br0", "10.1.0.254/24"), ("br1", "10.2.0.254/24")):
        host.run(
            "sh", "-ec", f"ip link add {name} type bridge; ip link set {name} up; ip address add {subnet} dev {name}"
        )
        network(host, f"on-{name}", "--bridge", name)
    first, second = (link(host, name)["ifindex"] for name in ("br0", "br1"))
    host.run("sh", "-ec", "ip link delete br0; ip link delete br1")
    for name, index, subnet in (("br0", second, "10.1.0.254/24"), ("br1", first, "10.2.0.254/24")):
        script = (
            f"ip link add {name} index {index} type bridge; ip link set {name} up; ip address add {subnet} dev {name}"
        )
        host.run("sh", "-ec", script)
    run(host, "reconcile")
    assert sorted(host.rows("SELECT device, device_index FROM network")) == [["br0", second], ["br1", first]]
    run(host, "create", "--network", "on-br0", "one")
    run(host, "create", "--network", "on-br1", "two")
    assert host.sandbox("one").can_ping("10.1.0.254")
    assert host.sandbox("two").can_ping("10.2.0.254")


def test_reconcile_without_the_bridge(host: FakeHost) -> None:
    """A bridge that is gone is reported, and keeps nothing else from being mended."""
    make(host)
    network(host, "own", "--bridge", "br0")
    other = network(host, "other")["Segments"][0]["Device"]
    host.run("sh", "-c", f"ip link delete br0; ip link delete {other}")
    result = run(host, "reconcile", code=10)
    assert "device br0 of network own" in result.stderr
    assert link(host, other)["ifname"] == other
    run(host, "network", "rm", "own", "other")
    assert elements_or_nothing(host) == []


def elements_or_nothing(host: FakeHost) -> list[Any]:
    """Return what nft has of dnet's."""
    return [item for item in host.json("nft -j list ruleset")["nftables"] if "table" in item]


def test_adopting_on_a_bridge_of_ones_own(host: FakeHost) -> None:
    """An interface is adopted by a bridge of the user's as by dnet's, and given back; the bridge stays."""
    make(host)
    switch = Switch(host)
    switch.plug(host, "eth1", "192.0.2.10/24")
    machine = switch.machine("machine", "10.1.0.7/24")
    network(host, "own", "--bridge", "br0")
    run(host, "create", "--network", "own", "web")
    before = uplink_state(host)
    run(host, "network", "adopt", "own", "eth1")
    assert addresses(host, "br0") == ["10.1.0.254/24", "192.0.2.10/24"]
    with host.sandbox("web").serve(80):
        assert reach(machine, "10.1.0.1", 80) == "10.1.0.7"
    run(host, "network", "adopt", "--undo", "own", "eth1")
    assert uplink_changes(before, uplink_state(host)) == ""


def test_spanning_tree(host: FakeHost) -> None:
    """A bridge that runs the spanning tree protocol makes a new port wait: that is said before."""
    make(host, BRIDGE.replace("type bridge", "type bridge stp_state 1 forward_delay 200", 1))
    Switch(host).plug(host, "eth1", "192.0.2.10/24")
    network(host, "own", "--bridge", "br0")
    said = run(host, "network", "adopt", "own", "eth1").stderr
    assert "bridge br0 runs the spanning tree protocol, so that eth1 passes nothing for 4 s" in said


def test_vlans_need_a_bridge_of_dnets(host: FakeHost) -> None:
    """On a Linux bridge of the user's no VLANs are kept apart, neither from the beginning nor later."""
    make(host)
    assert "keeps no VLANs" in run(host, "network", "create", "--bridge", "br0", "--vlan", "7", "x", code=2).stderr
    network(host, "own", "--bridge", "br0")
    refusal = run(host, "create", "--network", "own", "--vlan", "7", "web", code=2).stderr
    assert "network own cannot keep VLANs apart" in refusal


def create(directories: tuple[str, str], fail_at: int) -> str:
    """Create a network on br0 with a fault in one object; return which one, or nothing when there are fewer."""
    kernel = FaultyKernel(lambda _: None, fail_at)
    with Engine(*directories, lambda _: None, kernel, Nft()) as engine:
        try:
            engine.create_network("own", bridge="br0", subnet6="fd00:1::/64")
        except dnet.DnetError:
            return str(kernel.refused)
        engine.delete_networks(["own"])
        return ""


def test_refused_object(host: FakeHost) -> None:
    """Whichever object is refused, the bridge is as it was."""
    make(host)
    network(host, "first", "--ipv6")
    before = uplink_state(host)
    number = 0
    while refused_object := host.call(create, host.directories, number):
        assert uplink_changes(before, uplink_state(host)) == "", refused_object
        number += 1
    assert number >= 7
    assert uplink_changes(before, uplink_state(host)) == ""


PREPARED = """
ip link add no-bridge type veth peer name other
ip tuntap add tap0 mode tap
ip link add br2 type bridge; ip link set br2 addrgenmode none; ip link set br2 up; ip address add 10.2.0.1/24 dev br2
ip link add br3 type bridge; ip address add 10.9.0.1/24 dev br3
ip link add br4 type bridge; ip address add 10.4.0.1/32 dev br4
"""
BAD = [
    (2, "no-bridge is no bridge but a veth device", "--bridge no-bridge"),
    (2, "tap0 is no bridge but a tun device", "--bridge tap0"),
    (2, "invalid interface name 'sixteen_letters_'", "--bridge sixteen_letters_"),
    (2, "invalid interface name 'a/b'", "-o com.docker.network.bridge.name=a/b"),
    (4, "bridge br2 is that of network taken already", "--bridge br2"),
    (4, "bridge mine is that of network made already", "--bridge mine --subnet 10.7.0.0/24"),
    (2, "gateway 10.1.0.1 is none of bridge br0, which has 10.1.0.254/24", "--bridge br0 --gateway 10.1.0.1"),
    (2, "subnet 10.3.0.0/24 is none of bridge br0", "--bridge br0 --subnet 10.3.0.0/24"),
    (4, "10.9.0.0/24.*10.9.0.0/16 of network made", "--bridge br3"),
    (2, "subnet 10.4.0.1/32 is too small", "--bridge br4"),
    (2, "ip-range 10.3.0.0/25 is outside", "--bridge br0 --ip-range 10.3.0.0/25"),
    (2, "aux-address r 10.1.0.254 is the gateway", "--bridge br0 --aux-address r=10.1.0.254"),
    (2, "need a subnet", "--bridge absent --gateway 10.1.0.1"),
]


def test_bad_input(host: FakeHost) -> None:
    """Each has its sentence and its exit code, and changes nothing."""
    make(host)
    host.run("sh", "-ec", PREPARED)
    network(host, "taken", "--bridge", "br2")
    network(host, "made", "--bridge", "mine", "--subnet", "10.9.0.0/16")
    before = uplink_state(host)
    for code, words, arguments in BAD:
        result = run(host, "network", "create", *arguments.split(), "x", code=code)
        first = result.stderr.splitlines()[0]
        assert re.search(words, first), first
        assert re.match(r"dnet: \S.*[^.]$", first), first
    assert uplink_changes(before, uplink_state(host)) == ""
