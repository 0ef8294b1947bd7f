"""What dnet remembers. The oracle is SQL on the file itself, and other processes that use it at the same time."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from dnet.errors import Conflict, DnetError, NotFound
from dnet.model.container import Link
from dnet.model.network import veth_name
from dnet.state.schema import INDEX_BITS
from dnet.state.store import Store
from tests.support import samples
from tests.support.stores import BLUE, RED, RUN, change, fail_after_inserting, insert, rows, web

# What comes back


def test_values_come_back_as_they_were(store, directory):
    """Networks and containers are read as they were written, by another store too."""
    net = samples.network(
        "odd",
        "10.3.0.0/24",
        ip_range=IPv4Network("10.3.0.128/25"),
        aux_addresses={"router": IPv4Address("10.3.0.9")},
        masquerade=False,
        mtu=1400,
        labels={"a": "b", "ü": '"quoted"; DROP TABLE network'},
        options={"com.docker.network.driver.mtu": "1400"},
    )
    ends = [
        samples.endpoint(net, "10.3.0.2", index=7, aliases=("front", "w.w"), gateway_priority=-1, gateway=None),
        samples.endpoint(BLUE, "10.1.0.3", interface="eth1", index=8),
    ]
    link = Link("web", "db", "database")
    container = samples.container("web", ends, run=RUN, labels={"tier": "front"}, mtu=1300, links=(link,))
    db = samples.container("db", [], run=RUN, linked_by=(link,))
    place = {"sandbox": container.sandbox, "files": container.files}
    sharer = samples.container("side", [], run=RUN, mode=f"container:{container.id}", shares=container.id, **place)
    insert(store, BLUE, net, container, db, sharer)
    assert store.networks.find("odd") == [net]
    assert store.containers.all() == [container, db, sharer]
    with contextlib.closing(Store(str(directory), RUN)) as other:
        assert other.networks.all() == [BLUE, net]
        assert other.containers.all() == [container, db, sharer]


def test_internal_network_has_no_gateway_for_its_members(store):
    """An endpoint of an internal network is read without a gateway."""
    net = samples.network("inside", internal=True)
    container = samples.container("web", [samples.endpoint(net, "10.1.0.2")], run=RUN)
    insert(store, net, container)
    assert store.containers.all() == [container]
    assert store.containers.all()[0].endpoints[0].gateway is None


def test_containers_come_in_the_order_of_creation(store):
    """Containers are listed oldest first, networks by name."""
    insert(store, RED, BLUE)
    for number, name in enumerate(["zebra", "ape", "lion"]):
        insert(store, web(f"10.1.0.{9 - number}", name, index=number))
    assert [item.name for item in store.containers.all()] == ["zebra", "ape", "lion"]
    assert [item.name for item in store.networks.all()] == ["blue", "red"]
    assert [item.name for item in store.containers.on_network(BLUE.id)] == ["ape", "lion", "zebra"]
    assert store.containers.on_network(RED.id) == []


# Phases


def test_creating_is_invisible_but_holds_its_names(store):
    """What is being created is not listed, but its name and address are taken already."""
    insert(store, BLUE)
    insert(store, web(), is_ready=False)
    assert store.containers.all() == store.containers.find("web") == []
    assert store.containers.held_names(["web", "db"]) == {"web": web().id}
    assert int(IPv4Address("10.1.0.2")) in store.networks.taken_addresses(BLUE.id)
    insert(store, RED, is_ready=False)
    assert store.networks.all() == [BLUE]
    assert store.networks.find("red") == []
    assert dict(store.networks.subnets()) == {"blue": BLUE.subnet, "red": RED.subnet}
    assert (store.networks.phase("red"), store.networks.phase("green")) == ("creating", "")


def test_ready_is_visible(store, directory):
    """What is ready is listed and has no owner any more."""
    insert(store, BLUE, web(), is_ready=False)
    with store.write():
        store.set_phase("network", [BLUE.id], "ready")
        store.set_phase("container", [web().id], "ready")
    assert [item.name for item in store.containers.all()] == ["web"]
    assert rows(directory, "SELECT phase, owner FROM container") == [("ready", "")]


def test_deleting_is_invisible_but_holds_its_names(store, directory):
    """What is being deleted is listed no more, but its name is taken until it is gone."""
    insert(store, BLUE, web())
    with store.write():
        store.set_phase("container", [web().id], "deleting", "somebody")
    assert store.containers.all() == []
    assert store.containers.held_names(["web"])
    assert rows(directory, "SELECT phase, owner FROM container") == [("deleting", "somebody")]


def test_forgetting_a_container_frees_all_it_had(store, directory):
    """A forgotten container leaves no endpoint, and its name and address can be had again."""
    insert(store, BLUE, web())
    store.forget("container", [web().id])
    assert rows(directory, "SELECT * FROM container") == rows(directory, "SELECT * FROM endpoint") == []
    insert(store, web())
    assert [item.name for item in store.containers.all()] == ["web"]


# All or nothing


def test_failed_block_leaves_nothing(store, directory):
    """An error in a writing block takes back all that the block wrote, and the store stays usable."""
    fail_after_inserting(store)
    assert rows(directory, "SELECT * FROM network") == []
    insert(store, BLUE)


def test_dry_run_leaves_nothing(store, directory):
    """A dry run sees what it wrote, and nobody else ever does."""
    before = rows(directory, "SELECT * FROM setting")
    with store.write(dry_run=True):
        store.networks.insert(BLUE, "")
        store.take_indexes(3)
        assert store.networks.subnets() == [("blue", BLUE.subnet)]
        assert rows(directory, "SELECT * FROM network") == []
    assert rows(directory, "SELECT * FROM network") == []
    assert rows(directory, "SELECT * FROM setting") == before


CLASHES = {
    "name": lambda: web("10.1.0.9", "web", index=9, id="f" * 64),
    "address": lambda: web("10.1.0.2", "other", index=9),
    "host index": lambda: web("10.1.0.9", "other", index=5),
    "id": lambda: web("10.1.0.9", "other", index=9, id=web().id),
    "network name": lambda: samples.network("blue", "10.9.0.0/16", id="f" * 64, device="br-x", device_index=99),
    "network device": lambda: samples.network("other", "10.9.0.0/16", device=BLUE.device),
    "network device index": lambda: samples.network("other", "10.9.0.0/16", device_index=BLUE.device_index),
}


@pytest.mark.parametrize("clash", CLASHES)
def test_database_has_the_last_word(store, directory, clash):
    """A name, address, index or device that is taken is a Conflict, and nothing of the same transaction is kept."""
    insert(store, BLUE, web())
    before = [rows(directory, f"SELECT * FROM {table}") for table in ("network", "container", "endpoint")]
    with pytest.raises(Conflict):
        insert(store, web("10.1.0.77", "innocent", index=77), CLASHES[clash]())
    after = [rows(directory, f"SELECT * FROM {table}") for table in ("network", "container", "endpoint")]
    assert after == before


def test_same_address_on_another_network(store):
    """The same address on two networks is no conflict."""
    other = samples.network("other", "10.1.0.0/16")
    insert(store, BLUE, other, web())
    end = samples.endpoint(other, "10.1.0.2", index=6)
    insert(store, samples.container("db", [end], run=RUN))
    assert len(store.containers.all()) == 2
    assert store.networks.address_holder(other.id, end.address.ip) == "db"
    assert store.networks.address_holder(BLUE.id, end.address.ip) == "web"
    assert store.networks.address_holder(BLUE.id, IPv4Address(1)) == ""


# Finding


def test_find_by_name_id_and_prefix(store):
    """A container or network is found by its name, its id and the beginning of its id."""
    insert(store, BLUE, web())
    for reference in ("web", web().id, web().id[:12], web().id[0]):
        assert [item.name for item in store.containers.find(reference)] == ["web"]
    for reference in ("blue", BLUE.id, BLUE.id[:12]):
        assert [item.name for item in store.networks.find(reference)] == ["blue"]
    assert store.containers.find("WEB") == store.networks.find("Blue") == []


def test_name_comes_before_id(store):
    """A name that is also the beginning of another's id means the one of that name."""
    first = web(name="first", index=1)
    insert(store, BLUE, first)
    insert(store, web("10.1.0.9", first.id[:6], index=2))
    assert [item.name for item in store.containers.find(first.id[:6])] == [first.id[:6]]
    net = samples.network(BLUE.id[:6], "10.9.0.0/16")
    insert(store, net)
    assert store.networks.find(BLUE.id[:6])[0] == net


