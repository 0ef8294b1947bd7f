"""Published ports on a host that is only remembered: which are taken, given out, added and freed."""

from __future__ import annotations

import errno
from ipaddress import IPv6Network

import pytest

from dnet.errors import Conflict, Exhausted, InvalidRequest, KernelRefused
from dnet.model.container_spec import ContainerSpec
from tests.support.engine_on_fakes import specs
from tests.support.fakes import refusal


def test_published_port_is_an_element(blue):
    """A published port is an element that leads to the container's address, and part of the container."""
    made = blue.engine.create("web", network="blue", publish=["8080:80", "127.0.0.1:5300:53/udp"])
    assert blue.nft.elements_by_key["publish4", "tcp . 8080"] == "10.1.0.2 . 80"
    assert blue.nft.elements_by_key["publish4_on", "127.0.0.1 . udp . 5300"] == "10.1.0.2 . 53"
    assert {str(item) for item in made.ports} == {"127.0.0.1:5300->53/udp", "0.0.0.0:8080->80/tcp"}


def test_answer_is_what_is_remembered(blue):
    """What creating answers is what asking later answers, ports in the same order."""
    made = blue.engine.create_many(
        [
            ContainerSpec(
                network="blue", publish=["90:90/udp", "8080:80", "81", "127.0.0.1:80:80"], expose=["7", "5/udp"]
            )
        ]
    )
    assert blue.engine.containers() == list(made.containers)


@pytest.mark.parametrize("second", ["8080:80", "127.0.0.1:8080:81", "8080:9000/tcp"])
def test_taken_port(blue, second):
    """A port that another container has, on that address or on all, is a Conflict that names it."""
    blue.engine.create("web", network="blue", publish=["8080:80"])
    before = blue.everything()
    with pytest.raises(Conflict, match=r"8080.*web"):
        blue.engine.create_many([*specs(2, network="blue"), ContainerSpec(network="blue", publish=[second])])
    assert blue.everything() == before


def test_port_given_twice(blue):
    """Two containers of a bulk that want one port are a Conflict before anything is touched."""
    before = blue.everything()
    with pytest.raises(Conflict, match="8080"):
        blue.engine.create_many(specs(2, network="blue", publish=["8080:80"]))
    assert blue.everything() == before


def test_automatic_ports_go_on(blue):
    """Automatic ports come from the host's range, each behind the last one given, and wrap around at its end."""
    made = blue.engine.create_many(specs(30, network="blue", publish=["80"])).containers
    assert [item.ports[0].host_port for item in made] == list(range(32768, 32798))
    blue.engine.delete_many(["c-1", "c-2"])
    more = blue.engine.create_many([ContainerSpec(network="blue", publish=["80"]) for _ in range(4)]).containers
    assert [item.ports[0].host_port for item in more] == [32798, 32799, 32768, 32769]


def test_automatic_ports_run_out(blue):
    """More automatic ports than the host's range has are refused, and nothing has changed."""
    before = blue.everything()
    with pytest.raises(Exhausted, match="ip_local_port_range"):
        blue.engine.create_many(specs(33, network="blue", publish=["80"]))
    assert blue.everything() == before


def test_range_is_shared_out(blue):
    """The containers of a bulk share out a range of host ports; one container too many is refused."""
    made = blue.engine.create_many(specs(5, network="blue", publish=["20000-20004:80"])).containers
    assert [item.ports[0].host_port for item in made] == [20000, 20001, 20002, 20003, 20004]
    with pytest.raises(Exhausted, match="20000-20004"):
        blue.engine.create("more", network="blue", publish=["20000-20004:80"])


def test_publish_all(blue):
    """-P publishes exactly what is exposed and not published already, on automatic ports."""
    made = blue.engine.create(
        "web", network="blue", publish=["8080:80"], expose=["80", "53/udp", "443"], publish_all=True
    )
    ports = {(item.container_port, item.protocol): item.host_port for item in made.ports}
    assert ports.keys() == {(53, "udp"), (80, "tcp"), (443, "tcp")}
    assert ports[80, "tcp"] == 8080


def test_publishing_later(blue):
    """Ports can be published and taken back later; then host and container are as before."""
    blue.engine.create("web", network="blue", publish=["8080:80"])
    before = blue.everything()
    updated = blue.engine.publish("web", ["9090:90"])
    assert blue.nft.elements_by_key["publish4", "tcp . 9090"] == "10.1.0.2 . 90"
    assert [item.host_port for item in blue.engine.container("web").ports] == [8080, 9090]
    (new,) = [item for item in updated.ports if item.host_port == 9090]
    blue.engine.unpublish("web", [new])
    assert blue.everything()[0] == before[0]
    assert [item.host_port for item in blue.engine.container("web").ports] == [8080]


def test_publishing_answers_what_is_remembered(blue):
    """What publishing answers is the container as asking later answers it."""
    blue.engine.create("web", network="blue", publish=["8080:80"])
    assert blue.engine.publish("web", ["7070:70"]) == blue.engine.container("web")


def test_failed_publishing_leaves_nothing(blue):
    """When nftables refuses a port, neither table nor database has it."""
    blue.engine.create("web", network="blue")
    before = blue.everything()
    problem = refusal("set up nftables", errno.ENOBUFS)
    blue.nft.refuses = lambda text: problem if text.startswith("add") else None
    with pytest.raises(KernelRefused):
        blue.engine.publish("web", ["9090:90"])
    assert blue.everything() == before


def test_failed_unpublishing_leaves_the_port(blue):
    """When nftables refuses to take a port back, the database has it still, as the table does."""
    made = blue.engine.create("web", network="blue", publish=["8080:80"])
    before = blue.everything()
    blue.nft.refuses = lambda text: refusal("remove", errno.EPERM) if text.startswith("delete") else None
    with pytest.raises(KernelRefused):
        blue.engine.unpublish("web", made.ports)
    assert blue.everything() == before


def test_publishing_without_a_network(machine):
    """A container of mode none cannot publish a port later, and says so."""
    machine.engine.create("web", network="none")
    with pytest.raises(InvalidRequest, match="web"):
        machine.engine.publish("web", ["80"])


def test_publishing_in_mode_none_is_discarded(machine):
    """As with Docker, published ports of a container without a network are discarded, and that is told."""
    made = machine.engine.create("web", network="none", publish=["8080:80"])
    assert made.ports == ()
    assert any("discarded" in notice for notice in machine.notices)


def test_deleting_frees_the_ports(blue):
    """The ports of a container that is removed can be had again, and their elements are gone."""
    blue.engine.create("web", network="blue", publish=["8080:80"])
    blue.engine.delete("web")
    assert ("publish4", "tcp . 8080") not in blue.nft.elements_by_key
    assert blue.engine.create("next", network="blue", publish=["8080:80"]).ports[0].host_port == 8080


def test_ipv6(machine):
    """A network with IPv6 has a unique local /64, and its containers addresses of both families and both bindings."""
    net = machine.engine.create_network("six", subnet="10.1.0.0/24", ipv6=True)
    made = machine.engine.create("web", network="six", publish=["8080:80"])
    end = made.endpoints[0]
    assert net.subnet6.subnet_of(IPv6Network("fd00::/8"))
    assert net.subnet6.prefixlen == 64
    assert (end.address6.ip, end.gateway6) == (net.subnet6[2], net.subnet6[1])
    assert machine.nft.elements_by_key["publish6", "tcp . 8080"] == f"{end.address6.ip} . 80"
    assert machine.engine.container("web") == made
