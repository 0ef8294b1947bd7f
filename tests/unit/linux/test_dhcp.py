"""Leases by DHCP. The oracles are dnsmasq's log and file of leases, tcpdump, and ip for what must not be touched."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import pytest

from dnet.errors import InvalidRequest, NotFound
from dnet.linux import dhcp, namespaces
from dnet.model.lease import Lease
from tests.support.docker import require_programs
from tests.support.hosts import FakeHost, Neighbour, wait_until

SERVER = "10.7.0.1"
MARKER_PORT = 9
OPTIONS = (
    "--dhcp-option=option:dns-server,10.7.0.53,10.7.0.54",
    "--dhcp-option=option:domain-search,lan.example,example",
    "--dhcp-option=option:mtu,1400",
    "--domain=lan.example",
)
# Answers every DISCOVER by what the test wants: OFFER or not, ACK, NAK or nothing; first, always, some garbage.
STAND_IN = """
import socket, struct, sys
kinds = [int(text) for text in sys.argv[1].split(",")]
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lan")
server.bind(("", 67))
print("ready", flush=True)
address = socket.inet_aton("10.7.0.1")
def send(data):
    server.sendto(data, ("255.255.255.255", 68))
while True:
    asked = server.recv(2048)
    xid, mac = asked[4:8], asked[28:34]
    def reply(kind, xid=xid, mac=mac, more=b""):
        head = b"\\2\\1\\6\\0" + xid + bytes(8) + socket.inet_aton("10.7.0.99") + bytes(8) + mac + bytes(202)
        return head + b"c\\x82Sc" + (bytes([53, 1, kind]) if kind else b"") + b"\\x36\\4" + address + more + b"\\xff"
    for garbage in (b"", b"x", bytes(300), reply(2)[:100], reply(2)[:243], reply(0), reply(99), reply(2, xid=bytes(4)),
                    reply(2, xid=b"\\xff" * 4), reply(2, mac=bytes(6)), b"\\1" + reply(2)[1:], reply(5)[:240],
                    reply(5, more=b"\\3\\xff"), reply(1), reply(5, more=b"\\x3d\\0"), reply(5, more=b"\\x35\\0")):
        send(garbage)
    kind = kinds[0] if asked[242] == 1 else kinds[1]
    for _ in range(kind > 0):
        send(reply(kind, more=bytes([51, 4]) + struct.pack("!I", 600) + b"\\1\\4\\xff\\xff\\xff\\0"))
