"""An interface of the host's becomes a port of a network's bridge, and is given back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.adopted_lan import FAR, FAR6, HOST, HOST6, MACHINE, MACHINE6, add_container, make_network
from tests.support.dnet_commands import network, run
from tests.support.hosts import FakeHost, Namespace, wait_until
from tests.support.nft_listing import elements
from tests.support.traffic import PATIENCE_S, REFUSAL_S, filter_bridged, is_refused, reach, set_number
from tests.support.uplink_lan import (
    Switch,
    addresses,
    adopt_with_fault,
    is_adopted,
    link,
    streaming,
    uplink_changes,
    uplink_state,
)

# What it is for


def test_two_hosts_share_a_subnet_with_the_lan(host: FakeHost, other: FakeHost, switch: Switch) -> None:
    """Containers on two hosts and a machine on the LAN, all in one subnet, reach each other, and nobody translates."""
    switch.plug(other, "eth1", "192.0.2.20/24")
    machine = switch.machine("machine", "10.1.0.3/16", "fd00:1::3/64")
    places = {host: ("10.1.1.0/24", "10.1.0.1", "fd00:1::1"), other: ("10.1.2.0/24", "10.1.0.2", "fd00:1::2")}
    boxes = []
    for place, (ip_range, gateway, gateway6) in places.items():
        subnets = ("--subnet", "10.1.0.0/16", "--subnet", "fd00:1::/64", "--gateway", gateway, "--gateway", gateway6)
        network(place, "lan", *subnets, "--ip-range", ip_range)
        run(place, "network", "adopt", "lan", "eth1")
        ip6 = f"fd00:1::{ip_range[5]}00"
        boxes.append((add_container(place, "box", "--ip6", ip6), ip_range.replace("0/24", "0"), ip6))
    boxes.append((machine, "10.1.0.3", "fd00:1::3"))
    for server, four, six in boxes:
        with server.serve(80, address="::"):
            for client, own, own6 in boxes:
                if client is not server:
                    assert reach(client, four, 80).removeprefix("::ffff:") == own
                    assert reach(client, six, 80) == own6


def test_containers_in_the_lans_own_subnet(host: FakeHost, routed: Namespace) -> None:
    """A network whose gateway is the host's own address gives containers addresses of the LAN, once it is adopted."""
    gateways = ("--gateway", HOST, "--gateway", HOST6)
    made = run(host, "network", "create", "--subnet", "192.0.2.0/24", "--subnet", "2001:db8::/64", *gateways, "lan")
    assert "dnet network adopt lan" in made.stderr
    web = add_container(host, "web", "--ip", "192.0.2.130", "--ip6", "2001:db8::130")
    assert not web.can_ping(MACHINE)
    run(host, "network", "adopt", "--yes", "lan", "eth1")
    with routed.serve(80, address="::"):
        assert reach(web, MACHINE, 80) == "::ffff:192.0.2.130"
        assert reach(web, FAR, 80) == "::ffff:192.0.2.130"
        assert reach(web, MACHINE6, 80) == "2001:db8::130"
        assert reach(host, MACHINE, 80) == f"::ffff:{HOST}"
    with web.serve(80, address="::"):
        assert reach(routed, "192.0.2.130", 80) == f"::ffff:{MACHINE}"
        assert reach(routed, "2001:db8::130", 80) == MACHINE6
    run(host, "network", "adopt", "--undo", "lan", "eth1")
    assert set(addresses(host, "eth1")) == {f"{HOST}/24", f"{HOST6}/64"}
    assert host.can_ping(MACHINE)


