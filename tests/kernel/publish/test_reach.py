"""Published ports are reached from everywhere they should be, and the service sees who asks."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tests.support.dnet_commands import address, gateway, network, run
from tests.support.hosts import FakeHost, Namespace, Neighbour, NoAnswer
from tests.support.traffic import FAR, HOST, LOOPBACK, PEER, filter_bridged, is_refused, reach, set_number

FAMILIES = [4, 6]
PROTOCOLS = ["tcp", "udp"]
BRIDGED = pytest.mark.parametrize("bridged", [0, 1], ids=["bridge-nf-0", "bridge-nf-1"])


@pytest.fixture
def web(host: FakeHost, lan: Neighbour) -> Namespace:
    """Return a container on network six whose port 80 is published as 8080, over tcp and udp."""
    assert lan
    network(host, "six", "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64")
    run(host, "create", "--network", "six", "-p", "8080:80", "-p", "8080:80/udp", "web")
    return host.sandbox("web")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("family", FAMILIES)
def test_from_outside(lan: Neighbour, web: Namespace, family: int, protocol: str) -> None:
    """Machines near and far reach the port at the host's address, and the service sees their own addresses."""
    with web.serve(80, protocol, "::"):
        near = lan.ask(HOST[family], 8080, protocol, text="near")
        far = lan.ask(HOST[family], 8080, protocol, source=FAR[family])
    assert (near["server"], near["text"]) == ("web", "near")
    assert (plain(near["peer"]), plain(far["peer"])) == (PEER[family], FAR[family])


def plain(peer: str) -> str:
    """Return an IPv4 address as such, which a server on `::` sees mapped into IPv6."""
    return peer.removeprefix("::ffff:")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("family", FAMILIES)
def test_from_the_host(host: FakeHost, web: Namespace, family: int, protocol: str) -> None:
    """The host reaches the port by any address of its own, and the service sees that address."""
    with web.serve(80, protocol, "::"):
        for own in (HOST[family], gateway(host, "web", family)):
            assert plain(reach(host, own, 8080, protocol)) == own


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_from_the_hosts_loopback(host: FakeHost, web: Namespace, protocol: str) -> None:
    """The host reaches the port at 127.0.0.1, and at all of 127/8; the service sees the gateway."""
    with web.serve(80, protocol):
        for own in (LOOPBACK[4], "127.3.4.5"):
            assert reach(host, own, 8080, protocol) == "10.1.0.1"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_from_the_hosts_ipv6_loopback(host: FakeHost, web: Namespace, protocol: str) -> None:
    """The host reaches the port at ::1 where frames do not go through ip6tables; the service sees the gateway."""
    filter_bridged(host, 0)
    with web.serve(80, protocol, "::"):
        assert reach(host, LOOPBACK[6], 8080, protocol) == "fd00:1::1"


def test_limit_of_the_ipv6_loopback(host: FakeHost, web: Namespace) -> None:
    """With bridge-nf-call-ip6tables=1 ::1 is out of reach, a known limit of the kernel's; addresses work."""
    filter_bridged(host, 1)
    with web.serve(80, address="::"):
        assert is_refused(host, LOOPBACK[6], 8080)
        assert reach(host, HOST[6], 8080) == HOST[6]


@pytest.mark.parametrize("family", FAMILIES)
@BRIDGED
def test_from_other_networks(host: FakeHost, web: Namespace, bridged: int, family: int) -> None:
    """A container of another network reaches the port at any address of the host, and the service sees who it is."""
    network(host, "other", "--subnet", "10.2.0.0/24", "--subnet", "fd00:2::/64")
    run(host, "create", "--network", "other", "db")
    filter_bridged(host, bridged)
    db, own = host.sandbox("db"), address(host, "db", family)
    for protocol in PROTOCOLS:
        with web.serve(80, protocol, "::"):
            for target in (HOST[family], gateway(host, "db", family), gateway(host, "web", family)):
                assert plain(reach(db, target, 8080, protocol)) == own


@pytest.mark.parametrize("family", FAMILIES)
@BRIDGED
def test_from_its_own_network(host: FakeHost, web: Namespace, bridged: int, family: int) -> None:
    """A container and its neighbours reach its port through the host's address; the service sees the gateway."""
    run(host, "create", "--network", "six", "db")
    filter_bridged(host, bridged)
    for protocol in PROTOCOLS:
        with web.serve(80, protocol, "::"):
            for asker in (web, host.sandbox("db")):
                for target in (HOST[family], gateway(host, "web", family)):
                    seen = plain(reach(asker, target, 8080, protocol))
                    assert seen == gateway(host, "web", family), (asker.name, target, protocol)