"""


class Lan:
    """A network with a DHCP server, which is the fake host, and one interface, eth0 of a namespace beside it."""

    def __init__(self, host: FakeHost, client: Neighbour, directory: Path) -> None:
        self.host = host
        self.client = client
        self.path = f"/proc/{client.pid}/ns/net"
        self.directory = directory
        self._server: subprocess.Popen[str] | None = None

    def serve(self, address_range: str = "10.7.0.50,10.7.0.60", *options: str) -> None:
        """Run dnsmasq with this range, instead of one that may run already; leases last for two minutes, its least."""
        self.stop()
        files = [f"--dhcp-leasefile={self.directory}/leases", f"--log-facility={self.directory}/log", "--pid-file="]
        where = ["--port=0", "--interface=lan", "--bind-interfaces", "--user=root", "--conf-file=/dev/null"]
        how = ["--no-daemon", "--no-ping", "--dhcp-authoritative", "--log-dhcp", *OPTIONS, *options]
        self._server = self.host.start("dnsmasq", *files, *where, *how, f"--dhcp-range={address_range},120s")
        wait_until(lambda: self.host.run("ss -Hlun sport = :67").stdout, "dnsmasq listens")

    def stop(self) -> None:
        """End dnsmasq, if it runs."""
        if self._server:
            self._server.terminate()
            self._server.wait(10)

    def stand_in(self, offer: int, answer: int) -> None:
        """Run a server that offers, acknowledges and refuses as told, and sends garbage besides."""
        process = self.host.start("python3", "-I", "-c", STAND_IN, f"{offer},{answer}", stdout=subprocess.PIPE)
        assert process.stdout
        assert process.stdout.readline() == "ready\n"

    def log(self) -> str:
        """Return what dnsmasq has written so far."""
        return (self.directory / "log").read_text(encoding="utf-8")

    def leases(self) -> list[list[str]]:
        """Return the leases that the server holds: expiry, MAC, address, hostname, client id."""
        return [line.split() for line in (self.directory / "leases").read_text(encoding="utf-8").splitlines()]

    def acquire(self, **more) -> Lease:
        """Get a lease for eth0."""
        return dhcp.acquire(self.path, "eth0", **more)

    def renew(self, lease: Lease, **more) -> Lease:
        """Go on with a lease of eth0."""
        return dhcp.renew(self.path, "eth0", lease, **more)

    def configure(self, lease: Lease) -> None:
        """Give eth0 the address."""
        self.client.run(f"ip address add {lease.address} dev eth0")


@pytest.fixture
def lan(host, tmp_path) -> Lan:
    """Return a network on which no server runs yet."""
    require_programs("dnsmasq", "ss", "tcpdump")
    client = host.neighbour("lan")
    host.run(f"ip address add {SERVER}/24 dev lan")
    return Lan(host, client, tmp_path)


class Capture:
    """What tcpdump sees of DHCP, and of ICMP, at the server."""

    def __init__(self, lan: Lan) -> None:
        self._lan = lan
        self._path = lan.directory / "capture"
        command = (
            "tcpdump",
            "--immediate-mode",
            "-lntq",
            "-i",
            "lan",
            f"udp port 67 or udp port {MARKER_PORT} or icmp",
        )
        with open(self._path, "w", encoding="utf-8") as file:
            self._process = lan.host.start(*command, stdout=file, stderr=subprocess.PIPE)
        assert self._process.stderr
        wait_until(lambda: "listening" in self._process.stderr.readline(), "tcpdump listens")

    def lines(self) -> list[str]:
        """End it, and return a line for each packet: from > to. Whatever has been sent by now is among them."""
        self._lan.host.call(_send_marker)
        wait_until(lambda: f".{MARKER_PORT}:" in self._path.read_text(encoding="utf-8"), "tcpdump has seen all")
        self._process.terminate()
        self._process.wait(10)
        lines = self._path.read_text(encoding="utf-8").splitlines()
        return [
            line.removeprefix("IP ").partition(": ")[0] for line in lines if line and f".{MARKER_PORT}:" not in line
        ]


def _send_marker() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sender.sendto(b"", ("10.7.0.255", MARKER_PORT))


def aged(lease: Lease, seconds: float) -> Lease:
    """Return a lease as if it had been acquired earlier."""
    return replace(lease, acquired_at=lease.acquired_at - seconds)


# Acquiring


def test_acquire(lan):
    """A lease is what the server says: in its file of leases, and its options; times count from the request."""
    lan.serve("10.7.0.50,10.7.0.50", "--dhcp-option=option:T1,30", "--dhcp-option=option:T2,100")
    began = time.time()
    lease = lan.acquire(hostname="web")
    mac = lan.client.json("ip -j link show eth0")[0]["address"]
    assert lease == Lease(
        address=IPv4Interface("10.7.0.50/24"),
        routers=(IPv4Address(SERVER),),
        classless_routes=(),
        dns=(IPv4Address("10.7.0.53"), IPv4Address("10.7.0.54")),
        domain="lan.example",
        search=("lan.example", "example"),
        mtu=1400,
        server=IPv4Address(SERVER),
        server_mac=lan.host.json("ip -j link show lan")[0]["address"],
        mac=mac,
        hostname="web",
        acquired_at=lease.acquired_at,
        lease_time_s=120,
        t1_s=30,
        t2_s=100,
    )
    assert began <= lease.acquired_at <= time.time()
    [[expiry, *rest]] = lan.leases()
    assert rest == [mac, "10.7.0.50", "web", f"01:{mac}"]
    assert abs(int(expiry) - lease.acquired_at - 120) < 2


def test_nothing_is_configured(lan):
    """Acquiring, renewing and releasing leave the interface's addresses and the routes alone."""
    lan.serve()
    before = [lan.client.json("ip -j -4 address"), lan.client.json("ip -j route"), lan.host.json("ip -j address")]
    dhcp.release(lan.path, "eth0", lan.renew(lan.acquire()))
    assert before == [
        lan.client.json("ip -j -4 address"),
        lan.client.json("ip -j route"),
        lan.host.json("ip -j address"),
    ]


def test_routes(lan):
    """Classless routes come with the lease, and then go before the routers, as RFC 3442 wants it."""
    lan.serve(
        "10.7.0.50,10.7.0.60", "--dhcp-option=option:classless-static-route,10.9.0.0/16,10.7.0.254,0.0.0.0/0,10.7.0.253"
    )
    lease = lan.acquire()
    assert lease.routers == (IPv4Address(SERVER),)
    assert lease.routes == lease.classless_routes
    assert lease.routes == (
        (IPv4Network("10.9.0.0/16"), IPv4Address("10.7.0.254")),
        (IPv4Network("0.0.0.0/0"), IPv4Address("10.7.0.253")),
    )


