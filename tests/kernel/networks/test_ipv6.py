"""Networks of both families: subnets, addresses without a delay, the way out, and what a container cannot do with it.

Publishing on IPv6 addresses and isolation over IPv6 are in the tests of those.
"""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network
from typing import Any

import pytest

from tests.support.dnet_commands import address, bridge_of, created, gateway, network, run, settled_snapshot
from tests.support.hosts import FakeHost, Namespace, Neighbour
from tests.support.nft_listing import elements, generation
from tests.support.traffic import FAR, HOST, PEER, reach, set_number

ULA = IPv6Network("fd00::/8")  # RFC 4193, with the bit for locally assigned prefixes


def six(document: dict[str, Any]) -> dict[str, str]:
    """Return the IPv6 half of a network's address management."""
    [config] = [config for config in document["IPAM"]["Config"] if ":" in config["Subnet"]]
    return dict(config)


def test_unique_local_subnets(host: FakeHost) -> None:
    """--ipv6 chooses a /64 of unique local addresses, another for each network; its first address is the gateway."""
    documents = [network(host, name, "--ipv6") for name in ("one", "two", "three")]
    subnets = {IPv6Network(six(document)["Subnet"]) for document in documents}
    assert len(subnets) == 3
    assert all(subnet.subnet_of(ULA) and subnet.prefixlen == 64 for subnet in subnets)
    for document in documents:
        assert document["EnableIPv6"] is True
        assert IPv6Address(six(document)["Gateway"]) == IPv6Network(six(document)["Subnet"])[1]
        [device] = host.json("ip", "-j", "-6", "address", "show", "dev", bridge_of(document), "scope", "global")
        [shown] = [item for item in device["addr_info"] if item]
        assert (shown["local"], shown["prefixlen"]) == (six(document)["Gateway"], 64)


def test_a_network_without_ipv6(host: FakeHost) -> None:
    """Without --ipv6 nothing has an IPv6 address, and IPv6 forwarding stays off."""
    document = network(host, "blue")
    assert document["EnableIPv6"] is False
    web = created(host, "--network", "blue", "web")
    assert web["NetworkSettings"]["GlobalIPv6Address"] == ""
    assert host.sandbox("web").run("ip -6 address show dev eth0").stdout == ""
    assert host.run("cat /proc/sys/net/ipv6/conf/all/forwarding").stdout == "0\n"


def test_given_subnets(host: FakeHost) -> None:
    """A subnet and a gateway can be given for each family; they are what bridge, containers and `inspect` have."""
    options = ("--subnet", "10.1.0.0/24", "--subnet", "2001:db8:7::/80", "--gateway", "2001:db8:7::ff")
    document = network(host, "six", *options, "--gateway", "10.1.0.254")
    assert six(document) == {"Subnet": "2001:db8:7::/80", "Gateway": "2001:db8:7::ff"}
    web = created(host, "--network", "six", "web")["NetworkSettings"]
    assert (web["GlobalIPv6Address"], web["GlobalIPv6PrefixLen"]) == ("2001:db8:7::1", 80)
    assert web["IPv6Gateway"] == gateway(host, "web", 6) == "2001:db8:7::ff"
    assert address(host, "web", 6) == "2001:db8:7::1"
    assert host.sandbox("web").can_ping("2001:db8:7::ff")


def test_static_addresses(host: FakeHost) -> None:
    """--ip6 is what the container gets; one that is taken is a Conflict that names the holder, nothing changed."""
    network(host, "six", "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64")
    run(host, "create", "--network", "six", "--ip6", "fd00:1::2", "web")
    assert address(host, "web", 6) == "fd00:1::2"
    assert created(host, "--network", "six", "db")["NetworkSettings"]["GlobalIPv6Address"] == "fd00:1::3"
    before = settled_snapshot(host)
    assert "web" in run(host, "create", "--network", "six", "--ip6", "fd00:1::2", "new", code=4).stderr
    assert "gateway" in run(host, "create", "--network", "six", "--ip6", "fd00:1::1", "new", code=4).stderr
    for wrong in ("fd00:2::2", "fd00:1::", "fe80::1%eth0", "10.1.0.9", "web"):
        run(host, "create", "--network", "six", "--ip6", wrong, "new", code=2)
    assert host.changes(before) == ""


def test_a_static_address_without_ipv6(host: FakeHost) -> None:
    """--ip6 on a network without IPv6 is refused, and the error says what would help; nothing changed."""
    run(host, "create", "first")
    before = settled_snapshot(host)
    refused = run(host, "create", "--ip6", "fd00:1::2", "web", code=2)
    assert "--ipv6" in refused.stderr
    assert host.changes(before) == ""


