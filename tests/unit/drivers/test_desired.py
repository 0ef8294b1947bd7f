"""What the store implies: the objects of whole networks and containers."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, IPv6Interface, IPv6Network

import pytest

from dnet.drivers import desired
from dnet.model.attachment import Attachment, KernelRoute
from dnet.model.container import Link
from dnet.model.published_port import PortMapping
from dnet.objects.host import Directory, File, Flows, NatElement, NftTable, Symlink
from dnet.objects.links import Veth
from dnet.objects.sandbox import HostSandbox, Sandbox
from tests.support import samples

BLUE = samples.network("blue", "10.1.0.0/16")
RED = samples.network("red", "10.2.0.0/16")
PORT = PortMapping(IPv4Address("0.0.0.0"), 8080, 80, "tcp")
WEB = samples.container(
    "web",
    [samples.endpoint(BLUE, "10.1.0.2"), samples.endpoint(RED, "10.2.0.2", interface="eth1", index=77)],
    ports=(PORT,),
)
NETWORKS = {net.id: net for net in (BLUE, RED)}
RESOLVER = desired.HostFiles("nameserver 192.0.2.53\n", "")


def test_first_network_brings_the_table():
    """The table is part of the first network, before its elements, and of no other."""
    first, other = desired.network(BLUE, is_first=True), desired.network(BLUE, is_first=False)
    assert isinstance(first[0], NftTable)
    assert first[1:] == other
    assert not [item for item in other if isinstance(item, NftTable)]


def test_container_is_one_group():
    """A container's group has one sandbox, with a name for `ip netns`, and a veth for each endpoint on its network."""
    group = desired.container(WEB, NETWORKS, RESOLVER)
    (sandbox,) = [item for item in group if isinstance(item, Sandbox)]
    assert (sandbox.path, sandbox.name_path) == (WEB.sandbox, "/run/netns/web")
    assert [item.master for item in group if isinstance(item, Veth)] == [BLUE.device, RED.device]


@pytest.mark.parametrize(("first", "address"), [("eth0", "10.1.0.2"), ("eth1", "10.2.0.2")])
def test_ports_lead_to_the_default_route(first, address):
    """Published ports are those of the endpoint that has the gateway, once, and before all that is the kernel's.

    Flows are those of all endpoints.
    """
    ends = [end if end.interface == first else replace(end, gateway=None) for end in WEB.endpoints]
    group = desired.container(replace(WEB, endpoints=tuple(ends)), NETWORKS, RESOLVER)
    (element,) = [item for item in group if isinstance(item, NatElement)]
    assert element.value == f"{address} . 80"
    (flows,) = [item for item in group if isinstance(item, Flows)]
    assert set(flows.addresses) == {IPv4Address("10.1.0.2"), IPv4Address("10.2.0.2")}
    backends = [item.backend for item in group]
    assert "kernel" not in backends[: len(backends) - backends[::-1].index("nft")]


def test_container_without_endpoint():
    """A container of mode none has nothing in the table."""
    group = desired.container(samples.container("alone"), {}, RESOLVER)
    assert {item.backend for item in group} == {"files", "kernel"}


def test_files_of_a_container():
    """A container has a directory with its three files, and a link by which `ip netns exec` finds them."""
    group = desired.container(WEB, NETWORKS, RESOLVER)
    directory, *files, link = [item for item in group if item.backend == "files"]
    assert directory == Directory(WEB.files)
    assert [item.path for item in files] == [f"{WEB.files}/{name}" for name in ("hostname", "hosts", "resolv.conf")]
    assert [type(item) for item in files] == [File] * 3
    assert link == Symlink("/etc/netns/web", WEB.files)
    assert {"10.1.0.2\tweb", "10.2.0.2\tweb"} <= set(files[1].text.splitlines())
    assert "nameserver 192.0.2.53" in files[2].text.splitlines()