def test_for_ever(lan):
    """A lease without an end has no times at all."""
    lan.serve("10.7.0.50,10.7.0.60", "--dhcp-host=*:*:*:*:*:*,infinite")
    lease = lan.acquire()
    assert (lease.lease_time_s, lease.t1_s, lease.t2_s) == (None, None, None)
    lan.configure(lease)
    assert lan.renew(aged(lease, 1e9)).address == lease.address


def test_hostname_is_optional(lan):
    """Without a hostname none is sent; one that cannot be is refused before anything is sent."""
    lan.serve()
    lan.acquire()
    assert lan.leases()[0][3] == "*"
    with pytest.raises(InvalidRequest, match="invalid hostname"):
        lan.acquire(hostname="a b")


def test_wish(lan):
    """The address of an earlier lease is asked for again, and given when it is free."""
    lan.serve()
    lease = lan.acquire()
    dhcp.release(lan.path, "eth0", lease)
    wished = replace(lease, address=IPv4Interface("10.7.0.57/24"))
    assert lan.acquire(previous=wished).address == wished.address


def test_first_packet_is_lost(lan, monkeypatch):
    """A server that comes later is found: the question is repeated."""
    monkeypatch.setattr(dhcp, "FIRST_PAUSE_S", 0.1)
    found: list[Lease] = []
    thread = threading.Thread(target=lambda: found.append(lan.acquire()))
    capture = Capture(lan)
    thread.start()
    wait_until(
        lambda: lan.host.json("ip -j -s link show lan")[0]["stats64"]["rx"]["packets"] > 2, "a question was lost"
    )
    lan.serve()
    thread.join(20)
    assert found[0].address.ip in IPv4Network("10.7.0.0/24")
    assert capture.lines().count("0.0.0.0.68 > 255.255.255.255.67") > 2


def test_port_that_another_client_has(lan):
    """Another DHCP client in the namespace, which has the port, is no obstacle."""
    lan.serve()
    descriptor = namespaces.open_namespace(lan.path)

    def bound() -> socket.socket:
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.bind(("", 68))
        return one

    with namespaces.call(descriptor, bound):
        lease = lan.acquire()
        lan.configure(lease)
        assert lan.renew(lease).address == lease.address
    os.close(descriptor)


# Renewing


@pytest.mark.parametrize(
    ("age_s", "has_address", "sent"),
    [
        (60, True, "{address}.68 > 10.7.0.1.67"),
        (110, True, "{address}.68 > 255.255.255.255.67"),
        (60, False, "0.0.0.0.68 > 255.255.255.255.67"),
        (110, False, "0.0.0.0.68 > 255.255.255.255.67"),
    ],
    ids=["renew", "rebind", "reboot", "reboot-late"],
)
def test_renew(lan, age_s, has_address, sent):
    """A renewal goes to the server alone, after T2 to all, and without the address as after a reboot; no ICMP comes."""
    lan.serve()
    lease = lan.acquire(hostname="web")
    if has_address:
        lan.configure(lease)
    before = lan.log().count("DHCPACK(lan)")
    capture = Capture(lan)
    renewed = lan.renew(aged(lease, age_s))
    assert replace(renewed, acquired_at=0, t1_s=0, t2_s=0) == replace(lease, acquired_at=0, t1_s=0, t2_s=0)
    assert renewed.acquired_at > lease.acquired_at
    assert lan.log().count("DHCPACK(lan)") == before + 1
    lines = capture.lines()
    assert lines[0] == sent.format(address=lease.address.ip)
    assert len(lines) == 2, lines


def test_renewal_moves_the_end(lan):
    """The server's end of a lease moves when it is renewed."""
    lan.serve()
    lease = lan.acquire()
    lan.configure(lease)
    [before] = lan.leases()
    wait_until(lambda: time.time() > lease.acquired_at + 1.1, "another second has begun")
    lan.renew(lease)
    [after] = lan.leases()
    assert int(after[0]) > int(before[0])
    assert after[1:] == before[1:]


def test_lease_that_has_run_out(lan):
    """A lease that has run out is not renewed but acquired anew, with the same address where that is free."""
    lan.serve()
    lease = lan.acquire()
    before = lan.log().count("DHCPDISCOVER(lan)")
    assert lan.renew(aged(lease, 121)).address == lease.address
    assert lan.log().count("DHCPDISCOVER(lan)") == before + 1