def test_ambiguous_prefix_finds_all(store):
    """Of several ids that begin alike, all are found, for the caller to complain."""
    insert(store, BLUE, web(name="a", index=1, id="ab" * 32), web("10.1.0.9", "b", index=2, id="abc" + "0" * 61))
    assert {item.name for item in store.containers.find("ab")} == {"a", "b"}
    assert {item.name for item in store.containers.find("abc")} == {"b"}


@pytest.mark.parametrize("reference", ["", "%", "_", "' OR 1 --"])
def test_reference_that_means_nothing(store, reference):
    """An empty reference, as of a shell variable that is not set, finds nothing; nor do SQL's wild cards."""
    insert(store, BLUE, web())
    assert store.containers.find(reference) == []
    assert store.networks.find(reference) == []


def test_held_names_of_many(store):
    """More names than SQLite takes parameters can be asked for at once."""
    insert(store, BLUE, web())
    names = [f"c-{number}" for number in range(40_000)]
    assert store.containers.held_names([*names, "web"]) == {"web": web().id}


# Indexes


def test_indexes_are_unused_and_unique(store):
    """Interface indexes are given out once, above those that the kernel gives and within its 31 bits."""
    with store.write():
        first = store.take_indexes(500)
        second = store.take_indexes(500)
    taken = first + second
    assert len(set(taken)) == 1000
    assert min(taken) >= 1 << INDEX_BITS
    assert max(taken) < 1 << 31
    assert len({veth_name(index) for index in taken}) == 1000
    assert max(len(veth_name(index)) for index in [*taken, (1 << 31) - 1]) <= 15