def test_files_come_first():
    """The files of a container are there before anything that could use them."""
    backends = [item.backend for item in desired.container(WEB, NETWORKS, RESOLVER)]
    assert backends == sorted(backends, key=lambda backend: backend != "files")


def test_rules_are_all_that_belongs_in_the_table():
    """All rules are the table and the elements of every network and container, each once, and nothing else."""
    rules = desired.rules([BLUE, RED], [WEB, samples.container("alone")])
    groups = [
        *(desired.network(net, is_first=False) for net in (BLUE, RED)),
        desired.container(WEB, NETWORKS, RESOLVER),
    ]
    expected = [item for group in groups for item in group if item.backend == "nft"]
    assert isinstance(rules[0], NftTable)
    assert list(rules[1:]) == expected
    assert len(set(rules)) == len(rules)


def test_sharer_is_but_links():
    """A container that shares another's sandbox has its name in the two places where one looks, and nothing else."""
    box = samples.container("side", mode=f"container:{WEB.id}", shares=WEB.id, sandbox=WEB.sandbox, files=WEB.files)
    assert set(desired.container(box, NETWORKS, RESOLVER)) == {
        Symlink("/etc/netns/side", WEB.files),
        Symlink("/run/netns/side", WEB.sandbox),
    }


def test_mode_host():
    """A container of mode host has the host's hosts, with what is added to it, and nothing in the table."""
    settings = replace(WEB.settings, extra_hosts=(("db", "10.0.0.5"), ("self", "host-gateway")))
    box = samples.container("web", mode="host", settings=settings)
    group = desired.container(
        box, {}, desired.HostFiles("nameserver 127.0.0.53\n", "", "127.0.0.1\tlocalhost\n192.0.2.9 x")
    )
    assert [type(item) for item in group if item.backend == "kernel"] == [HostSandbox]
    assert not [item for item in group if item.backend == "nft"]
    _, hosts, resolv_conf = [item for item in group if isinstance(item, File)]
    assert hosts.text == "127.0.0.1\tlocalhost\n192.0.2.9 x\n10.0.0.5\tdb\n127.0.0.1\tself\n"
    assert "nameserver 127.0.0.53" in resolv_conf.text.splitlines()


# Links


APART = samples.network("apart", "10.3.0.0/24", icc=False)
LINK = Link("front", "db", "database")
DB = samples.container(
    "db", [samples.endpoint(APART, "10.3.0.9")], exposed=((53, "udp"), (80, "tcp")), linked_by=(LINK,)
)
FRONT = samples.container(
    "front",
    [samples.endpoint(RED, "10.2.0.7"), samples.endpoint(APART, "10.3.0.7", interface="eth1", gateway=None)],
    links=(LINK,),
)
ALL = {net.id: net for net in (BLUE, RED, APART)}
PEERS = {"db": DB, "front": FRONT}
OPENED = {NatElement("links4", f"10.3.0.7 . 10.3.0.9 . {pair}") for pair in ("udp . 53", "tcp . 80")}


def links_of(group) -> set[NatElement]:
    """Return the elements of links."""
    return {item for item in group if isinstance(item, NatElement) and item.set_name.startswith("links")}


def test_link_is_of_both_ends():
    """What a link opens is among the objects of the parent and of the child: it is there if both are."""
    for box, other in ((FRONT, "db"), (DB, "front")):
        assert links_of(desired.container(box, ALL, RESOLVER, PEERS)) == OPENED
        assert links_of(desired.container(box, ALL, RESOLVER, {})) == set()
        assert links_of(desired.container(box, ALL, RESOLVER, {other: samples.container(other)})) == set()


def test_link_opens_nothing_where_all_may_talk():
    """Where containers may talk a link is but a line in the parent's hosts."""
    networks = ALL | {APART.id: replace(APART, icc=True)}
    assert links_of(desired.container(FRONT, networks, RESOLVER, PEERS)) == set()


