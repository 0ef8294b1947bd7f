"""What the store implies: the objects of whole networks and containers."""

from __future__ import annotations

from ipaddress import IPv4Address

from dnet import wanted
from dnet.objects import Directory, File, Flows, Link, NatElement, NftTable, Sandbox, Veth
from dnet.ports import PortMapping
from tests import samples

BLUE = samples.network("blue", "10.1.0.0/16")
RED = samples.network("red", "10.2.0.0/16")
PORT = PortMapping(IPv4Address("0.0.0.0"), 8080, 80, "tcp")
WEB = samples.container(
    "web",
    [samples.endpoint(BLUE, "10.1.0.2"), samples.endpoint(RED, "10.2.0.2", interface="eth1", index=77)],
    ports=(PORT,),
)
NETWORKS = {net.id: net for net in (BLUE, RED)}
RESOLVER = wanted.HostResolver("nameserver 192.0.2.53\n", "")


def test_first_network_brings_the_table():
    """The table is part of the first network, before its elements, and of no other."""
    first, other = wanted.network(BLUE, is_first=True), wanted.network(BLUE, is_first=False)
    assert isinstance(first[0], NftTable)
    assert first[1:] == other
    assert not [item for item in other if isinstance(item, NftTable)]


def test_container_is_one_group():
    """A container's group has one sandbox, with a name for `ip netns`, and a veth for each endpoint on its network."""
    group = wanted.container(WEB, NETWORKS, RESOLVER)
    (sandbox,) = [item for item in group if isinstance(item, Sandbox)]
    assert (sandbox.path, sandbox.name_path) == (WEB.sandbox, "/run/netns/web")
    assert [item.master for item in group if isinstance(item, Veth)] == [BLUE.device, RED.device]


def test_ports_lead_to_the_first_endpoint():
    """Published ports and flows are those of the first endpoint, once, and before all that is the kernel's."""
    group = wanted.container(WEB, NETWORKS, RESOLVER)
    (element,) = [item for item in group if isinstance(item, NatElement)]
    assert element.value == "10.1.0.2 . 80"
    assert [item.addresses for item in group if isinstance(item, Flows)] == [(IPv4Address("10.1.0.2"),)]
    backends = [item.backend for item in group]
    assert "kernel" not in backends[: len(backends) - backends[::-1].index("nft")]


def test_container_without_endpoint():
    """A container of mode none has nothing in the table."""
    group = wanted.container(samples.container("alone"), {}, RESOLVER)
    assert {item.backend for item in group} == {"files", "kernel"}


def test_files_of_a_container():
    """A container has a directory with its three files, and a link by which `ip netns exec` finds them."""
    group = wanted.container(WEB, NETWORKS, RESOLVER)
    directory, *files, link = [item for item in group if item.backend == "files"]
    assert directory == Directory(WEB.files)
    assert [item.path for item in files] == [f"{WEB.files}/{name}" for name in ("hostname", "hosts", "resolv.conf")]
    assert [type(item) for item in files] == [File] * 3
    assert link == Link("/etc/netns/web", WEB.files)
    assert {"10.1.0.2\tweb", "10.2.0.2\tweb"} <= set(files[1].text.splitlines())
    assert "nameserver 192.0.2.53" in files[2].text.splitlines()


def test_files_come_first():
    """The files of a container are there before anything that could use them."""
    backends = [item.backend for item in wanted.container(WEB, NETWORKS, RESOLVER)]
    assert backends == sorted(backends, key=lambda backend: backend != "files")


def test_rules_are_all_that_belongs_in_the_table():
    """All rules are the table and the elements of every network and container, each once, and nothing else."""
    rules = wanted.rules([BLUE, RED], [WEB, samples.container("alone")])
    groups = [*(wanted.network(net, is_first=False) for net in (BLUE, RED)), wanted.container(WEB, NETWORKS, RESOLVER)]
    expected = [item for group in groups for item in group if item.backend == "nft"]
    assert isinstance(rules[0], NftTable)
    assert list(rules[1:]) == expected
    assert len(set(rules)) == len(rules)
