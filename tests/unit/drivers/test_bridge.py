"""What exists because of a network or an endpoint on a Linux bridge, in which order, and what belongs to what."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

import pytest

from dnet.drivers import bridge, sandbox
from dnet.model.parse import check_mac
from dnet.objects.host import Forwarding, NatElement
from dnet.objects.links import Bridge, LinkUp, NoAutoconf, Veth
from dnet.objects.object import Device, Object
from dnet.objects.routes import Address, Route
from dnet.objects.sandbox import HostSandbox, Sandbox
from tests.support import samples

NET = samples.network("blue", "10.1.0.0/16")
INTERNAL = samples.network("red", "10.2.0.0/24", internal=True)
END = samples.endpoint(NET, "10.1.0.2")
SECOND = samples.endpoint(INTERNAL, "10.2.0.2", interface="eth1", index=0x5630_0002)
WEB = samples.container("web", [END, SECOND])
NAME_PATH = "/run/netns/web"
# linux/if.h: IFALIASZ, with its terminating NUL.
ALIAS_BYTES_MAX = 255
# linux/if.h: IFNAMSIZ, less its terminating NUL.
DEVICE_NAME_BYTES_MAX = 15

NETWORK = bridge.network(NET)
SANDBOX = sandbox.sandbox(WEB, NAME_PATH)
ENDPOINT = bridge.endpoint(NET, WEB, END)
WHOLE = (*SANDBOX, *ENDPOINT, *bridge.endpoint(INTERNAL, WEB, SECOND))


def find(objects: tuple[Object, ...], kind: type, **fields: object) -> int:
    """Return the position of the only object of a kind with such fields."""
    (position,) = [
        number
        for number, item in enumerate(objects)
        if type(item) is kind and all(getattr(item, name) == value for name, value in fields.items())
    ]
    return position


def kernel(objects: tuple[Object, ...]) -> list[Object]:
    """Return those of the kernel."""
    return [item for item in objects if item.backend == "kernel"]


def makers(item: Device) -> set[tuple[str, int, str]]:
    """Return the devices that exist because an object does: name, index, sandbox."""
    made = {(item.device, item.index, item.sandbox)}
    if isinstance(item, Veth):
        made.add((item.peer, item.peer_index, item.peer_sandbox))
    return made


def test_peer_is_born_before_anything_inside():
    """The veth, whose peer is born inside the sandbox, comes before all else of the endpoint, and after the sandbox."""
    assert isinstance(kernel(ENDPOINT)[0], Veth)
    assert isinstance(WHOLE[0], Sandbox)


def test_inside_is_up_before_the_hosts_end():
    """The sandbox's end is up before the host's end, which comes last: fewest carrier events and floods."""
    inside = find(ENDPOINT, LinkUp, device="eth0")
    outside = find(ENDPOINT, LinkUp, sandbox="")
    assert inside < outside
    assert kernel(ENDPOINT)[-1] is ENDPOINT[outside]


@pytest.mark.parametrize("objects", [NETWORK, ENDPOINT], ids=["network", "endpoint"])
def test_silent_before_up(objects):
    """IPv6 autoconfiguration is off at every device before it comes up: it floods the bridge otherwise."""
    ups = [item for item in objects if isinstance(item, LinkUp) and item.device != "lo"]
    assert ups
    for item in ups:
        assert find(objects, NoAutoconf, device=item.device, sandbox=item.sandbox) < objects.index(item)


def test_route_after_up():
    """The default route, which needs an interface that is up and the address, comes after both."""
    route = find(ENDPOINT, Route)
    assert find(ENDPOINT, LinkUp, device="eth0") < route
    assert find(ENDPOINT, Address, sandbox="web") < route


def test_default_route():
    """The container's default route goes by its interface to the network's gateway."""
    route = ENDPOINT[find(ENDPOINT, Route)]
    assert (route.device, route.sandbox) == ("eth0", "web")
    assert (route.destination, route.gateway) == (IPv4Network("0.0.0.0/0"), NET.gateway)


def test_internal_network_has_no_route():
    """An endpoint of an internal network has no default route."""
    objects = bridge.endpoint(INTERNAL, WEB, SECOND)
    assert not [item for item in objects if isinstance(item, Route)]
    assert [item for item in objects if isinstance(item, Address)]


APART = samples.network(
    "apart", "10.3.0.0/24", icc=False, subnet6=IPv6Network("fd00:3::/64"), gateway6=IPv6Address("fd00:3::1")
)
APART_END = samples.endpoint(
    APART, "10.3.0.2", address6=IPv6Interface("fd00:3::2/64"), gateway6=IPv6Address("fd00:3::1")
)


def routes(objects: tuple[Object, ...]) -> list[tuple[str, str]]:
    """Return the routes of an endpoint: where to, and by which gateway."""
    return [(str(item.destination), str(item.gateway or "")) for item in objects if isinstance(item, Route)]


def test_without_icc_the_way_to_neighbours_is_the_host():
    """Where containers may not talk, nothing but the gateway is on the link: it leads to the subnet and to the rest."""
    objects = bridge.endpoint(APART, samples.container("web", [APART_END]), APART_END)
    assert routes(objects) == [
        ("10.3.0.1/32", ""),
        ("10.3.0.0/24", "10.3.0.1"),
        ("fd00:3::1/128", ""),
        ("fd00:3::/64", "fd00:3::1"),
        ("0.0.0.0/0", "10.3.0.1"),
        ("::/0", "fd00:3::1"),
    ]
    of_subnets = [item for item in objects if isinstance(item, Address) and not item.interface.ip.is_link_local]
    assert [item.is_bare for item in of_subnets] == [True, True]


def test_internal_network_without_icc():
    """So it is on an internal network, which has no default route; and its neighbours are behind the host as well."""
    net = samples.network("apart", "10.3.0.0/24", icc=False, internal=True)
    end = samples.endpoint(net, "10.3.0.2")
    objects = bridge.endpoint(net, samples.container("web", [end]), end)
    assert routes(objects) == [("10.3.0.1/32", ""), ("10.3.0.0/24", "10.3.0.1")]


NUMBERED = {"eth0": 256, "eth1": 257, "eth12": 268, "eth999999": 1_000_255}
OTHERS = ["eth", "eth01", "eth٣", "7", "front0", "eth1000000", "eth999999999999"]


@pytest.mark.parametrize(("name", "index"), NUMBERED.items())
def test_index_of_a_numbered_interface(name, index):
    """The index of ethN inside follows from N."""
    assert sandbox.index_inside(WEB, samples.endpoint(NET, "10.1.0.2", interface=name)) == index


def test_indexes_of_other_interfaces():
    """Other names have indexes that neither ethN, nor one another, nor the host's end can have, as the kernel takes."""
    ends = [
        samples.endpoint(NET, "10.1.0.2", interface=name, index=0x5630_0000 + number)
        for number, name in enumerate(OTHERS)
    ]
    found = [sandbox.index_inside(WEB, end) for end in ends]
    assert len(set(found)) == len(found)
    assert [end.interface for end, index in zip(ends, found, strict=True) if not 1 << 20 <= index < 1 << 31] == []
    assert [end.interface for end, index in zip(ends, found, strict=True) if index == end.host_index] == []