WRONG = [
    (("--subnet", "fd00:1::/127"), 2),
    (("--subnet", "fd00:1::5/64"), 2),
    (("--subnet", "fe80::/64"), 2),
    (("--subnet", "ff02::/64"), 2),
    (("--subnet", "::/0"), 2),
    (("--subnet", "fd00:1::/64", "--subnet", "fd00:2::/64"), 2),
    (("--subnet", "fd00:1::/64", "--gateway", "fd00:2::1"), 2),
    (("--ipv6", "--gateway", "fd00:2::1"), 2),
    (("--subnet", "fd00:9::/48"), 4),
    (("--subnet", "2001:db8::/64"), 4),
]


def test_wrong_subnets(host: FakeHost, lan: Neighbour) -> None:
    """A subnet that is malformed, unusable, or a network's or a route's already is refused; nothing changed."""
    assert lan
    network(host, "first", "--subnet", "10.1.0.0/24", "--subnet", "fd00:9::/64")
    run(host, "create", "--network", "first", "keeps-it-up")
    before = settled_snapshot(host)
    for options, code in WRONG:
        run(host, "network", "create", *options, "six", code=code)
    assert host.changes(before) == ""


def test_no_delay(host: FakeHost) -> None:
    """No address is tentative when `create` returns, inside or on the bridge; a socket can be bound to it at once."""
    document = network(host, "six", "--ipv6")
    for number in range(3):
        run(host, "create", "--network", "six", f"c-{number}")
        inside = host.sandbox(f"c-{number}")
        assert tentative(inside.json("ip -6 -j address")) == []
        with inside.serve(80, address=address(host, f"c-{number}", 6)):
            assert reach(host, address(host, f"c-{number}", 6), 80) == six(document)["Gateway"]
    assert tentative(host.json("ip", "-6", "-j", "address", "show", "dev", bridge_of(document))) == []


def tentative(devices: list[dict[str, Any]]) -> list[str]:
    """Return the addresses that the kernel still looks for duplicates of."""
    infos = [info for device in devices for info in device.get("addr_info", []) if info]
    assert infos
    return [info["local"] for info in infos if info.get("tentative") or info.get("dadfailed")]


def test_first_packets(host: FakeHost, lan: Neighbour) -> None:
    """The first ping after `create` is answered within a tenth of a second, by neighbour, gateway and outside."""
    assert lan
    network(host, "six", "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64")
    run(host, "create", "--network", "six", "db")
    run(host, "create", "--network", "six", "web")
    for target in ("fd00:1::2", "fd00:1::1", PEER[6]):
        text = host.sandbox("web").run("ping", "-n", "-c", "1", "-W", "1", target).stdout
        assert float(text.partition("time=")[2].split()[0]) < 100


@pytest.mark.parametrize("beyond", [PEER[6], FAR[6]])
def test_masquerading(host: FakeHost, lan: Neighbour, beyond: str) -> None:
    """The outside, near and far, sees the host's IPv6 address, over tcp and udp; ping is answered."""
    network(host, "six", "--ipv6")
    run(host, "create", "--network", "six", "web")
    web = host.sandbox("web")
    assert web.can_ping(beyond)
    for protocol in ("tcp", "udp"):
        with lan.serve(4000, protocol, "::"):
            assert reach(web, beyond, 4000, protocol) == HOST[6]


def test_neighbours_and_host(host: FakeHost) -> None:
    """Containers of a network and their host reach each other over IPv6 under their own addresses."""
    network(host, "six", "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64")
    made = run(host, "bulk-create", "--count", "2", "--network", "six", "--json").json["containers"]
    assert len(made) == 2
    one, two = host.sandbox("c-1"), host.sandbox("c-2")
    for protocol in ("tcp", "udp"):
        with two.serve(80, protocol, "::"):
            assert reach(one, "fd00:1::3", 80, protocol) == "fd00:1::2"
            assert reach(host, "fd00:1::3", 80, protocol) == "fd00:1::1"
        with host.serve(81, protocol, "::"):
            assert reach(one, "fd00:1::1", 81, protocol) == "fd00:1::2"


def test_one_transaction(host: FakeHost) -> None:
    """A network of both families is one nftables transaction, the table included."""
    before = generation(host)
    network(host, "six", "--ipv6")
    assert generation(host) - before == 1