def test_indexes_wrap_around_what_is_used(store, directory):
    """At the end of the range the numbers begin anew, and skip those of endpoints and bridges that exist."""
    change(directory, f"UPDATE setting SET value = {(1 << INDEX_BITS) - 1} WHERE key = 'next_index'")
    ((base,),) = rows(directory, "SELECT value FROM setting WHERE key = 'index_base'")
    insert(store, samples.network("blue", "10.1.0.0/16", device_index=base + 1), web(index=base))
    with store.write():
        found = store.take_indexes(3)
    assert found == [base + (1 << INDEX_BITS) - 1, base + 2, base + 3]


def test_two_databases_number_differently(tmp_path):
    """Each database numbers from a base of its own, so that two engines on one host do not meet."""
    bases = set()
    for number in range(8):
        Store(str(tmp_path / str(number)), RUN).close()
        bases.add(rows(tmp_path / str(number), "SELECT value FROM setting WHERE key = 'index_base'")[0])
    assert len(bases) > 1


def test_no_error_of_ours_is_swallowed(store):
    """An error of dnet's own inside a writing block, though it is a ValueError or LookupError too, arrives as it is."""
    for error in (NotFound("there is none"), DnetError("something")):
        with pytest.raises(type(error)) as caught, store.write():
            raise error
        assert caught.value is error


def test_commits_are_durable(store):
    """Commits survive a power cut, those of a mere intent apart: write-ahead log, synchronised in full."""

    def setting(name: str) -> object:
        return store._connection.execute(f"PRAGMA {name}").fetchone()[0]

    assert (setting("journal_mode"), setting("foreign_keys")) == ("wal", 1)
    with store.write(is_intent=True):
        assert setting("synchronous") == 1
    with store.write():
        assert setting("synchronous") == 2


def test_device_of_another_index(store):
    """A bridge that was made again has another index, also one that was another network's."""
    first, second = (
        samples.network(name, subnet, device=name, device_index=index, owns_device=False)
        for name, subnet, index in (("br0", "10.1.0.0/24", 5), ("br1", "10.2.0.0/24", 6))
    )
    insert(store, first, second)
    with store.write():
        store.networks.set_device(replace(first, device_index=6, found=("gateway",)))
    assert (store.networks.get("br0").device_index, store.networks.get("br0").found) == (6, ("gateway",))
    assert store.networks.get("br1").device_index < 0
    with store.write():
        store.networks.set_device(replace(second, device_index=5))
    assert {item.name: item.device_index for item in store.networks.all()} == {"br0": 6, "br1": 5}


def test_network_on(store):
    """The network of a bridge is found by the device, ready or not."""
    insert(store, BLUE, is_ready=False)
    assert store.networks.name_on(BLUE.device) == BLUE.name
    assert store.networks.name_on("absent") == ""