def test_mode_host():
    """In mode host the sandbox is the host's own, pinned and named; nothing is made in it."""
    box = samples.container("web", mode="host")
    assert sandbox.sandbox(box, NAME_PATH) == (HostSandbox("web", box.sandbox, NAME_PATH),)


def test_veth():
    """The veth joins the bridge of the network and the sandbox of the container, with the endpoint's names and MAC."""
    veth = ENDPOINT[find(ENDPOINT, Veth)]
    assert (veth.device, veth.index, veth.sandbox) == (END.host_interface, END.host_index, "")
    assert (veth.master, veth.master_index) == (NET.device, NET.device_index)
    assert (veth.peer, veth.peer_mac, veth.peer_sandbox) == ("eth0", END.mac, "web")


def test_address():
    """The container's address has the subnet's prefix length."""
    assert ENDPOINT[find(ENDPOINT, Address)].interface == IPv4Interface("10.1.0.2/16")


def test_endpoints_do_not_meet():
    """Two endpoints of a container have different devices and indexes, neither of them the loopback's."""
    devices = [place for item in WHOLE if isinstance(item, Veth) for place in makers(item)]
    inside = [(name, index) for name, index, sandbox in devices if sandbox]
    assert len({name for name, _ in inside}) == len({index for _, index in inside}) == 2
    assert 1 not in {index for _, index in inside}


def test_all_of_an_endpoint_is_in_its_places():
    """Every object of an endpoint is on the host or in the sandbox of its container, on devices of its own."""
    veth = ENDPOINT[find(ENDPOINT, Veth)]
    places = makers(veth) | {("lo", 1, "web")}
    assert [str(item) for item in kernel(ENDPOINT) if (item.device, item.index, item.sandbox) not in places] == []