def test_hosts_of_a_parent():
    """The parent's hosts has `ADDRESS ALIAS HOSTNAME NAME` at the end, each name once; the child's has no such line."""
    renamed = replace(DB, name="store", settings=replace(DB.settings, hostname="db7"))
    for child, line in ((DB, "10.3.0.9\tdatabase db"), (renamed, "10.3.0.9\tdatabase db7 store")):
        parent = replace(FRONT, links=(Link("front", child.name, "database"),))
        hosts = desired.hosts(parent, ALL, RESOLVER, {child.name: child})
        assert hosts.splitlines()[-1] == line
    assert "front" not in desired.hosts(DB, ALL, RESOLVER, PEERS)


def test_rules_of_links_are_in_the_table():
    """All that belongs into the table includes what links open, once."""
    rules = desired.rules(ALL.values(), [FRONT, DB])
    assert links_of(rules) == OPENED
    assert len(set(rules)) == len(rules)


GREEN = samples.network("green", "10.3.0.0/16", icc=False)
FIRST, SECOND = WEB.endpoints
THIRD = samples.endpoint(GREEN, "10.3.0.2", interface="eth2", index=78)
SIX = samples.network("six", "10.4.0.0/16", subnet6=IPv6Network("fd00:4::/64"), gateway6=IPv6Address("fd00:4::1"))
SIXTH = samples.endpoint(SIX, "10.4.0.2", interface="eth3", index=79, address6=IPv6Interface("fd00:4::2/64"))
LEASED = Attachment(
    id="wire",
    kind="macvlan",
    device="eth9",
    device_index=9,
    interface="lan0",
    host_index=80,
    host_interface="",
    addresses=(),
    gateways=(),
    mtu=0,
    mac="02:42:00:00:00:09",
    lease={
        "address": "10.9.0.7/24",
        "dns": ["10.9.0.1"],
        "search": [],
        "domain": "",
        "classless_routes": [],
        "routers": [],
    },
)
ROUTE = KernelRoute(version=4, device="eth9", index=9, text="default", message="00")
STATES = {
    "one more": replace(WEB, endpoints=(FIRST, SECOND, THIRD)),
    "one more in front": replace(WEB, endpoints=(THIRD, FIRST, SECOND)),
    "the first one less": replace(WEB, endpoints=(SECOND,)),
    "none": replace(WEB, endpoints=()),
    "another order": replace(WEB, endpoints=(SECOND, FIRST)),
    "another gateway": replace(WEB, endpoints=(replace(FIRST, gateway=None), SECOND)),
    "another name": replace(WEB, name="front"),
    "another MTU": replace(WEB, mtu=1400),
    "displaced": replace(WEB, displaced=(ROUTE,)),
    "another search domain": replace(WEB, settings=replace(WEB.settings, dns_search=("b.example",))),
    "one more of both families": replace(WEB, endpoints=(FIRST, SECOND, SIXTH)),
    "a lease": replace(WEB, attachments=(LEASED,)),
    "the same": WEB,
}
SAME_FILES = {"one more", "one more in front", "the first one less", "another order", "another gateway", "the same"}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("is_back", [False, True])
def test_unchanged_endpoints(state, is_back):
    """Whether the endpoints that are the same in both states are left out, nothing else is in the one or the other."""
    networks = NETWORKS | {GREEN.id: GREEN, SIX.id: SIX}
    pair = (STATES[state], WEB) if is_back else (WEB, STATES[state])
    same = desired.unchanged(*pair)
    whole = [set(desired.container(item, networks, RESOLVER)) for item in pair]
    parts = [set(desired.container(item, networks, RESOLVER, without=same)) for item in pair]
    assert [one - other for one, other in (whole, whole[::-1])] == [one - other for one, other in (parts, parts[::-1])]
    assert same.has_files == (state in SAME_FILES | {"none"})
    kept = {"one more", "one more in front", "another gateway", "another search domain", "a lease", "the same"}
    assert bool(same.endpoints) == (state in kept | {"one more of both families"})
