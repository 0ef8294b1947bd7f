"""Giving out host ports. The oracle is a set of what is taken, gone through one by one."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from types import SimpleNamespace
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnet.errors import Conflict, Exhausted, InvalidRequest
from dnet.linux import listeners
from dnet.model.published_port import PortMapping, Publish
from dnet.transaction.reserve_ports import ANY, HostPorts

ANY4, ANY6 = ANY[4], ANY[6]
LAN, LAN6 = IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1")
LOCAL, LOCAL6 = IPv4Address("127.0.0.1"), IPv6Address("::1")
AUTOMATIC = [40003, 40004, 40000, 40001, 40002]
BOTH = (ANY4, ANY6)


class Host:
    """A host with ports in use; counts how often it is asked for holders."""

    def __init__(self, held=(), automatic=AUTOMATIC) -> None:
        self.held = {(address, protocol, port): holder for address, protocol, port, holder in held}
        self.asked = 0
        self.automatic = automatic
        containers = SimpleNamespace(port_holders=self._holders)
        store = SimpleNamespace(containers=containers, setting=lambda _: 0)
        look = SimpleNamespace(local_addresses=lambda: {LAN, LAN6})
        kernel = SimpleNamespace(look=lambda: look, dump_sockets=lambda *_: ())
        self.ports = HostPorts(store, kernel)

    def _holders(self, protocol, port):
        self.asked += 1
        return {address: name for (address, *rest), name in self.held.items() if rest == [protocol, port]}

    def assign(self, name, addresses=(ANY4,), host=(), container=(80, 80), protocol="tcp"):
        """Assign what `-p` says, ranges given by first and last port; no host port is an automatic one."""
        wanted = range(host[0], host[-1] + 1) if host else range(0)
        item = Publish(None, wanted, range(container[0], container[-1] + 1), protocol)
        with mock.patch.object(listeners, "automatic_ports", return_value=iter(self.automatic)):
            return self.ports.assign(name, item, addresses)


def numbers(mappings) -> list[int]:
    """Return the host ports."""
    return [item.host_port for item in mappings]


def test_explicit_port():
    """An explicit port is what the mapping has, on each address, with the container's port and the protocol."""
    found = Host().assign("web", BOTH, (8080,), (80,), "udp")
    assert found == [PortMapping(ANY4, 8080, 80, "udp"), PortMapping(ANY6, 8080, 80, "udp")]


def test_ranges_pair_up():
    """Equally long ranges pair up in order."""
    found = Host().assign("web", host=(8000, 8002), container=(9000, 9002))
    assert [(item.host_port, item.container_port) for item in found] == [(8000, 9000), (8001, 9001), (8002, 9002)]


def test_automatic_ports_in_order():
    """Automatic ports come in the order given, and the last of them is remembered for the next time."""
    host = Host()
    assert [numbers(host.assign(name))[0] for name in "abc"] == AUTOMATIC[:3]
    assert host.ports.last_automatic == AUTOMATIC[2]


def test_explicit_port_is_not_remembered():
    """An explicit port does not move the place where automatic ones go on."""
    host = Host()
    host.assign("web", host=(8080,))
    host.assign("web", host=(8081, 8090))
    assert host.ports.last_automatic == 0


def test_automatic_range_of_container_ports():
    """A range of container ports without host ports gets an automatic port each."""
    assert numbers(Host().assign("web", container=(9000, 9002))) == AUTOMATIC[:3]


def test_same_number_for_both_families():
    """A port taken in one family only is not given in the other either: both get the same number."""
    host = Host([(LAN6, "tcp", 40003, "container db"), (LOCAL, "tcp", 40004, "nginx (pid 7)")])
    assert numbers(host.assign("web", BOTH)) == [40000, 40000]


def test_families_are_apart():
    """A port held in one family is free in the other."""
    host = Host([(ANY6, "tcp", 8080, "container db")])
    assert numbers(host.assign("web", (ANY4,), (8080,))) == [8080]


