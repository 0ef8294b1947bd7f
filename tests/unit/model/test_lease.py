"""What a lease says, and how DHCP's options read. Oracles: the RFCs' own examples, and the library's decoder."""

from __future__ import annotations

import contextlib
import json
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.dhcp.dhcp4msg import dhcp4msg

from dnet.model.lease import Lease, from_document, read_classless_routes, read_lease, read_names

OPTIONS = {
    "server_id": "10.7.0.1",
    "lease_time": 600,
    "subnet_mask": "255.255.255.0",
    "router": ["10.7.0.1", "10.7.0.2"],
}
ABOUT = {"server_mac": "02:00:00:00:00:01", "mac": "02:00:00:00:00:02", "hostname": "web", "acquired_at": 5.0}


def lease(address: str = "10.7.0.50", **options: object) -> Lease | None:
    """Read an acknowledgement with some options changed; None leaves one out."""
    changed = {name.lower(): value for name, value in (OPTIONS | options).items() if value is not None}
    return read_lease(address, changed, **ABOUT)


def test_read():
    """An acknowledgement is read; what it does not say has its defaults."""
    assert lease() == Lease(
        address=IPv4Interface("10.7.0.50/24"),
        routers=(IPv4Address("10.7.0.1"), IPv4Address("10.7.0.2")),
        classless_routes=(),
        dns=(),
        domain="",
        search=(),
        mtu=0,
        server=IPv4Address("10.7.0.1"),
        lease_time_s=600,
        t1_s=300,
        t2_s=525,
        **ABOUT,
    )


@pytest.mark.parametrize("address", ["0.0.0.0", "255.255.255.255", "224.0.0.5", "127.0.0.1"])
def test_no_address(address):
    """An address that no interface can have is no lease."""
    assert lease(address) is None


@pytest.mark.parametrize("name", ["server_id", "lease_time"])
def test_no_lease(name):
    """Without a server or a time there is no lease; nor with a time of nothing."""
    assert lease(**{name: None}) is None
    assert lease(lease_time=0) is None
    assert lease(server_id="0.0.0.0") is None


def test_routes():
    """The first router is the default route; classless routes take the place of all routers."""
    default = IPv4Network("0.0.0.0/0")
    assert lease().routes == ((default, IPv4Address("10.7.0.1")),)
    assert lease(router=None).routes == ()
    assert lease(router=["0.0.0.0", "10.7.0.9"]).routes == ((default, IPv4Address("10.7.0.9")),)
    classless = lease(classless_static_route=[16, 10, 9, 10, 7, 0, 254, 32, 10, 1, 2, 3, 0, 0, 0, 0])
    assert classless.routes == (
        (IPv4Network("10.9.0.0/16"), IPv4Address("10.7.0.254")),
        (IPv4Network("10.1.2.3/32"), None),
    )


@pytest.mark.parametrize(
    ("mask", "length"),
    [("255.255.255.255", 32), ("255.255.240.0", 20), (None, 32), ("255.0.255.0", 32), ("", 32), ("128.0.0.0", 1)],
)
def test_mask(mask, length):
    """Without a proper mask the address is on its own."""
    assert lease(subnet_mask=mask).address == IPv4Interface(f"10.7.0.50/{length}")


@pytest.mark.parametrize(
    ("lease_time", "t1", "t2", "times"),
    [
        (600, 100, 200, (600, 100, 200)),
        (600, None, None, (600, 300, 525)),
        (600, 100, None, (600, 300, 525)),
        (600, 300, 200, (600, 300, 525)),
        (600, 300, 700, (600, 300, 525)),
        (600, 0, 200, (600, 300, 525)),
        (600, -1, -1, (600, 300, 525)),
        (-1, None, None, (None, None, None)),
        (-1, 100, 200, (None, None, None)),
        (-2, None, None, (0xFFFFFFFE, 0x7FFFFFFF, 3758096382)),
        (1, None, None, (1, 0, 0)),
    ],
)
def test_times(lease_time, t1, t2, times):
    """Times out of order have the defaults of RFC 2131; the largest number means for ever, those below do not."""
    found = lease(lease_time=lease_time, renewal_time=t1, rebinding_time=t2)
    assert (found.lease_time_s, found.t1_s, found.t2_s) == times


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("lan.example", "lan.example"),
        ("lan.example.", "lan.example"),
        ("a b", ""),
        ("x\nnameserver 192.0.2.66", ""),
        ("-x", ""),
        ("", ""),
        ("x" * 254, ""),
    ],
)
def test_domain(text, domain):
    """A domain that could not stand in resolv.conf, or would be more than a domain there, is left out."""
    assert lease(domain_name=text).domain == domain


@pytest.mark.parametrize(("value", "mtu"), [(1400, 1400), (68, 68), (67, 0), (0, 0), (65535, 65535)])
def test_mtu(value, mtu):
    """An MTU that IPv4 cannot have is left out."""
    assert lease(interface_mtu=value).mtu == mtu


def test_unusable_servers():
    """Name servers that cannot be are left out; the others stay in their order."""
    found = lease(name_server=["0.0.0.0", "10.7.0.53", "255.255.255.255", "127.0.0.53", "10.7.0.54"])
    assert found.dns == (IPv4Address("10.7.0.53"), IPv4Address("10.7.0.54"))


