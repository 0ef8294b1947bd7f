"""Wiring by hand as it is asked for: what is read, what is refused, and what is the same as what is there."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnet.drivers import attachment
from dnet.errors import Conflict, InvalidRequest, Unsupported
from dnet.model import attachment_spec
from dnet.model.attachment import Attachment, KernelRoute, StaticRoute
from dnet.model.attachment_spec import AttachmentSpec
from dnet.model.container import MODE_FOREIGN
from dnet.model.default_route import with_defaults
from dnet.model.vlan import PortVlans
from dnet.objects.links import CarrierSeen, LinkUp, Macvlan, MovedDevice, Veth
from dnet.objects.observed import INFINIBAND, ObservedLink
from dnet.objects.routes import Address, DisplacedRoute, Route
from dnet.operations import attachment_checks
from dnet.state.attachments import ATTACHMENT, details_of, read_attachment
from tests.support import samples

BRIDGE = ObservedLink(name="br0", index=9, kind="bridge", mac="02:00:00:00:00:09", mtu=1400)
ETHERNET = ObservedLink(name="eth1", index=7, mac="02:00:00:00:00:07")
NET = samples.network("blue", "10.1.0.0/16")
TARGET = {"path": "/proc/7/ns/net", "inode": 5, "cookie": 6, "kind": "docker", "reference": "abc", "name": "web"}


def wire(**given) -> Attachment:
    """Return an attachment to a bridge, with one address."""
    known = {
        "id": samples.identity_of("wire"),
        "kind": "bridge",
        "device": "br0",
        "device_index": 9,
        "interface": "eth1",
        "host_index": 1 << 21,
        "host_interface": "veth200000",
        "addresses": (ip_interface("192.168.1.5/24"),),
        "gateways": (),
        "mac": "02:42:c0:a8:01:05",
        "mtu": 0,
    }
    return Attachment(**(known | given))


def foreign(**given):
    """Return a container of somebody else's."""
    return replace(samples.container("docker:web", ()), mode=MODE_FOREIGN, target=TARGET, **given)


# What is asked for


def test_addresses_with_gateways():
    """An address may carry its gateway; 0/0 is none; both families together are fine."""
    spec = AttachmentSpec(bridge="br0", addresses=["10.0.0.5/8@10.0.0.1", "0/0", "fd00::5/64@fe80::1"])
    assert spec.addresses == (ip_interface("10.0.0.5/8"), ip_interface("fd00::5/64"))
    assert spec.gateways == (IPv4Address("10.0.0.1"), IPv6Address("fe80::1"))
    assert AttachmentSpec(bridge="br0", addresses=["0/0@10.0.0.1"]).gateways == (IPv4Address("10.0.0.1"),)


@pytest.mark.parametrize(
    "fields",
    [
        {"addresses": ["10.0.0.5"]},
        {"addresses": ["10.0.0.5/33"]},
        {"addresses": ["10.0.0.5/8@"]},
        {"addresses": ["10.0.0.5/8@0.0.0.0"]},
        {"addresses": ["224.0.0.1/8"]},
        {"addresses": ["127.0.0.2/8"]},
        {"addresses": ["fe80::1%eth0/64"]},
        {"addresses": ["10.0.0.5/8", "10.0.0.5/16"]},
        {"addresses": ["10.0.0.5/8"], "dhcp": True},
        {"gateways": ["10.0.0.1", "10.0.0.2"]},
        {"mac": "U: "},
        {"mac": "01:00:00:00:00:01"},
        {"mtu": 5},
        {"interface": "x" * 16},
        {"host_interface": "a/b"},
        {"mode": "vepa"},
        {"vlan": 0},
        {"vlan": "4095"},
        {"macvlan": "eth1"},
        {"bridge": "", "direct": "lo"},
        {"bridge": ""},
    ],
    ids=str,
)
def test_wrong_requests(fields):
    """What cannot be is an InvalidRequest with a sentence."""
    with pytest.raises(InvalidRequest, match=r"\w+ \w+"):
        AttachmentSpec(**({"bridge": "br0"} | fields))


def test_vlan_of_a_device():
    """A VLAN on a device of the host's is not supported, and the hint says where it is; on an Open vSwitch it is."""
    with pytest.raises(Unsupported) as caught:
        AttachmentSpec(macvlan="eth1", vlan=7)
    assert "--network" in caught.value.hint
    spec = AttachmentSpec(bridge="br0", trunk="7-9", native=8)
    with pytest.raises(Unsupported, match="trunk 7-9 native 8 on br0"):
        spec.check_vlans()
    switched = spec.on_switch()
    switched.check_vlans()
    assert (switched.vlans, switched.device) == (PortVlans(trunk=((7, 9),), native=8), "br0")
    assert spec.kind == "bridge"


