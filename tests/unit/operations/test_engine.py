"""The engine on a host that is only remembered: mended rules, plans, and what a caller looks up."""

from __future__ import annotations

import os
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

import dnet
from dnet.drivers import desired
from dnet.errors import Conflict, NotFound
from dnet.model.container_spec import ContainerSpec
from dnet.model.network_spec import NetworkSpec
from dnet.objects.links import Veth
from tests.support.engine_on_fakes import EMPTY, specs

# Somebody else's nft flush ruleset


def test_flushed_ruleset_is_made_again(machine):
    """When somebody has flushed the ruleset, the next creation makes the table again with all that belongs in it."""
    machine.engine.create_network("blue", subnet="10.1.0.0/24")
    machine.engine.create("web", network="blue", publish=["8080:80"])
    before = dict(machine.nft.elements_by_key)
    machine.nft.flush_ruleset()
    machine.engine.create("db", network="blue", publish=["8081:80"])
    assert machine.nft.has_made_table
    assert before.items() <= machine.nft.elements_by_key.items()
    assert machine.nft.elements_by_key["publish4", "tcp . 8081"] == "10.1.0.3 . 80"
    assert any("inet dnet" in notice for notice in machine.notices)


def test_flushed_ruleset_is_no_obstacle_to_deleting(machine):
    """When somebody has flushed the ruleset, containers and networks can be removed all the same."""
    machine.engine.create("web", publish=["8080:80"])
    machine.nft.flush_ruleset()
    machine.engine.delete("web")
    machine.engine.delete_networks(["bridge"])
    assert machine.rows() == EMPTY[1]


# Planning


def test_plan_is_what_is_created(machine):
    """A plan lists, in order, exactly the kinds of objects that creating then makes."""
    plan = machine.engine.plan(specs(2))
    machine.engine.create_many(specs(2))
    made = [item for kind, item in machine.kernel.log if kind == "create"]
    assert [type(item) for item in plan if item.backend == "kernel"] == [type(item) for item in made]


def test_plan_touches_nothing(machine):
    """Planning leaves host and database as they were, indexes included."""
    machine.engine.create("first")
    before = machine.everything()
    first, second = machine.engine.plan(specs(2)), machine.engine.plan(specs(2))
    assert [type(item) for item in first] == [type(item) for item in second]
    assert {item.index for item in first if isinstance(item, Veth)} == {
        item.index for item in second if isinstance(item, Veth)
    }
    machine.engine.plan_network(NetworkSpec(name="blue"))
    assert machine.everything() == before


def test_plan_removes_no_file(machine):
    """Planning leaves the stale name of a sandbox that is gone where it is; creating takes it over."""
    path = Path(desired.NAME_DIRECTORY) / "web"
    path.symlink_to(machine.directory / "run" / "netns" / "0123456789ab")
    machine.engine.plan([ContainerSpec(name="web", network="none")])
    assert path.is_symlink()
    machine.engine.create("web", network="none")
    assert not path.is_symlink()


@pytest.mark.parametrize("kind", ["file", "link to something that exists", "link to nowhere"])
def test_foreign_name_is_left_alone(machine, kind):
    """A name in `ip netns` that is somebody else's is a Conflict, and stays."""
    path = Path(desired.NAME_DIRECTORY) / "web"
    if kind == "file":
        path.touch()
    else:
        path.symlink_to("/proc/self/ns/net" if "exists" in kind else "/nowhere/at/all")
    with pytest.raises(Conflict, match="web"):
        machine.engine.create("web", network="none")
    assert os.path.lexists(path)
    assert machine.rows() == EMPTY[1]


# Looking


def test_find_containers(machine):
    """A container is found by name, id and the beginning of its id."""
    web = machine.engine.create("web")
    assert (
        machine.engine.container("web")
        == machine.engine.container(web.id)
        == machine.engine.container(web.id[:8])
        == web
    )
    for reference in ("", "nope", web.id + "0"):
        with pytest.raises(NotFound):
            machine.engine.container(reference)


def test_members(machine):
    """The members of a network are the containers with an endpoint on it."""
    blue = machine.engine.create_network("blue")
    machine.engine.create("inside", network="blue")
    machine.engine.create("elsewhere")
    machine.engine.create("nowhere", network="none")
    assert [item.name for item in machine.engine.members(blue)] == ["inside"]


def test_closed_engine_leaves_everything(machine):
    """What was created stays when the engine is closed; another one finds it."""
    with machine.another_engine() as other:
        made = other.create("web")
    assert machine.engine.containers() == [made]


def test_public_open_reads_the_environment(tmp_path, monkeypatch):
    """`dnet.open()` takes its directories from the environment, and arguments before that."""
    monkeypatch.setenv("DNET_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("DNET_RUN_DIR", str(tmp_path / "run"))
    with dnet.open() as engine:
        assert engine.containers() == []
    assert (tmp_path / "state" / "state.db").exists()
    with dnet.open(str(tmp_path / "other"), str(tmp_path / "run")):
        assert (tmp_path / "other" / "state.db").exists()


def test_values_are_what_ipaddress_knows(machine):
    """Addresses of networks and containers are values of Python's ipaddress."""
    net = machine.engine.create_network("blue", subnet=IPv4Network("10.1.0.0/24"), gateway=IPv4Address("10.1.0.254"))
    assert (net.subnet, net.gateway) == (IPv4Network("10.1.0.0/24"), IPv4Address("10.1.0.254"))
    end = machine.engine.create("web", network="blue", ip=IPv4Address("10.1.0.1")).endpoints[0]
    assert end.address.ip == IPv4Address("10.1.0.1")
    assert end.gateway == net.gateway


# Keywords


def test_old_keywords(machine):
    """Keywords are taken by their old names, too, with a warning that names the new one and the caller's line."""
    with pytest.warns(DeprecationWarning, match="delete_many: the keyword is_missing_ok is missing_ok now") as caught:
        assert machine.engine.delete_many(["nobody"], is_missing_ok=True) == []
    assert [Path(warning.filename) for warning in caught] == [Path(__file__)]
    with pytest.warns(DeprecationWarning, match="is_dry_run is dry_run now"):
        assert machine.engine.reconcile(is_dry_run=True) == []


def test_new_and_unknown_keywords(machine, recwarn):
    """New names pass without a warning; names that never were are refused as ever."""
    assert machine.engine.delete_many(["nobody"], missing_ok=True) == []
    assert not recwarn.list
    with pytest.raises(TypeError, match="is_lost"):
        machine.engine.delete_many(["nobody"], is_lost=True)