@BRIDGED
def test_neighbours_directly(host: FakeHost, web: Namespace, bridged: int) -> None:
    """Neighbours reach each other's ports at their own addresses, published or not, and see their own addresses."""
    run(host, "create", "--network", "six", "db")
    filter_bridged(host, bridged)
    for family in FAMILIES:
        for protocol in PROTOCOLS:
            for port in (80, 81):
                with web.serve(port, protocol, "::"):
                    seen = reach(host.sandbox("db"), address(host, "web", family), port, protocol)
                assert plain(seen) == address(host, "db", family)


def test_with_strict_reverse_path_filter(host: FakeHost, lan: Neighbour, web: Namespace) -> None:
    """All of that holds where the host checks source addresses strictly (rp_filter=1)."""
    for device in ("all", "default", "lan", "lo"):
        set_number(host, f"net/ipv4/conf/{device}/rp_filter", "1")
    with web.serve(80):
        assert reach(lan, HOST[4], 8080) == PEER[4]
        assert reach(lan, HOST[4], 8080, source=FAR[4]) == FAR[4]
        assert reach(host, HOST[4], 8080) == HOST[4]
        assert reach(host, LOOPBACK[4], 8080) == "10.1.0.1"
        assert reach(web, HOST[4], 8080) == "10.1.0.1"


@pytest.mark.parametrize("family", FAMILIES)
def test_one_address(host: FakeHost, lan: Neighbour, family: int) -> None:
    """A port published on one address is reached there, from outside, the host and containers, and at no other."""
    network(host, "six", "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64")
    text = f"[{HOST[6]}]" if family == 6 else HOST[4]
    run(host, "create", "--network", "six", "-p", f"{text}:8080:80", "web")
    host.run(*(("ip", "address", "add", "192.0.2.99/24") if family == 4 else NODAD), "dev", "lan")
    web = host.sandbox("web")
    with web.serve(80, address="::"):
        assert plain(reach(lan, HOST[family], 8080)) == PEER[family]
        assert plain(reach(host, HOST[family], 8080)) == HOST[family]
        assert plain(reach(web, HOST[family], 8080)) == gateway(host, "web", family)
        assert is_refused(lan, "192.0.2.99" if family == 4 else "2001:db8::99", 8080)
        assert is_refused(host, gateway(host, "web", family), 8080)
        assert is_refused(host, "127.0.0.1", 8080)


NODAD = ("ip", "address", "add", "2001:db8::99/64", "nodad")


def test_loopback_address(host: FakeHost, web: Namespace) -> None:
    """A port published on 127.0.0.1 is reached there by the host, and one on 127.0.0.2 at that address only."""
    run(host, "create", "--network", "six", "-p", "127.0.0.1:9000:80", "-p", "127.0.0.2:9001:80", "db")
    with web.serve(80), host.sandbox("db").serve(80):
        assert host.ask("127.0.0.1", 9000)["server"] == "db"
        assert host.ask("127.0.0.2", 9001)["server"] == "db"
        assert host.ask("127.0.0.1", 8080)["server"] == "web"
        assert is_refused(host, "127.0.0.1", 9001)


def test_one_address_and_all(host: FakeHost, lan: Neighbour) -> None:
    """Of two containers that share a port by address, each is reached at its own."""
    run(host, "create", "-p", f"{HOST[4]}:8080:80", "web")
    run(host, "create", "-p", "127.0.0.1:8080:80", "db")
    with host.sandbox("web").serve(80), host.sandbox("db").serve(80):
        assert lan.ask(HOST[4], 8080)["server"] == "web"
        assert host.ask("127.0.0.1", 8080)["server"] == "db"


def test_ranges(host: FakeHost, lan: Neighbour) -> None:
    """Of ranges that pair up, each host port leads to its own container port."""
    run(host, "create", "-p", "8000-8002:9000-9002", "web")
    for number in range(3):
        with host.sandbox("web").serve(9000 + number):
            reached = [bool(reach(lan, HOST[4], 8000 + port, timeout_s=2.0)) for port in range(3)]
        assert reached == [port == number for port in range(3)]


def test_one_port_of_two_protocols(host: FakeHost, lan: Neighbour) -> None:
    """One number leads to different containers by tcp and by udp."""
    run(host, "create", "-p", "53:53/udp", "dns")
    run(host, "create", "-p", "53:53/tcp", "web")
    with host.sandbox("dns").serve(53, "udp"), host.sandbox("web").serve(53):
        assert lan.ask(HOST[4], 53, "udp")["server"] == "dns"
        assert lan.ask(HOST[4], 53, "tcp")["server"] == "web"


def test_addresses_that_come_later(host: FakeHost, lan: Neighbour, web: Namespace) -> None:
    """A port published on all addresses is also reached at one that the host gets afterwards."""
    host.run("ip address add 192.0.2.99/24 dev lan")
    with web.serve(80):
        assert lan.ask("192.0.2.99", 8080)["server"] == "web"