def test_protocols_are_apart():
    """One number serves tcp, udp and sctp."""
    host = Host()
    assert [numbers(host.assign("web", host=(53,), protocol=name)) for name in ("tcp", "udp", "sctp")] == [[53]] * 3
    assert [numbers(host.assign("web", protocol=name))[0] for name in ("tcp", "udp", "sctp")] == AUTOMATIC[:1] * 3


def test_different_addresses_are_apart():
    """Two containers can have one port on two addresses."""
    host = Host()
    assert numbers(host.assign("web", (LAN,), (8080,))) == numbers(host.assign("db", (LOCAL,), (8080,))) == [8080]


@pytest.mark.parametrize(
    ("held", "wanted"),
    [(LAN, LAN), (ANY4, LAN), (LAN, ANY4), (ANY4, ANY4), (LOCAL, ANY4), (ANY6, LAN6), (LAN6, ANY6), (LOCAL6, ANY6)],
    ids=str,
)
@pytest.mark.parametrize("is_new", [False, True])
def test_taken_port(held, wanted, is_new):
    """A port is taken by the same address and by all addresses, by others' as by this reservation's containers."""
    host = Host([] if is_new else [(held, "tcp", 8080, "db")])
    if is_new:
        host.assign("db", (held,), (8080,))
    with pytest.raises(Conflict) as caught:
        host.assign("web", (wanted,), (8080,))
    assert "8080/tcp" in str(caught.value)
    assert str(wanted) in str(caught.value)
    assert str(caught.value).endswith("in use by db")
    assert caught.value.hint


def test_port_taken_twice_by_one_container():
    """A container that asks for one host port twice is refused, and named as the holder."""
    host = Host()
    host.assign("web", host=(8080,), container=(80,))
    with pytest.raises(Conflict, match="in use by web"):
        host.assign("web", host=(8080,), container=(81,))


def test_one_of_paired_ports_is_taken():
    """Of ranges that pair up, one taken port is a Conflict that names it; none is skipped."""
    host = Host([(ANY4, "tcp", 8001, "db")])
    with pytest.raises(Conflict, match="8001/tcp"):
        host.assign("web", host=(8000, 8002), container=(9000, 9002))


def test_first_free_of_a_range():
    """A range of host ports for one container port gives the first free one."""
    host = Host([(ANY4, "tcp", 8000, "db"), (LAN, "tcp", 8001, "nginx (pid 7)")])
    assert numbers(host.assign("web", host=(8000, 8010), container=(80,))) == [8002]


def test_range_without_a_free_port():
    """A range of host ports that are all taken is Exhausted, and the range and the container are named."""
    host = Host([(ANY4, "tcp", port, "db") for port in (8000, 8001)])
    with pytest.raises(Exhausted, match=r"8000-8001.*80 of web") as caught:
        host.assign("web", host=(8000, 8001), container=(80,))
    assert caught.value.hint


def test_no_automatic_port_left():
    """When the automatic range is used up, the setting that widens it is named."""
    host = Host()
    for name in "abcde":
        host.assign(name)
    with pytest.raises(Exhausted, match=re.escape("net.ipv4.ip_local_port_range")):
        host.assign("f")


def test_no_automatic_port_at_all():
    """Where every automatic port is reserved, that is Exhausted too."""
    with pytest.raises(Exhausted, match=re.escape("net.ipv4.ip_local_port_range")):
        Host(automatic=[]).assign("web")


def test_containers_share_out_a_range():
    """Containers that ask for one range get its ports one after the other."""
    host = Host([(ANY4, "tcp", 20002, "db")])
    given_out = [numbers(host.assign(f"c-{number}", host=(20000, 20005), container=(80,)))[0] for number in range(5)]
    assert given_out == [20000, 20001, 20003, 20004, 20005]
    with pytest.raises(Exhausted):
        host.assign("c-5", host=(20000, 20005), container=(80,))