# RFC 3442 has these descriptors as examples, in its section on the option.
RFC_3442 = {
    "0": (0, "0.0.0.0"),
    "8.10": (8, "10.0.0.0"),
    "24.10.0.0": (24, "10.0.0.0"),
    "16.10.17": (16, "10.17.0.0"),
    "24.10.27.129": (24, "10.27.129.0"),
    "25.10.229.0.128": (25, "10.229.0.128"),
    "32.10.198.122.47": (32, "10.198.122.47"),
}


@pytest.mark.parametrize("text", RFC_3442)
def test_descriptors_of_rfc_3442(text):
    """A destination is written with as many bytes as its prefix fills."""
    length, address = RFC_3442[text]
    data = bytes(int(part) for part in text.split(".")) + bytes([10, 7, 0, 1])
    assert read_classless_routes(data) == ((IPv4Network(f"{address}/{length}"), IPv4Address("10.7.0.1")),)


@pytest.mark.parametrize(
    "data", [b"\x21" + bytes(9), b"\x10\x0a", b"\x18\x0a\x00\x00\x0a\x07\x00", b"\x00\x01\x02\x03"]
)
def test_broken_routes(data):
    """Routes that are cut off or impossible are left out as a whole."""
    assert read_classless_routes(bytes([8, 10, 10, 7, 0, 1]) + data) == ()


def test_names_of_rfc_3397():
    """The example of RFC 3397: the second name ends by pointing into the first."""
    data = b"\x03eng\x05apple\x03com\x00\x09marketing\xc0\x04"
    assert read_names(data) == ("eng.apple.com", "marketing.apple.com")


@pytest.mark.parametrize(
    "data",
    [
        b"\xc0\x00",
        b"\x01a\xc0\x00",
        b"\x01a\xc0\x02",
        b"\xc0",
        b"\x03ab",
        b"\x01a",
        b"\x80\x00",
        b"\xc0\xff",
        b"\x01a\xc0\x05\x01b\xc0\x00",
        b"",
        b"\x00",
        b"\x01 \x00",
        b"\x01\xff\x00",
    ],
)
def test_broken_names(data):
    """Names that are cut off, point forward or in circles, or are no names, are left out."""
    assert read_names(data) == ()


def test_good_names_before_broken_ones():
    """What was read before a broken name stays."""
    assert read_names(b"\x01a\x00\x01b") == ("a",)


@given(st.binary(max_size=80))
def test_any_bytes(data):
    """Any bytes are read without an error, and without circling."""
    for name in read_names(data):
        assert name.split() == [name]
    for network, gateway in read_classless_routes(data):
        assert isinstance(network, IPv4Network)
        assert gateway is None or not gateway.is_unspecified


@given(st.binary(max_size=120))
def test_any_options(data):
    """Whatever options the library makes of a message, there is a lease, or none, and never an error of ours."""
    head = bytes([2, 1, 6, 0]) + bytes(12) + bytes([10, 7, 0, 50]) + bytes(216) + b"\x63\x82\x53\x63"
    granted = bytes([54, 4, 10, 7, 0, 1, 51, 4, 0, 0, 2, 88])
    message = dhcp4msg(buf=head + granted + data)
    # What the library stumbles over, dnet.dhcp does not take for an answer.
    with contextlib.suppress(ValueError, IndexError):
        message.decode()
    found = read_lease(message["yiaddr"], message["options"], **ABOUT)
    assert found is None or from_document(json.loads(json.dumps(found.document()))) == found


ADDRESSES = st.integers(0x01000000, 0x7EFFFFFF).map(IPv4Address)
TIMES = st.one_of(st.none(), st.integers(1, 1 << 31))


@given(
    st.builds(
        Lease,
        address=st.builds(lambda address, length: IPv4Interface((int(address), length)), ADDRESSES, st.integers(1, 32)),
        routers=st.lists(ADDRESSES, max_size=3).map(tuple),
        classless_routes=st.lists(
            st.tuples(
                st.builds(
                    lambda address, length: IPv4Interface((int(address), length)).network, ADDRESSES, st.integers(0, 32)
                ),
                st.one_of(st.none(), ADDRESSES),
            ),
            max_size=3,
        ).map(tuple),
        dns=st.lists(ADDRESSES, max_size=3).map(tuple),
        domain=st.sampled_from(["", "lan.example"]),
        search=st.lists(st.sampled_from(["a", "b.example"]), max_size=2).map(tuple),
        mtu=st.integers(0, 65535),
        server=ADDRESSES,
        server_mac=st.just("02:00:00:00:00:01"),
        mac=st.just("02:00:00:00:00:02"),
        hostname=st.sampled_from(["", "web"]),
        acquired_at=st.floats(0, 1e10),
        lease_time_s=TIMES,
        t1_s=TIMES,
        t2_s=TIMES,
    )
)
def test_document(lease_):
    """A lease survives being written as JSON and read again."""
    assert from_document(json.loads(json.dumps(lease_.document()))) == lease_