@pytest.mark.parametrize("objects", [NETWORK, WHOLE], ids=["network", "container"])
def test_owned_objects_have_an_owner(objects):
    """Whatever is not deleted by itself is on a device, or in a sandbox, that an earlier object makes and that is."""
    places: set[tuple[str, int, str]] = set()
    sandboxes: set[str] = set()
    for item in objects:
        if item.owned and not isinstance(item, Forwarding):
            assert isinstance(item, Device)
            is_loopback = (item.device, item.index) == ("lo", 1) and item.sandbox in sandboxes
            assert is_loopback or (item.device, item.index, item.sandbox) in places, str(item)
        elif isinstance(item, Device):
            places |= makers(item)
        elif isinstance(item, Sandbox):
            sandboxes.add(item.sandbox)


def test_unowned_objects():
    """A network is deleted by its bridge and elements, a container by its sandbox and veths; all else follows."""
    assert {type(item) for item in NETWORK if not item.owned} == {NatElement, Bridge}
    assert [type(item) for item in kernel(WHOLE) if not item.owned] == [Sandbox, Veth, Veth]


def test_network():
    """A network is a bridge with the gateway's address and the subnet's prefix length, up after that."""
    device = NETWORK[find(NETWORK, Bridge)]
    assert (device.device, device.index, device.sandbox) == (NET.device, NET.device_index, "")
    address = NETWORK[find(NETWORK, Address)]
    assert address.interface == IPv4Interface("10.1.0.1/16")
    assert find(NETWORK, Bridge) < find(NETWORK, Address) < find(NETWORK, LinkUp)
    assert check_mac(device.mac) == device.mac


def test_forwarding_is_part_of_a_network():
    """A network that containers leave through turns on forwarding."""
    assert any(isinstance(item, Forwarding) for item in NETWORK)


@pytest.mark.parametrize(("of_network", "of_container", "expected"), [(0, 0, 0), (1400, 0, 1400), (1400, 1300, 1300)])
def test_mtu(of_network, of_container, expected):
    """An endpoint has its container's MTU, else the network's, else the kernel's."""
    net = samples.network("blue", "10.1.0.0/16", mtu=of_network)
    end = samples.endpoint(net, "10.1.0.2")
    objects = bridge.endpoint(net, samples.container("web", [end], mtu=of_container), end)
    assert objects[find(objects, Veth)].mtu == expected
    made = bridge.network(net)
    assert made[find(made, Bridge)].mtu == of_network


def test_host_devices_carry_the_mark():
    """Every device made on the host has an alias that begins with dnet, by which nobody else's is ever removed."""
    for objects in (NETWORK, ENDPOINT):
        for item in objects:
            if isinstance(item, (Bridge, Veth)):
                mark = objects[find(objects, NoAutoconf, device=item.device, sandbox="")]
                assert mark.alias.split()[0] == "dnet"


def test_longest_names_fit():
    """With the longest names that are accepted, aliases and device names fit into what the kernel takes."""
    net = samples.network("n" * 128)
    end = samples.endpoint(net, "10.1.0.2", index=2**31 - 1)
    box = samples.container("c" * 128, [end])
    objects = (
        *bridge.network(net),
        *sandbox.sandbox(box, f"/run/netns/{box.name}"),
        *bridge.endpoint(net, box, end),
    )
    aliases = [item.alias for item in objects if isinstance(item, NoAutoconf) and item.alias]
    assert len(aliases) == 2
    assert max(len(alias.encode()) for alias in aliases) <= ALIAS_BYTES_MAX
    for item in objects:
        if isinstance(item, Device):
            assert len(item.device.encode()) <= DEVICE_NAME_BYTES_MAX
            assert not set(item.device) & set("/: ")


def test_sandbox():
    """A sandbox is pinned where the container says, and named for `ip netns`."""
    box = SANDBOX[find(SANDBOX, Sandbox)]
    assert (box.sandbox, box.path, box.name_path) == ("web", WEB.sandbox, NAME_PATH)


@pytest.mark.parametrize("objects", [WHOLE, sandbox.sandbox(samples.container("web"), NAME_PATH)], ids=["two", "none"])
def test_loopback(objects):
    """The loopback of a sandbox is raised once, whether it has endpoints or none."""
    assert isinstance(objects[0], Sandbox)
    assert objects[find(objects, LinkUp, device="lo")].place == "lo in sandbox web"


def test_same_wish_same_objects():
    """The tuples are functions of their arguments: what was created can be described again to delete it."""
    assert bridge.network(NET) == NETWORK
    assert bridge.endpoint(NET, WEB, END) == ENDPOINT
    assert sandbox.sandbox(WEB, NAME_PATH) == SANDBOX


def test_ports_of_a_linux_bridge():
    """The kernel's bridge has 1,023 ports (BR_MAX_PORTS 1024, numbered from 1)."""
    assert bridge.DRIVER.ports_max == (1 << 10) - 1