def test_overlapping_ranges():
    """Ranges that overlap share the ports that they have in common."""
    host = Host()
    assert numbers(host.assign("a", host=(20000, 20001), container=(80,))) == [20000]
    assert numbers(host.assign("b", host=(20000, 20002), container=(80,))) == [20001]
    with pytest.raises(Exhausted):
        host.assign("c", host=(20000, 20001), container=(80,))
    assert numbers(host.assign("d", host=(20000, 20002), container=(80,))) == [20002]


def test_a_range_on_two_addresses():
    """Each address has the whole of a range."""
    host = Host()
    for address in (LAN, LOCAL):
        assert numbers(host.assign("web", (address,), (20000, 20001), (80,))) == [20000]


@pytest.mark.parametrize("address", ["198.51.100.7", "2001:db8:1::7", "192.0.2.2", "::ffff:192.0.2.1"])
def test_address_that_the_host_has_not(address):
    """An address that no interface of the host has is refused, and named."""
    foreign = IPv6Address(address) if ":" in address else IPv4Address(address)
    with pytest.raises(InvalidRequest, match="no interface of the host has address") as caught:
        Host().assign("web", (foreign,), (8080,))
    assert str(foreign) in str(caught.value)


@pytest.mark.parametrize("address", [ANY4, ANY6, LOCAL, LOCAL6, IPv4Address("127.0.0.53"), LAN, LAN6], ids=str)
def test_address_that_the_host_has(address):
    """All addresses, those of the loopback and those of interfaces can be published on."""
    assert numbers(Host().assign("web", (address,), (8080,))) == [8080]


def test_a_bulk_asks_for_each_port_once():
    """Sharing out a range among many containers asks for the holders of each port once."""
    host = Host()
    for number in range(1000):
        host.assign(f"c-{number}", host=(20000, 20999), container=(80,))
    assert host.asked == 1000


def test_a_bulk_asks_for_each_automatic_port_once():
    """So does giving each an automatic one, for both families at once, also where most ports are taken."""
    held = [(LAN, "tcp", port, "db") for port in range(30000, 31000)]
    host = Host(held, automatic=range(30000, 32000))
    given_out = [numbers(host.assign(f"c-{number}", BOTH))[0] for number in range(1000)]
    assert given_out == list(range(31000, 32000))
    assert host.asked == 2000


addresses = st.sampled_from([(ANY4,), BOTH, (ANY6,), (LAN,), (LOCAL,), (LAN6,)])
wishes = st.tuples(
    addresses, st.none() | st.tuples(st.integers(1, 4), st.integers(0, 3)), st.sampled_from(["tcp", "udp"])
)


def is_free(taken, addresses_wanted, protocol, port) -> bool:
    """Whether none of the addresses clashes with one that is taken, by going through all of them."""
    return not any(
        (protocol, port) == (other_protocol, other_port)
        and address.version == other.version
        and (address == other or address in (ANY4, ANY6) or other in (ANY4, ANY6))
        for other, other_protocol, other_port in taken
        for address in addresses_wanted
    )


@given(
    st.lists(wishes, max_size=12),
    st.sets(st.tuples(addresses.map(lambda found: found[0]), st.sampled_from(["tcp", "udp"]), st.integers(1, 7))),
)
def test_like_the_model(asked, held):
    """Whatever is asked for in a row, each gets the first port that is free at all its addresses, or is refused."""
    automatic = [3, 4, 5, 1, 2]
    host = Host([(*item, "held") for item in held], automatic)
    taken = set(held)
    for wanted_addresses, wanted, protocol in asked:
        candidates = range(wanted[0], wanted[0] + wanted[1] + 1) if wanted else automatic
        free = [port for port in candidates if is_free(taken, wanted_addresses, protocol, port)]
        ask = (candidates[0], candidates[-1]) if wanted else ()
        if not free:
            kind = Conflict if wanted and len(candidates) == 1 else Exhausted
            with pytest.raises(kind):
                host.assign("web", wanted_addresses, ask, (80,), protocol)
            continue
        found = host.assign("web", wanted_addresses, ask, (80,), protocol)
        assert found == [PortMapping(address, free[0], 80, protocol) for address in wanted_addresses]
        taken |= {(address, protocol, free[0]) for address in wanted_addresses}