def test_a_bulk(host: FakeHost) -> None:
    """A hundred containers have a hundred IPv6 addresses, and the last answers the first at once."""
    network(host, "six", "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64")
    run(host, "bulk-create", "--count", "100", "--network", "six")
    found = {row[0] for row in host.rows("SELECT address6 FROM endpoint")}
    assert found == {f"fd00:1::{number:x}" for number in range(2, 102)}
    assert host.sandbox("c-1").can_ping("fd00:1::65")


def test_nothing_is_left(host: FakeHost) -> None:
    """With network and containers all addresses, routes and elements of both families go."""
    network(host, "blue", "--subnet", "10.9.0.0/24")
    before = settled_snapshot(host)
    network(host, "six", "--ipv6")
    run(host, "bulk-create", "--count", "3", "--network", "six", "-p", "80")
    run(host, "bulk-delete", "--all")
    run(host, "network", "rm", "six")
    after = settled_snapshot(host)
    for key in ("addresses", "routes", "routes6", "nftables"):
        assert after[key] == before[key], key
    assert elements(host, "subnets6", "masquerade6", "publish6") == []


def test_forwarding(host: FakeHost, lan: Neighbour) -> None:
    """The first network with IPv6 switches IPv6 forwarding on and says so; a failure takes that back."""
    assert lan
    path = "/proc/sys/net/ipv6/conf/all/forwarding"
    run(host, "network", "create", "--ipv6", "--subnet", "2001:db8::/64", "bad", code=4)
    assert host.run("cat", path).stdout == "0\n"
    said = run(host, "network", "create", "--ipv6", "six").stderr
    assert "net.ipv6.conf.all.forwarding" in said
    assert host.run("cat", path).stdout == "1\n"
    assert run(host, "network", "create", "--ipv6", "next").stderr == ""


def test_router_advertisements_of_the_lan(host: FakeHost, lan: Neighbour) -> None:
    """A host that learns its routes from router advertisements goes on doing so, although it forwards; dnet says so."""
    set_number(host, "net/ipv6/conf/lan/accept_ra", "1")
    said = run(host, "network", "create", "--ipv6", "six").stderr
    assert "accept_ra" in said
    assert "lan" in said
    advertise(lan, "eth0")
    default = "ip -6 route show default proto ra"
    assert "dev lan" in until(host, default)


def until(host: FakeHost, command: str) -> str:
    """Run a command until it prints something, for three seconds at most."""
    script = 'for i in $(seq 300); do out=$($0); [ -n "$out" ] && echo "$out" && exit; sleep 0.01; done; true'
    return host.run("sh", "-c", script.replace("$0", command)).stdout


_ADVERTISE = """
import socket, struct, sys
device = sys.argv[1]
sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
sock.bind(("fe80::bad", 0, 0, socket.if_nametoindex(device)))
start = socket.inet_pton(socket.AF_INET6, "2001:db8:bad::")
prefix = struct.pack("!BBBBIII16s", 3, 4, 64, 0xC0, 86400, 14400, 0, start)
message = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix
sock.sendto(message, ("ff02::1", 0, 0, socket.if_nametoindex(device)))
"""


def advertise(space: Namespace, device: str) -> None:
    """Send a router advertisement with a prefix to all nodes, as a router (or an attacker) does."""
    space.run("ip", "address", "add", "fe80::bad/64", "dev", device, "nodad")
    space.python(_ADVERTISE, device)


@pytest.mark.parametrize("kind", ["ipv4", "ipv6", "ipv6-later"])
def test_router_advertisements_of_containers(host: FakeHost, kind: str) -> None:
    """A container that plays router gives the host neither route nor address, on any network (CVE-2020-13401)."""
    options = ("--ipv6",) if kind == "ipv6" else ()
    device = bridge_of(network(host, "net", "--subnet", "10.1.0.0/24", *options))
    run(host, "create", "--network", "net", "web")
    if kind == "ipv6-later":
        network(host, "six", "--ipv6")
    advertise(host.sandbox("web"), "eth0")
    assert host.sandbox("web").can_ping("10.1.0.1")  # which comes after the advertisement, by the same way
    assert host.run("ip -6 route show default").stdout == ""
    assert "2001:db8:bad" not in host.run("ip -6 address").stdout + host.run("ip -6 route").stdout
    host.run("nft flush chain inet dnet guard")
    set_number(host, f"net/ipv6/conf/{device}/accept_ra", "2")
    host.sandbox("web").python(_ADVERTISE, "eth0")
    assert device in until(host, "ip -6 route show default proto ra")