@pytest.mark.parametrize("has_address", [True, False])
def test_refused(lan, has_address):
    """A server that has another range by now refuses; the renewal then brings a lease of the new range."""
    lan.serve()
    lease = lan.acquire()
    if has_address:
        lan.configure(lease)
    (lan.directory / "leases").unlink()
    lan.host.run("ip address flush dev lan")
    lan.host.run("ip address add 10.8.0.1/24 dev lan")
    lan.host.run("ip route add 10.7.0.0/24 dev lan")
    lan.serve("10.8.0.50,10.8.0.60")
    renewed = lan.renew(aged(lease, 110))
    assert renewed.address in [
        IPv4Interface((number, 24)) for number in range(int(IPv4Address("10.8.0.50")), int(IPv4Address("10.8.0.61")))
    ]
    assert "DHCPNAK(lan)" in lan.log()
    assert [row[2] for row in lan.leases()] == [str(renewed.address.ip)]


def test_server_that_is_away(lan):
    """A renewal that nobody answers is an error that names the server; the lease is untouched."""
    lan.serve()
    lease = lan.acquire()
    lan.configure(lease)
    lan.stop()
    with pytest.raises(NotFound, match=r"DHCP server 10\.7\.0\.1 did not answer on eth0 within 0\.3 s"):
        lan.renew(lease, timeout_s=0.3)


# Releasing


def test_release(lan):
    """A released lease is gone from the server's file at once."""
    lan.serve()
    lease = lan.acquire(hostname="web")
    lan.configure(lease)
    assert len(lan.leases()) == 1
    dhcp.release(lan.path, "eth0", lease)
    wait_until(lambda: not lan.leases(), "dnsmasq has taken the lease back")
    assert f"DHCPRELEASE(lan) {lease.address.ip} {lease.mac}" in lan.log()


# Servers that behave badly


def test_garbage_is_none_of_our_business(lan):
    """Messages that are broken, or for others, neither end the conversation nor are taken for answers."""
    lan.stand_in(2, 5)
    lease = lan.acquire(timeout_s=5)
    assert (lease.address, lease.lease_time_s, lease.t1_s, lease.t2_s) == (IPv4Interface("10.7.0.99/24"), 600, 300, 525)


@pytest.mark.parametrize(
    ("offer", "answer", "why"),
    [
        (0, 0, "no DHCP server answered"),
        (5, 5, "no DHCP server answered"),
        (2, 0, r"DHCP server 10\.7\.0\.1 offered 10\.7\.0\.99 and then did not confirm it"),
        (2, 2, r"DHCP server 10\.7\.0\.1 offered 10\.7\.0\.99 and then did not confirm it"),
        (2, 6, r"DHCP server 10\.7\.0\.1 refused"),
    ],
)
def test_no_lease(lan, offer, answer, why):
    """When there is no lease in time, the error says how far it came."""
    lan.stand_in(offer, answer)
    capture = Capture(lan)
    with pytest.raises(NotFound, match=rf"{why} on eth0 within 0\.8 s") as caught:
        lan.acquire(timeout_s=0.8)
    assert caught.value.hint
    # A server that refuses is not asked again at once.
    assert len([line for line in capture.lines() if line.endswith(".67")]) <= 2


def test_nobody(lan):
    """Where nobody answers, the error comes in time and names the interface; nothing is left behind."""
    before, threads = sorted(os.listdir("/proc/self/fd")), threading.active_count()
    with pytest.raises(NotFound, match=r"no DHCP server answered on eth0 within 0\.3 s") as caught:
        lan.acquire(timeout_s=0.3)
    assert caught.value.object == "eth0"
    assert sorted(os.listdir("/proc/self/fd")) == before
    wait_until(lambda: threading.active_count() <= threads, "no thread is left")


def test_interface_that_cannot(lan):
    """An interface that is down or missing, and a namespace that is gone, are errors at once."""
    lan.client.run("ip link set eth0 down")
    with pytest.raises(InvalidRequest, match="interface eth0 is down"):
        lan.acquire()
    with pytest.raises(NotFound, match="there is no interface eth7"):
        dhcp.acquire(lan.path, "eth7")
    with pytest.raises(NotFound, match="there is no network namespace /proc/1/absent"):
        dhcp.acquire("/proc/1/absent", "eth0")


def test_interrupted(lan):
    """Ctrl-C ends the wait for a server at once."""
    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    began = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        lan.acquire(timeout_s=50)
    assert time.monotonic() - began < 25
    timer.join()
