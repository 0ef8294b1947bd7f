"""-p, -P and --expose on the real kernel: what nft then maps, and what `port` prints, form by form."""

from __future__ import annotations

import pytest

from tests.support.dnet_commands import created, network, ports_of
from tests.support.hosts import FakeHost, Neighbour
from tests.support.nft_listing import elements, published
from tests.support.traffic import ANYWHERE, HOST

# (options, what `dnet port` prints on a network of both families). Automatic ports begin at 32768, as the kernel's do.
FORMS = [
    ("-p 80", ["80/tcp -> 0.0.0.0:32768", "80/tcp -> [::]:32768"]),
    ("-p :80", ["80/tcp -> 0.0.0.0:32768", "80/tcp -> [::]:32768"]),
    ("-p 0:80", ["80/tcp -> 0.0.0.0:32768", "80/tcp -> [::]:32768"]),
    ("-p 8080:80", ["80/tcp -> 0.0.0.0:8080", "80/tcp -> [::]:8080"]),
    ("--publish 8080:80", ["80/tcp -> 0.0.0.0:8080", "80/tcp -> [::]:8080"]),
    ("-p 5300:53/udp", ["53/udp -> 0.0.0.0:5300", "53/udp -> [::]:5300"]),
    ("-p 5000:5000/sctp", ["5000/sctp -> 0.0.0.0:5000", "5000/sctp -> [::]:5000"]),
    ("-p 127.0.0.1:8080:80", ["80/tcp -> 127.0.0.1:8080"]),
    ("-p 127.0.0.1::80", ["80/tcp -> 127.0.0.1:32768"]),
    ("-p 192.0.2.1:8080:80", ["80/tcp -> 192.0.2.1:8080"]),
    ("-p 0.0.0.0:8080:80", ["80/tcp -> 0.0.0.0:8080"]),
    ("-p [::1]:8080:80", ["80/tcp -> [::1]:8080"]),
    ("-p [::]:8080:80", ["80/tcp -> [::]:8080"]),
    ("-p [2001:db8::1]::80", ["80/tcp -> [2001:db8::1]:32768"]),
    (
        "-p 192.0.2.1:8000-8002:9000-9002/udp",
        ["9000/udp -> 192.0.2.1:8000", "9001/udp -> 192.0.2.1:8001", "9002/udp -> 192.0.2.1:8002"],
    ),
    ("-p 127.0.0.1:8000-9000:80", ["80/tcp -> 127.0.0.1:8000"]),
    ("-p 127.0.0.1::9000-9001", ["9000/tcp -> 127.0.0.1:32768", "9001/tcp -> 127.0.0.1:32769"]),
    (
        "-p 127.0.0.1:8080:80 -p 192.0.2.1:8081:80 -p 127.0.0.1:53:53/udp -p 127.0.0.1:53:53",
        [
            "53/tcp -> 127.0.0.1:53",
            "53/udp -> 127.0.0.1:53",
            "80/tcp -> 127.0.0.1:8080",
            "80/tcp -> 192.0.2.1:8081",
        ],
    ),
    ("--expose 80", []),
    (
        "-P --expose 80 --expose 53/udp",
        [
            "53/udp -> 0.0.0.0:32768",
            "53/udp -> [::]:32768",
            "80/tcp -> 0.0.0.0:32768",
            "80/tcp -> [::]:32768",
        ],
    ),
    (
        "-P --expose 7000-7001 -p 127.0.0.1:8080:7001",
        ["7000/tcp -> 0.0.0.0:32768", "7000/tcp -> [::]:32768", "7001/tcp -> 127.0.0.1:8080"],
    ),
    ("-P", []),
]


@pytest.mark.parametrize(("options", "lines"), FORMS, ids=[options for options, _ in FORMS])
def test_forms(host: FakeHost, lan: Neighbour, options: str, lines: list[str]) -> None:
    """Every form makes the elements that it says and no others, and `port` prints them."""
    assert lan
    network(host, "six", "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64")
    host.dnet("create", "--network", "six", *options.split(), "web")
    assert ports_of(host, "web") == lines
    assert published(host) == sorted(map(element, lines))


