"""Networks on a host that is only remembered: what is chosen, made, mended and removed."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from dnet.drivers import host_files
from dnet.engine import Engine
from dnet.errors import Conflict, InvalidRequest, KernelRefused, NotFound, Unsupported
from dnet.model.network_spec import NetworkSpec
from tests.support.engine_on_fakes import EMPTY
from tests.support.fakes import snapshot


def test_first_container_makes_the_network(machine):
    """The network `bridge`, on the device dnet0, makes itself on first use, with Docker's first subnet."""
    web = machine.engine.create("web")
    net = machine.engine.network("bridge")
    assert (net.device, str(net.subnet), str(net.gateway)) == ("dnet0", "172.17.0.0/16", "172.17.0.1")
    assert machine.kernel.device_index("dnet0") == net.device_index
    assert str(web.endpoints[0].address) == "172.17.0.2/16"
    assert machine.phases() == {"ready"}


def test_automatic_subnet_avoids_the_host(machine):
    """An automatic subnet overlaps neither a route nor a nameserver of the host, nor another network."""
    machine.kernel.routes = [IPv4Network("172.17.4.0/24")]
    Path(host_files.RESOLV_CONF).write_text("search x\nnameserver 172.18.0.53\nnameserver fd00::1\nnameserver\n")
    subnets = [str(machine.engine.create_network(name).subnet) for name in ("one", "two")]
    assert subnets == ["172.19.0.0/16", "172.20.0.0/16"]


def test_given_subnet_must_not_overlap(machine):
    """A given subnet that overlaps a route or another network is a Conflict that names it, and leaves nothing."""
    machine.kernel.routes = [IPv4Network("10.9.0.0/16")]
    machine.engine.create_network("blue", subnet="10.1.0.0/16")
    before = machine.everything()
    with pytest.raises(Conflict, match=r"10\.9\.0\.0/16"):
        machine.engine.create_network("red", subnet="10.9.5.0/24")
    with pytest.raises(Conflict, match="network blue"):
        machine.engine.create_network("red", subnet="10.0.0.0/8")
    with pytest.raises(Conflict, match="network blue"):
        machine.engine.create_network("red", subnet="10.1.0.0/16")
    assert machine.everything() == before


def test_network_name_taken(machine):
    """A second network of a name is a Conflict."""
    machine.engine.create_network("blue")
    before = machine.everything()
    with pytest.raises(Conflict, match="blue"):
        machine.engine.create_network("blue")
    assert machine.everything() == before


def test_unknown_driver(machine):
    """A driver that does not exist is Unsupported, and its name is told."""
    with pytest.raises(Unsupported, match="macvlan"):
        machine.engine.create_network("blue", driver="macvlan")
    assert machine.rows() == EMPTY[1]


def test_foreign_device_is_left_alone(machine):
    """When somebody else has a device of the name that dnet needs, that is a Conflict, and the device stays."""
    machine.kernel.device_index = lambda name: 5 if name == "dnet0" else None  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="dnet0"):
        machine.engine.create("web")
    assert machine.everything() == EMPTY


def test_failed_network_leaves_nothing(machine):
    """Whichever object of a first network is refused, neither kernel, nftables nor database keep anything of it."""
    count = len([item for item in machine.engine.plan_network(NetworkSpec(name="blue")) if item.backend == "kernel"])
    for index in range(count):
        countdown = iter(range(count))
        machine.kernel.refuses = lambda _, at=index, numbers=countdown: next(numbers) == at
        with pytest.raises(KernelRefused):
            machine.engine.create_network("blue")
        assert machine.everything() == EMPTY, f"object {index}"


def test_network_in_use_stays(machine):
    """A network with containers is not removed, and the error names them; nor is any other of the same call."""
    machine.engine.create_network("free")
    machine.engine.create_network("used")
    machine.engine.create("web", network="used")
    before = machine.everything()
    with pytest.raises(Conflict, match="web"):
        machine.engine.delete_networks(["free", "used"])
    assert machine.everything() == before


def test_last_network_takes_the_table(machine):
    """The table goes with the last network, not before."""
    machine.engine.create_network("one")
    machine.engine.create_network("two")
    machine.engine.delete_networks(["one"])
    assert machine.nft.has_made_table
    machine.engine.delete_networks(["two"])
    assert not machine.nft.has_made_table
    assert machine.nft.elements_by_key == {}
    assert machine.rows() == EMPTY[1]


def test_table_outlives_one_of_two_engines(machine, tmp_path):
    """The table stays with the last network of one engine when another one of the same host has networks in it."""
    machine.engine.create_network("one", subnet="10.1.0.0/24")
    state, run = str(tmp_path / "state2"), str(tmp_path / "run2")
    with Engine(state, run, machine.notices.append, machine.kernel, machine.nft) as other:  # type: ignore[arg-type]
        other.create_network("two", subnet="10.2.0.0/24")
        before = snapshot(machine.kernel, machine.nft)
        machine.engine.delete_networks(["one"])
        assert machine.nft.has_made_table
        assert ("bridges", f'"{other.network("two").device}"') in machine.nft.elements_by_key
        assert len(machine.nft.elements_by_key) < len(before[1])
        other.delete_networks(["two"])
    assert not machine.nft.has_made_table


def test_prune_removes_what_is_unused(machine):
    """Pruning removes the networks without containers, and only them."""
    for name in ("a", "b", "c"):
        machine.engine.create_network(name)
    machine.engine.create("web", network="b")
    assert [net.name for net in machine.engine.prune_networks()] == ["a", "c"]
    assert [net.name for net in machine.engine.networks()] == ["b"]


@pytest.mark.parametrize("reference", ["nope", "", "g" * 64])
def test_unknown_network(machine, reference):
    """A reference to no network is NotFound, an empty one too, even when there is only one network to remove."""
    machine.engine.create_network("blue")
    before = machine.everything()
    with pytest.raises(NotFound):
        machine.engine.delete_networks([reference])
    with pytest.raises(NotFound):
        machine.engine.network(reference)
    assert machine.everything() == before


def test_missing_bridge_is_made_again(machine):
    """After a reboot, when the bridge is gone, the next container on the network makes it again, with its rules."""
    machine.engine.create_network("blue")
    whole = snapshot(machine.kernel, machine.nft)
    machine.kernel.objects.clear()
    machine.nft.flush_ruleset()
    machine.engine.create("web", network="blue")
    machine.engine.delete("web")
    assert snapshot(machine.kernel, machine.nft) == whole


def test_failed_mending_is_tried_again(machine):
    """A bridge that could be made again only in part does not pass for the network: the next container mends it."""
    machine.engine.create_network("blue")
    whole = snapshot(machine.kernel, machine.nft)
    count = len(machine.kernel.objects)
    for index in range(count):
        machine.kernel.objects.clear()
        countdown = iter(range(2 * count))
        machine.kernel.refuses = lambda _, at=index, numbers=countdown: next(numbers) == at
        with pytest.raises(KernelRefused):
            machine.engine.create("web", network="blue")
        machine.kernel.refuses = lambda _: False
        machine.engine.create("web", network="blue")
        machine.engine.delete("web")
        assert snapshot(machine.kernel, machine.nft) == whole, f"object {index}"


@pytest.mark.parametrize("time_s", [-1.0, 1e10, float("inf"), float("nan")])
def test_no_time_to_confirm(blue, time_s):
    """A time that nobody can wait for is refused before anything is touched."""
    with pytest.raises(InvalidRequest, match="no time to wait for"):
        blue.engine.adopt("blue", "eth1", confirm_within_s=time_s, confirm=lambda _: True)