@pytest.mark.parametrize(("here", "there"), [(HOST, FAR), (HOST6, FAR6)], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("is_server", [False, True], ids=["from", "to"])
def test_connections_go_on(
    host: FakeHost, routed: Namespace, tmp_path: Path, here: str, there: str, *, is_server: bool
) -> None:
    """A connection through the interface, begun by the host or to it, goes on through adopting and giving back."""
    make_network(host)
    if ":" in here:  # the way back to the other end's own address is known there
        routed.run("ip", "-6", "route", "add", f"{here}/128", "dev", "eth0", "src", there)
    else:
        routed.run("ip", "route", "add", f"{here}/32", "dev", "eth0", "src", there)
    ends = (host, here, routed) if is_server else (routed, there, host)
    with streaming(*ends, tmp_path / "count") as stream:
        run(host, "network", "adopt", "--yes", "lan", "eth1")
        assert is_adopted(host)
        stream.flows()
        run(host, "network", "adopt", "--undo", "lan", "eth1")
        assert not is_adopted(host)
        stream.flows()


def test_containers_learn_the_bridges_new_address(host: FakeHost, machine: Namespace) -> None:
    """Neighbours that know the bridge by its old MAC address are told the new one; on the LAN nothing changes."""
    bridge = make_network(host, "--subnet", "10.1.0.0/16", "--subnet", "fd00:1::/64")
    web = add_container(host, "web")
    assert web.can_ping("10.1.0.1")
    assert web.can_ping("fd00:1::1")
    assert machine.can_ping(HOST)
    mac = link(host, "eth1")["address"]

    def known(space: Namespace) -> dict[str, str]:
        return {item["dst"]: item.get("lladdr", "") for item in space.json("ip -j neigh")}

    assert known(machine)[HOST] == mac
    run(host, "network", "adopt", "lan", "eth1")
    assert link(host, bridge)["address"] == mac
    wait_until(lambda: known(web)["10.1.0.1"] == known(web)["fd00:1::1"] == mac, "the container knows")
    assert known(machine)[HOST] == mac
    run(host, "network", "adopt", "--undo", "lan", "eth1")
    wait_until(lambda: known(web)["10.1.0.1"] == known(web)["fd00:1::1"] == "02:42:0a:01:00:01", "it knows again")


def test_other_networks_go_out_through_the_bridge(host: FakeHost, routed: Namespace) -> None:
    """Containers of other networks go out through the adopted interface as before, under the host's address."""
    make_network(host)
    run(host, "create", "plain")
    plain = host.sandbox("plain")
    with routed.serve(80):
        assert reach(plain, FAR, 80) == HOST
        run(host, "network", "adopt", "--yes", "lan", "eth1")
        assert reach(plain, FAR, 80) == HOST
    run(host, "create", "-p", "8080:80", "web")
    with host.sandbox("web").serve(80):
        assert reach(routed, HOST, 8080) == MACHINE


def test_all_moves_and_comes_back(host: FakeHost, rich: str) -> None:
    """Every address and every route of the interface is on the bridge with all its attributes, and then back."""
    before = uplink_state(host)
    said = run(host, "network", "adopt", "--yes", "lan", "eth1").stderr
    assert "eth1 passes frames of 1400 bytes only" in said
    assert "--mtu 1400" in said

    def moved(item: dict[str, Any]) -> dict[str, Any]:
        return json.loads(json.dumps(item).replace('"eth1"', f'"{rich}"').replace('"eth1:0"', f'"{rich}"'))

    after = uplink_state(host)
    owns = {"ff00::/8", "10.1.0.0/16", "10.1.0.1", "10.1.255.255"}  # the devices' own
    for key in ("routes", "routes6"):
        wanted = [moved(item) for item in before[key]]
        assert [item for item in after[key] if item["dst"] not in owns] == [
            item for item in wanted if item["dst"] not in owns
        ]
    [old] = [item["addr_info"] for item in before["addresses"] if item["ifname"] == "eth1"]
    [new] = [item["addr_info"] for item in after["addresses"] if item["ifname"] == rich]
    assert [item for item in new if item["local"] != "10.1.0.1"] == [moved(item) for item in old]
    assert is_adopted(host)
    assert link(host, rich)["mtu"] == 1400
    assert link(host, rich)["address"] == link(host, "eth1")["address"]
    assert host.run(f"cat /proc/sys/net/ipv4/conf/{rich}/rp_filter").stdout == "2\n"
    run(host, "network", "adopt", "--undo", "lan", "eth1")
    assert uplink_changes(before, uplink_state(host)) == ""


def test_dry_run_touches_nothing(host: FakeHost, rich: str) -> None:
    """--dry-run says what would be done, one object a line, and neither the kernel nor the database changes."""
    before = uplink_state(host)
    lines = run(host, "network", "adopt", "--dry-run", "lan", "eth1").stdout.splitlines()
    assert lines.index("no address 192.0.2.10/24 on eth1") < lines.index(f"port eth1 of {rich}")
    assert lines.index(f"port eth1 of {rich}") < lines.index(f"address 192.0.2.10/24 on {rich}")
    assert lines.index(f"route 198.18.0.1/32 dev {rich}") < lines.index(
        f"route default via 198.18.0.1 dev {rich} metric 100"
    )
    assert uplink_changes(before, uplink_state(host)) == ""
    run(host, "network", "adopt", "--yes", "lan", "eth1")
    before = uplink_state(host)
    lines = run(host, "network", "adopt", "--undo", "--dry-run", "lan", "eth1").stdout.splitlines()
    assert lines.index(f"no port eth1 of {rich}") < lines.index("address 192.0.2.10/24 on eth1")
    assert uplink_changes(before, uplink_state(host)) == ""


def test_refused_object(host: FakeHost, rich: str) -> None:  # noqa: ARG001
    """Whichever object is refused, all is as it was: addresses and routes in order, settings, the table, the rows."""
    before = uplink_state(host)
    count = len(run(host, "network", "adopt", "--dry-run", "lan", "eth1").stdout.splitlines())
    number = 0
    while "refused" in (outcome := host.call(adopt_with_fault, host.directories, number)):
        assert outcome["notes"] == [], outcome
        assert uplink_changes(before, uplink_state(host)) == "", outcome["refused"]
        number += 1
    assert number == count > 60


def test_what_was_added_since_stays(host: FakeHost, machine: Namespace) -> None:
    """What somebody has put on the bridge meanwhile stays there when the interface is given back."""
    bridge = make_network(host)
    run(host, "network", "adopt", "lan", "eth1")
    host.run("sh", "-c", f"ip address add 10.50.0.1/24 dev {bridge}; ip route add 10.51.0.0/16 via 10.50.0.2")
    run(host, "network", "adopt", "--undo", "lan", "eth1")
    assert set(addresses(host, "eth1")) == {f"{HOST}/24", f"{HOST6}/64"}
    assert addresses(host, bridge) == ["10.1.0.1/16", "10.50.0.1/24"]
    assert host.json("ip -j route show 10.51.0.0/16")[0]["dev"] == bridge
    assert machine.can_ping(HOST)


def test_lifetimes_go_on(host: FakeHost, machine: Namespace) -> None:  # noqa: ARG001
    """What has a lifetime keeps the rest of it there and back, and does not come back when it has ended."""
    bridge = make_network(host)
    script = (
        "ip address add 192.0.2.40/24 dev eth1 valid_lft 3000 preferred_lft 2000;"
        "ip address add 2001:db8::40/64 dev eth1 nodad valid_lft 3000 preferred_lft 2000;"
        "ip address add 192.0.2.41/24 dev eth1 valid_lft 1 preferred_lft 1;"
        f"ip -6 route add 2001:db8:7::/48 via {MACHINE6} dev eth1 expires 600"
    )
    host.run("sh", "-c", script)
    said = run(host, "network", "adopt", "lan", "eth1").stderr
    assert "address 192.0.2.40/24 ends in" in said

    def lives(device: str) -> dict[str, int]:
        shown = host.json("ip", "-j", "address", "show", "dev", device, "dynamic")
        infos = [item for found in shown for item in found.get("addr_info", ()) if item]
        return {item["local"]: item["valid_life_time"] for item in infos}

    wait_until(lambda: "192.0.2.41" not in lives(bridge), "the short-lived address ends")
    assert {name for name, left in lives(bridge).items() if 2000 < left < 3000} == {"192.0.2.40", "2001:db8::40"}
    assert 500 < host.json("ip -6 -j route show 2001:db8:7::/48")[0]["expires"] < 600
    run(host, "network", "adopt", "--undo", "lan", "eth1")
    assert {name for name, left in lives("eth1").items() if 2000 < left < 3000} == {"192.0.2.40", "2001:db8::40"}
    [route] = host.json("ip -6 -j route show 2001:db8:7::/48")
    assert route["dev"] == "eth1"
    assert 500 < route["expires"] < 600


def test_interface_that_is_down(host: FakeHost, switch: Switch) -> None:  # noqa: ARG001
    """An interface that is down comes up with the bridge, and is down again afterwards."""
    bridge = make_network(host)
    add_container(host, "web")
    host.run("ip link set eth1 down")
    before = uplink_state(host)
    run(host, "network", "adopt", "lan", "eth1")
    assert "UP" in link(host, "eth1")["flags"]
    assert host.json("ip -j route show 192.0.2.0/24")[0]["dev"] == bridge
    run(host, "network", "adopt", "--undo", "lan", "eth1")
    assert uplink_changes(before, uplink_state(host)) == ""


def test_two_interfaces(host: FakeHost, switch: Switch) -> None:
    """A second interface of one network leaves the bridge the first one's MAC address; each is given back by itself."""
    bridge = make_network(host)
    add_container(host, "web")
    switch.plug(host, "eth3", "203.0.113.9/24")
    before = uplink_state(host)
    run(host, "network", "adopt", "lan", "eth1")
    mac = link(host, bridge)["address"]
    run(host, "network", "adopt", "lan", "eth3")
    assert link(host, bridge)["address"] == mac
    assert host.json("ip -j route show 203.0.113.0/24")[0]["dev"] == bridge
    assert run(host, "network", "inspect", "lan").json[0]["Uplinks"] == ["eth1", "eth3"]
    run(host, "network", "adopt", "--undo", "lan", "eth1")
    run(host, "network", "adopt", "--undo", "lan", "eth3")
    assert uplink_changes(before, uplink_state(host)) == ""


# Router advertisements


def advertise(space: Namespace, prefix: str) -> None:
    """Have a router on eth0 of a namespace advertise itself and a prefix once (RFC 4861, sections 4.2 and 4.6.2)."""
    script = """
import ipaddress, socket, struct, sys
sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58)
index = socket.if_nametoindex("eth0")
sock.setsockopt(41, socket.IPV6_MULTICAST_HOPS, 255)
sock.setsockopt(41, socket.IPV6_MULTICAST_IF, index)
sock.bind(("fe80::1", 0, 0, index))
network = ipaddress.ip_network(sys.argv[1])
option = struct.pack("!BBBBIII", 3, 4, network.prefixlen, 0xC0, 3600, 1800, 0) + network.network_address.packed
sock.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + option, ("ff02::1", 0, 0, index))
"""
    space.run("sh", "-c", "ip address show dev eth0 | grep -q fe80::1/ || ip address add fe80::1/64 dev eth0 nodad")
    space.python(script, prefix)


def learned(host: FakeHost, device: str) -> tuple[list[str], list[str]]:
    """Return the addresses and the default routes that advertisements have given a device."""
    shown = host.json("ip", "-6", "-j", "address", "show", "dev", device, "dynamic", "scope", "global")
    infos = [item for found in shown for item in found.get("addr_info", ()) if item]
    routes = host.json("ip", "-6", "-j", "route", "show", "default", "dev", device)
    return [item["local"] for item in infos], [item["gateway"] for item in routes]


def test_the_host_goes_on_learning(host: FakeHost, machine: Namespace) -> None:
    """What a router advertises, the host learns on the bridge as it did on the interface, and keeps when it is back."""
    host.run("sh", "-c", "ip link set eth1 addrgenmode eui64; ip link set eth1 down; ip link set eth1 up")
    wait_until(lambda: "tentative" not in json.dumps(host.json("ip -j address show dev eth1")), "a link-local address")
    advertise(machine, "2001:db8:77::/64")
    wait_until(lambda: all(learned(host, "eth1")), "the interface learns")
    bridge = make_network(host, "--subnet", "10.1.0.0/16", "--subnet", "fd00:1::/64")
    run(host, "network", "adopt", "--yes", "lan", "eth1")
    first, routers = learned(host, bridge)
    assert routers == ["fe80::1"]
    assert first[0].startswith("2001:db8:77:")
    advertise(machine, "2001:db8:78::/64")
    wait_until(lambda: any(item.startswith("2001:db8:78:") for item in learned(host, bridge)[0]), "the bridge learns")
    assert learned(host, "eth1") == ([], [])
    run(host, "network", "adopt", "--undo", "lan", "eth1")
    assert {item[:12] for item in learned(host, "eth1")[0]} == {"2001:db8:77:", "2001:db8:78:"}
    assert learned(host, "eth1")[1] == ["fe80::1"]
    assert learned(host, bridge) == ([], [])


def test_containers_are_no_routers(host: FakeHost, switch: Switch) -> None:  # noqa: ARG001
    """Where only containers are, the host learns from nobody; with the interface back, it is so again."""
    bridge = make_network(host)
    web = add_container(host, "web")
    set_number(host, f"net/ipv6/conf/{bridge}/accept_ra", "2")
    assert [key for key, _ in elements(host, "enclosed")] == [(bridge,)]
    web.run("ip address add fe80::2/64 dev eth0 nodad")
    run(host, "network", "adopt", "lan", "eth1")
    assert elements(host, "enclosed") == []
    run(host, "network", "adopt", "--undo", "lan", "eth1")
    web.run("sh", "-c", "ip address add fe80::1/64 dev eth0 nodad")
    advertise(web, "2001:db8:79::/64")
    assert web.can_ping("10.1.0.1")  # sent later, and answered
    assert learned(host, bridge) == ([], [])
    host.run("nft flush set inet dnet enclosed")
    advertise(web, "2001:db8:79::/64")
    wait_until(lambda: all(learned(host, bridge)), "without the rule it is believed")


# Isolation


@pytest.mark.parametrize("bridged", [0, 1], ids=["bridge-nf-0", "bridge-nf-1"])
def test_the_lan_reaches_containers(host: FakeHost, machine: Namespace, bridged: int) -> None:
    """The LAN and containers are on one wire: what is not published is open to it, and to nobody further away."""
    make_network(host)
    machine.run("ip address add 10.1.0.3/16 dev eth0")
    web = add_container(host, "web")
    far = host.neighbour("far", "172.30.0.0/24")
    far.run("ip route add 10.1.0.0/16 via 172.30.0.1")
    run(host, "network", "adopt", "lan", "eth1")
    filter_bridged(host, bridged)
    with web.serve(80):
        assert reach(machine, "10.1.0.2", 80) == "10.1.0.3"
        assert is_refused(far, "10.1.0.2", 80)
    with machine.serve(80):
        machine.run("ip route add 172.30.0.0/24 via 10.1.0.1")
        assert reach(web, "10.1.0.3", 80) == "10.1.0.2"
        assert reach(far, "10.1.0.3", 80) == "172.30.0.2"  # the host routes for the LAN as ever


@pytest.mark.parametrize("bridged", [0, 1], ids=["bridge-nf-0", "bridge-nf-1"])
def test_without_icc(host: FakeHost, machine: Namespace, bridged: int) -> None:
    """With --icc=false containers of one host do not reach each other, and the LAN they do."""
    make_network(host, "--subnet", "10.1.0.0/16", "--icc=false")
    machine.run("ip address add 10.1.0.3/16 dev eth0")
    run(host, "network", "adopt", "lan", "eth1")
    filter_bridged(host, bridged)
    one = add_container(host, "one", "--ip", "10.1.0.8")
    two = add_container(host, "two", "--ip", "10.1.0.9")
    with two.serve(80):
        assert is_refused(one, "10.1.0.9", 80)
        # br_netfilter shows frames between ports to the rules that keep containers apart.
        assert reach(machine, "10.1.0.9", 80, timeout_s=PATIENCE_S if not bridged else REFUSAL_S) == (
            "" if bridged else "10.1.0.3"
        )
    with machine.serve(80):
        assert reach(one, "10.1.0.3", 80) == "10.1.0.8"


def test_internal_network(host: FakeHost, switch: Switch) -> None:  # noqa: ARG001
    """An internal network has no way out, so it adopts nothing."""
    make_network(host, "--internal")
    before = uplink_state(host)
    refusal = run(host, "network", "adopt", "lan", "eth1", code=2)
    assert "network lan is internal" in refusal.stderr
    assert uplink_changes(before, uplink_state(host)) == ""