def element(line: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the element that stands for a line of `port`'s, the container having 10.1.0.2 and fd00:1::2."""
    inside, _, outside = line.partition(" -> ")
    port, protocol = inside.split("/")
    address, _, number = outside.rpartition(":")
    address = address.strip("[]")
    target = ("fd00:1::2" if ":" in address else "10.1.0.2", port)
    key = (protocol, number) if address in ANYWHERE.values() else (address, protocol, number)
    return key, target


def test_an_ipv4_network(host: FakeHost) -> None:
    """On a network without IPv6 a port without an address is published on all IPv4 addresses."""
    host.dnet("create", "-p", "8080:80", "web")
    assert ports_of(host, "web") == ["80/tcp -> 0.0.0.0:8080"]
    assert published(host) == [(("tcp", "8080"), ("172.17.0.2", "80"))]


def test_exposed_ports_are_only_declared(host: FakeHost) -> None:
    """--expose declares ports: `inspect` and `ps` show them, nothing is published."""
    document = created(host, "--expose", "80", "--expose", "53/udp", "web")
    assert document["Config"]["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    assert document["NetworkSettings"]["Ports"] == {"80/tcp": None, "53/udp": None}
    assert host.dnet("ps").stdout.splitlines()[1].split()[5:7] == ["53/udp,", "80/tcp"]
    assert published(host) == []


def test_publishing_exposes(host: FakeHost) -> None:
    """A published port is an exposed one too, as with Docker."""
    document = created(host, "-p", "8080:80", "--expose", "53/udp", "web")
    assert document["Config"]["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    bindings = document["NetworkSettings"]["Ports"]
    assert bindings == {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "53/udp": None}


def test_sctp_elements(host: FakeHost) -> None:
    """SCTP ports are elements like the others, also where the kernel itself has no SCTP sockets."""
    host.dnet("create", "-p", "5000:36412/sctp", "-p", "127.0.0.1:5001:36412/sctp", "web")
    assert elements(host, "publish4") == [(("sctp", "5000"), ("172.17.0.2", "36412"))]
    assert elements(host, "publish4_on") == [(("127.0.0.1", "sctp", "5001"), ("172.17.0.2", "36412"))]


def test_fields_of_a_file(host: FakeHost) -> None:
    """In bulk-create's file `publish`, `publish-all` and `expose` mean what the options mean."""
    path = host.directory / "many.json"
    path.write_text(
        '[{"name": "web", "publish": ["8080:80", "127.0.0.1:53:53/udp"]},'
        ' {"name": "db", "publish-all": true, "expose": [5432]}]',
        encoding="ascii",
    )
    host.dnet("bulk-create", "--file", str(path))
    assert ports_of(host, "web") == ["53/udp -> 127.0.0.1:53", "80/tcp -> 0.0.0.0:8080"]
    assert ports_of(host, "db") == ["5432/tcp -> 0.0.0.0:32768"]


def test_host_binding(host: FakeHost, lan: Neighbour) -> None:
    """--host-binding is the address of ports published without one; a -p with an address overrides it."""
    network(host, "bound", "--subnet", "10.1.0.0/24", "--host-binding", HOST[4])
    host.dnet("create", "--network", "bound", "-p", "8080:80", "-p", "127.0.0.1:8081:81", "-P", "--expose", "82", "web")
    assert ports_of(host, "web") == [
        "80/tcp -> 192.0.2.1:8080",
        "81/tcp -> 127.0.0.1:8081",
        "82/tcp -> 192.0.2.1:32768",
    ]
    with host.sandbox("web").serve(80):
        assert lan.ask(HOST[4], 8080)["server"] == "web"


def test_host_binding_by_dockers_name(host: FakeHost) -> None:
    """com.docker.network.bridge.host_binding_ipv4 is the same."""
    network(host, "bound", "-o", "com.docker.network.bridge.host_binding_ipv4=127.0.0.1")
    host.dnet("create", "--network", "bound", "-p", "8080:80", "web")
    assert ports_of(host, "web") == ["80/tcp -> 127.0.0.1:8080"]


def test_port_of_one_container_port(host: FakeHost) -> None:
    """`port NAME 80` prints only where; the protocol is tcp unless it is given; a port not published is not found."""
    host.dnet("create", "-p", "8080:80", "-p", "127.0.0.1:8081:80", "-p", "5300:53/udp", "--expose", "81", "web")
    assert host.dnet("port", "web", "80").stdout == "0.0.0.0:8080\n127.0.0.1:8081\n"
    assert host.dnet("port", "web", "80/tcp").stdout == "0.0.0.0:8080\n127.0.0.1:8081\n"
    assert host.dnet("port", "web", "53/udp").stdout == "0.0.0.0:5300\n"
    for absent in ("53", "80/udp", "81"):
        assert absent in host.dnet("port", "web", absent, code=3).stderr
    host.dnet("port", "web", "eighty", code=2)
    host.dnet("port", "db", code=3)