def test_much_data(lan: Neighbour, web: Namespace) -> None:
    """Ten megabytes sent to a published port arrive, and ten come back."""
    server = (
        "import socket\n"
        "listener = socket.create_server(('0.0.0.0', 80)); print(flush=True)\n"
        "connection = listener.accept()[0]; total = 0\n"
        "while block := connection.recv(65536): total += len(block)\n"
        "connection.sendall(bytes(total))\n"
    )
    client = (
        "import socket, sys\n"
        "s = socket.create_connection((sys.argv[1], 8080), 5); s.sendall(bytes(10_000_000)); s.shutdown(1); total = 0\n"
        "while block := s.recv(65536): total += len(block)\n"
        "print(total)\n"
    )
    process = web.start(sys.executable, "-c", server, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    assert lan.python(client, HOST[4]).stdout == "10000000\n"


def test_a_web_server(host: FakeHost, lan: Neighbour) -> None:
    """A real web server in a container answers curl outside and on the host."""
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    (host.directory / "index.html").write_text("it works", encoding="ascii")
    run(host, "create", "-p", "8080:80", "web")
    pipe = subprocess.PIPE
    command = (sys.executable, "-u", "-m", "http.server", "--directory", str(host.directory), "80")
    server = host.sandbox("web").start(*command, stdout=pipe, stderr=subprocess.DEVNULL)
    assert server.stdout is not None
    assert "port 80" in server.stdout.readline()
    assert lan.run("curl", "-sS", "--max-time", "5", f"http://{HOST[4]}:8080/").stdout == "it works"
    assert host.run("curl", "-sS", "--max-time", "5", "http://localhost:8080/").stdout == "it works"


# SCTP


def test_sctp(host: FakeHost, lan: Neighbour) -> None:
    """A published SCTP port works over real SCTP sockets."""
    run(host, "create", "-p", "5000:36412/sctp", "web")
    try:
        with host.sandbox("web").serve(36412, "sctp"):
            assert lan.ask(HOST[4], 5000, "sctp")["peer"] == PEER[4]
    except ValueError:
        pytest.skip("this kernel has no SCTP sockets (CONFIG_IP_SCTP)")


# Packets of SCTP by raw sockets (RFC 9260): an INIT from the one side, an INIT ACK from the other.
_SCTP = """
import socket, struct, sys
role, address, port = sys.argv[1:]
family = socket.AF_INET6 if ":" in address else socket.AF_INET

def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF

def packet(source, destination, tag, kind):
    chunk = struct.pack("!BBHIIHHI", kind, 0, 20, 0x1234, 65536, 1, 1, 1)
    data = struct.pack("!HHII", source, destination, tag, 0) + chunk
    return data[:8] + struct.pack("<I", crc32c(data)) + data[12:]

def receive(sock, kind, wanted):
    while True:
        data, peer = sock.recvfrom(2048)
        data = data if family == socket.AF_INET6 else data[(data[0] & 15) * 4:]
        if data[12] == kind and wanted in struct.unpack("!HH", data[:4]):
            assert data[8:12] == struct.pack("<I", crc32c(data[:8] + bytes(4) + data[12:])), "checksum"
            return *struct.unpack("!HH", data[:4]), peer[0]

sock = socket.socket(family, socket.SOCK_RAW, 132)
sock.settimeout(3)
if role == "server":
    print(flush=True)
    source, destination, peer = receive(sock, 1, int(port))
    sock.sendto(packet(destination, source, 0x1234, 2), (peer, 0))
    print(peer, flush=True)
else:
    sock.sendto(packet(6000, int(port), 0, 1), (address, 0))
    source, destination, peer = receive(sock, 2, 6000)
    print(peer, source)
"""


@pytest.mark.parametrize("family", FAMILIES)
def test_sctp_packets(host: FakeHost, lan: Neighbour, family: int) -> None:
    """The first packet of an SCTP association reaches the container, and the answer comes from the published port."""
    network(host, "six", "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64")
    run(host, "create", "--network", "six", "-p", "5000:36412/sctp", "web")
    inside = ("10.1.0.2", "fd00:1::2")[family == 6]
    command = (sys.executable, "-c", _SCTP, "server", inside, "36412")
    server = host.sandbox("web").start(*command, stdout=subprocess.PIPE)
    assert server.stdout is not None
    server.stdout.readline()
    assert lan.python(_SCTP, "client", HOST[family], "5000").stdout == f"{HOST[family]} 5000\n"
    assert server.communicate(timeout=5)[0] == f"{PEER[family]}\n"


def test_unpublished_port(host: FakeHost, lan: Neighbour, web: Namespace) -> None:
    """A port of the host that is not published is the host's own: its servers answer there, and else nobody."""
    with web.serve(81), pytest.raises(NoAnswer, match="refused"):
        lan.ask(HOST[4], 81)
    with host.serve(8081):
        assert lan.ask(HOST[4], 8081)["server"] == "host"