@given(st.text(st.characters(codec="ascii"), max_size=30))
def test_any_text_is_read_or_refused(text):
    """No text leads to any other error than InvalidRequest."""
    for read in (
        attachment_spec.parse_address_and_gateway,
        attachment_spec.parse_mac,
        lambda words: attachment_spec.parse_route(words.split()),
    ):
        try:
            read(text)
        except InvalidRequest:
            continue


def test_routes_are_read():
    """The words of ip-route; what is missing is told."""
    assert attachment_spec.parse_route(["10.2.0.0/16", "via", "10.1.0.9", "metric", "5"]) == StaticRoute(
        IPv4Network("10.2.0.0/16"), IPv4Address("10.1.0.9"), "", 5
    )
    assert attachment_spec.parse_route(["default", "via", "fd00::1"]).destination == IPv6Network("::/0")
    assert attachment_spec.parse_route(["10.9.0.7", "dev", "eth1"]).destination == IPv4Network("10.9.0.7/32")
    words = ["default", "via", "10.1.0.9", "dev", "eth0", "metric", "7"]
    assert str(attachment_spec.parse_route(words)) == " ".join(words)


# The host's device


@pytest.mark.parametrize(
    ("fields", "link", "more", "kind", "words"),
    [
        ({"bridge": "eth1"}, ETHERNET, {}, InvalidRequest, "eth1 is not a bridge"),
        ({"macvlan": "wlan0"}, replace(ETHERNET, name="wlan0"), {"is_wireless": True}, Unsupported, "wireless"),
        ({"direct": "wlan0"}, replace(ETHERNET, name="wlan0"), {"is_wireless": True}, Unsupported, "wireless"),
        ({"macvlan": "ib0"}, replace(ETHERNET, type=INFINIBAND), {}, Unsupported, "InfiniBand"),
        ({"macvlan": "eth1"}, replace(ETHERNET, master=9), {"master": "br0"}, Conflict, "eth1 is a port of br0"),
        ({"direct": "br0"}, BRIDGE, {}, InvalidRequest, "cannot be moved"),
        ({"macvlan": "eth1", "mtu": 1501}, ETHERNET, {}, InvalidRequest, "more than that of eth1"),
    ],
)
def test_devices(fields, link, more, kind, words):
    """A device that cannot be attached to is refused, each with its reason."""
    with pytest.raises(kind, match=words):
        attachment_checks.check_device(AttachmentSpec(**fields), link, **({"is_wireless": False, "master": ""} | more))


def test_mac_addresses():
    """The one asked for, the device's own where it has to be, that of the IPv4 address, or one of its id."""
    identity = "abcdef0123" + "0" * 54
    mac = lambda link, **fields: attachment_checks.choose_mac(AttachmentSpec(**fields), identity, link)  # noqa: E731
    assert mac(BRIDGE, bridge="br0", mac="02:00:00:00:00:01") == "02:00:00:00:00:01"
    assert mac(BRIDGE, bridge="br0", addresses=["fd00::5/64", "192.168.1.5/24"]) == "02:42:c0:a8:01:05"
    assert mac(BRIDGE, bridge="br0") == "02:ab:cd:ef:01:23"
    assert mac(ETHERNET, direct="eth1", addresses=["192.168.1.5/24"]) == ETHERNET.mac
    assert mac(ETHERNET, macvlan="eth1", mode="passthru") == ETHERNET.mac


def test_the_same():
    """An attachment is what is asked for if all that was said agrees; what was left open does not matter."""
    there = wire()
    for fields in ({}, {"interface": "eth1"}, {"mac": there.mac}):
        assert attachment_checks.is_made(AttachmentSpec(bridge="br0", addresses=["192.168.1.5/24"], **fields), there)
    for fields in ({"interface": "eth2"}, {"mac": "02:00:00:00:00:01"}, {"gateways": ["192.168.1.1"]}, {"mtu": 1400}):
        assert not attachment_checks.is_made(
            AttachmentSpec(bridge="br0", addresses=["192.168.1.5/24"], **fields), there
        )
    assert not attachment_checks.is_made(AttachmentSpec(bridge="br1", addresses=["192.168.1.5/24"]), there)
    assert not attachment_checks.is_made(AttachmentSpec(bridge="br0"), there)


# What it comes to


def test_rows_come_back():
    """What an attachment is comes back out of its row as it was."""
    vlans = PortVlans(trunk=((5, 7), (9, 9)), native=9)
    there = wire(
        gateways=(IPv4Address("192.168.1.1"),), before={"mac": "x"}, lease={"address": "10.0.0.1/8"}, vlans=vlans
    )
    *own, _container, details, _phase = ATTACHMENT.row(there, "container", details_of(there), "ready")
    assert read_attachment([*own, details]) == there


def test_default_routes():
    """Of what asks for the default route the highest priority has it; foreign containers only what asks for it."""
    end = samples.endpoint(NET, "10.1.0.2")
    gateway = (IPv4Address("192.168.1.1"),)
    networks = {NET.id: NET}

    def winners(container):
        done = with_defaults(container, networks)
        return [bool(one.gateway) for one in done.endpoints], [one.defaults for one in done.attachments]

    own = samples.container("web", [end])
    assert winners(replace(own, attachments=(wire(),))) == ([True], [()])
    assert winners(replace(own, attachments=(wire(gateways=gateway, gateway_priority=1),))) == ([False], [(4,)])
    later = wire(id="later", interface="eth2", gateways=gateway, gateway_priority=2)
    assert winners(replace(own, attachments=(later, wire(gateways=gateway, gateway_priority=1)))) == (
        [False],
        [(), (4,)],
    )
    assert winners(foreign(endpoints=(end,))) == ([False], [])
    assert winners(foreign(endpoints=(replace(end, gateway_priority=1),))) == ([True], [])


def test_objects_of_an_attachment():
    """Born inside, addresses before up, others' default route away just before its own; the host's end comes last."""
    item = wire(gateways=(IPv4Address("172.16.0.1"),), defaults=(4,))
    old = KernelRoute(version=4, device="eth0", index=3, text="route default via 10.0.0.1", message="00" * 28)
    made = list(attachment.attachment(foreign(attachments=(item,), displaced=(old,)), item))
    kinds = [type(one) for one in made]
    assert kinds[0] is Veth
    assert kinds.index(Address) < kinds.index(LinkUp)
    routes = [one for one in made if isinstance(one, Route)]
    assert [(str(one.destination), one.gateway and str(one.gateway)) for one in routes] == [
        ("172.16.0.1/32", None), ("0.0.0.0/0", "172.16.0.1"),
    ]  # fmt: skip
    assert kinds.index(DisplacedRoute) == made.index(routes[1]) - 1
    assert made.index(CarrierSeen("veth200000", 1 << 21, "")) > made.index(LinkUp("veth200000", 1 << 21, ""))


def test_kinds_of_attachments():
    """Each kind begins with its device; while the host has none, there is nothing."""
    box = foreign()
    for kind, expected in (("macvlan", Macvlan), ("direct", MovedDevice)):
        item = wire(kind=kind, device="eth1", macvlan_mode="bridge", host_interface="")
        assert isinstance(next(attachment.attachment(box, item)), expected)
        assert list(attachment.attachment(box, replace(item, device_index=0))) == []


def test_lease_brings_address_and_routes():
    """What DHCP granted is on the interface; classless routes take the place of routers."""
    lease = {"address": "10.7.0.9/24", "routers": ["10.7.0.1"], "classless_routes": []}
    assert wire(lease=lease).default_gateways == (IPv4Address("10.7.0.1"),)
    other = lease | {"classless_routes": [["0.0.0.0/0", "10.7.0.2"], ["10.8.0.0/16", "10.7.0.3"]]}
    item = wire(addresses=(), lease=other, defaults=(4,))
    assert item.default_gateways == (IPv4Address("10.7.0.2"),)
    made = list(attachment.attachment(foreign(attachments=(item,)), item))
    assert [one.interface for one in made if isinstance(one, Address)] == [ip_interface("10.7.0.9/24")]
    ways = [(str(one.destination), str(one.gateway)) for one in made if isinstance(one, Route)]
    assert ways == [("10.8.0.0/16", "10.7.0.3"), ("0.0.0.0/0", "10.7.0.2")]
    assert wire(gateways=(IPv4Address("10.7.0.9"),), lease=lease).default_gateways == (IPv4Address("10.7.0.9"),)
