"""What dnet remembers. The oracle is SQL on the file itself, and other processes that use it at the same time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

import dnet.database
import dnet.store
from dnet.errors import Conflict, DnetError, NotFound, StateError
from dnet.model import Link
from dnet.rows import Adoption, veth_name
from dnet.store import Store
from tests.support import samples

RUN = "/run/x"
ROOT = Path(__file__).resolve().parents[3]
BLUE = samples.network("blue", "10.1.0.0/16")
RED = samples.network("red", "10.2.0.0/24")


@pytest.fixture
def directory(tmp_path) -> Path:
    """Return a state directory that does not exist yet."""
    return tmp_path / "state"


@pytest.fixture
def store(directory) -> Iterator[Store]:
    """Yield an open store of that directory."""
    with contextlib.closing(Store(str(directory), RUN)) as opened:
        yield opened


def rows(directory: Path, sql: str) -> list[tuple]:
    """Ask the file itself."""
    with contextlib.closing(sqlite3.connect(directory / "state.db")) as connection:
        return connection.execute(sql).fetchall()


def change(directory: Path, sql: str) -> None:
    """Change the file behind the store's back."""
    with contextlib.closing(sqlite3.connect(directory / "state.db")) as connection, connection:
        connection.execute(sql)


def insert(store: Store, *values, owner: str = "somebody", is_ready: bool = True) -> None:
    """Insert networks and containers, in phase `ready` unless told otherwise."""
    containers = [value for value in values if hasattr(value, "endpoints")]
    networks = [value for value in values if value not in containers]
    with store.write():
        for value in networks:
            store.insert_network(value, owner)
        store.insert_containers(containers, owner)
        if is_ready:
            store.set_ready("network", [value.id for value in networks])
            store.set_ready("container", [value.id for value in containers])


def fail_after_inserting(store: Store) -> None:
    """Insert a network in a block that fails afterwards."""

    def block() -> None:
        with store.write():
            store.insert_network(BLUE, store.new_owner())
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        block()


def web(address: str = "10.1.0.2", name: str = "web", index: int = 5, **given):
    """Return a container with one endpoint on BLUE."""
    return samples.container(name, [samples.endpoint(BLUE, address, index=index, id=f"end {name}")], run=RUN, **given)


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
    assert store.find_networks("odd") == [net]
    assert store.containers() == [container, db, sharer]
    with contextlib.closing(Store(str(directory), RUN)) as other:
        assert other.networks() == [BLUE, net]
        assert other.containers() == [container, db, sharer]


def test_internal_network_has_no_gateway_for_its_members(store):
    """An endpoint of an internal network is read without a gateway."""
    net = samples.network("inside", internal=True)
    container = samples.container("web", [samples.endpoint(net, "10.1.0.2")], run=RUN)
    insert(store, net, container)
    assert store.containers() == [container]
    assert store.containers()[0].endpoints[0].gateway is None


def test_containers_come_in_the_order_of_creation(store):
    """Containers are listed oldest first, networks by name."""
    insert(store, RED, BLUE)
    for number, name in enumerate(["zebra", "ape", "lion"]):
        insert(store, web(f"10.1.0.{9 - number}", name, index=number))
    assert [item.name for item in store.containers()] == ["zebra", "ape", "lion"]
    assert [item.name for item in store.networks()] == ["blue", "red"]
    assert [item.name for item in store.containers_on(BLUE.id)] == ["ape", "lion", "zebra"]
    assert store.containers_on(RED.id) == []


# Phases


def test_creating_is_invisible_but_holds_its_names(store):
    """What is being created is not listed, but its name and address are taken already."""
    insert(store, BLUE)
    insert(store, web(), is_ready=False)
    assert store.containers() == store.find_containers("web") == []
    assert store.held_names(["web", "db"]) == {"web": web().id}
    assert int(IPv4Address("10.1.0.2")) in store.taken_addresses(BLUE.id)
    insert(store, RED, is_ready=False)
    assert store.networks() == [BLUE]
    assert store.find_networks("red") == []
    assert dict(store.reserved_subnets()) == {"blue": BLUE.subnet, "red": RED.subnet}
    assert (store.network_phase("red"), store.network_phase("green")) == ("creating", "")


def test_ready_is_visible(store, directory):
    """What is ready is listed and has no owner any more."""
    insert(store, BLUE, web(), is_ready=False)
    with store.write():
        store.set_ready("network", [BLUE.id])
        store.set_ready("container", [web().id])
    assert [item.name for item in store.containers()] == ["web"]
    assert rows(directory, "SELECT phase, owner FROM container") == [("ready", "")]


def test_deleting_is_invisible_but_holds_its_names(store, directory):
    """What is being deleted is listed no more, but its name is taken until it is gone."""
    insert(store, BLUE, web())
    with store.write():
        store.set_deleting("container", [web().id], "somebody")
    assert store.containers() == []
    assert store.held_names(["web"])
    assert rows(directory, "SELECT phase, owner FROM container") == [("deleting", "somebody")]


def test_forgetting_a_container_frees_all_it_had(store, directory):
    """A forgotten container leaves no endpoint, and its name and address can be had again."""
    insert(store, BLUE, web())
    store.forget("container", [web().id])
    assert rows(directory, "SELECT * FROM container") == rows(directory, "SELECT * FROM endpoint") == []
    insert(store, web())
    assert [item.name for item in store.containers()] == ["web"]


# All or nothing


def test_failed_block_leaves_nothing(store, directory):
    """An error in a writing block takes back all that the block wrote, and the store stays usable."""
    fail_after_inserting(store)
    assert rows(directory, "SELECT * FROM network") == []
    insert(store, BLUE)


def test_dry_run_leaves_nothing(store, directory):
    """A dry run sees what it wrote, and nobody else ever does."""
    before = rows(directory, "SELECT * FROM setting")
    with store.write(is_dry_run=True):
        store.insert_network(BLUE, "")
        store.take_indexes(3)
        assert store.reserved_subnets() == [("blue", BLUE.subnet)]
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
    assert len(store.containers()) == 2
    assert store.address_holder(other.id, end.address.ip) == "db"
    assert store.address_holder(BLUE.id, end.address.ip) == "web"
    assert store.address_holder(BLUE.id, IPv4Address(1)) == ""


# Finding


def test_find_by_name_id_and_prefix(store):
    """A container or network is found by its name, its id and the beginning of its id."""
    insert(store, BLUE, web())
    for reference in ("web", web().id, web().id[:12], web().id[0]):
        assert [item.name for item in store.find_containers(reference)] == ["web"]
    for reference in ("blue", BLUE.id, BLUE.id[:12]):
        assert [item.name for item in store.find_networks(reference)] == ["blue"]
    assert store.find_containers("WEB") == store.find_networks("Blue") == []


def test_name_comes_before_id(store):
    """A name that is also the beginning of another's id means the one of that name."""
    first = web(name="first", index=1)
    insert(store, BLUE, first)
    insert(store, web("10.1.0.9", first.id[:6], index=2))
    assert [item.name for item in store.find_containers(first.id[:6])] == [first.id[:6]]
    net = samples.network(BLUE.id[:6], "10.9.0.0/16")
    insert(store, net)
    assert store.find_networks(BLUE.id[:6])[0] == net


def test_ambiguous_prefix_finds_all(store):
    """Of several ids that begin alike, all are found, for the caller to complain."""
    insert(store, BLUE, web(name="a", index=1, id="ab" * 32), web("10.1.0.9", "b", index=2, id="abc" + "0" * 61))
    assert {item.name for item in store.find_containers("ab")} == {"a", "b"}
    assert {item.name for item in store.find_containers("abc")} == {"b"}


@pytest.mark.parametrize("reference", ["", "%", "_", "' OR 1 --"])
def test_reference_that_means_nothing(store, reference):
    """An empty reference, as of a shell variable that is not set, finds nothing; nor do SQL's wild cards."""
    insert(store, BLUE, web())
    assert store.find_containers(reference) == []
    assert store.find_networks(reference) == []


def test_held_names_of_many(store):
    """More names than SQLite takes parameters can be asked for at once."""
    insert(store, BLUE, web())
    names = [f"c-{number}" for number in range(40_000)]
    assert store.held_names([*names, "web"]) == {"web": web().id}


# Indexes


def test_indexes_are_unused_and_unique(store):
    """Interface indexes are given out once, above those that the kernel gives and within its 31 bits."""
    with store.write():
        first = store.take_indexes(500)
        second = store.take_indexes(500)
    taken = first + second
    assert len(set(taken)) == 1000
    assert min(taken) >= 1 << dnet.store.INDEX_BITS
    assert max(taken) < 1 << 31
    assert len({veth_name(index) for index in taken}) == 1000
    assert max(len(veth_name(index)) for index in [*taken, (1 << 31) - 1]) <= 15


def test_indexes_wrap_around_what_is_used(store, directory):
    """At the end of the range the numbers begin anew, and skip those of endpoints and bridges that exist."""
    change(directory, f"UPDATE setting SET value = {(1 << dnet.store.INDEX_BITS) - 1} WHERE key = 'next_index'")
    ((base,),) = rows(directory, "SELECT value FROM setting WHERE key = 'index_base'")
    insert(store, samples.network("blue", "10.1.0.0/16", device_index=base + 1), web(index=base))
    with store.write():
        found = store.take_indexes(3)
    assert found == [base + (1 << dnet.store.INDEX_BITS) - 1, base + 2, base + 3]


def test_two_databases_number_differently(tmp_path):
    """Each database numbers from a base of its own, so that two engines on one host do not meet."""
    bases = set()
    for number in range(8):
        Store(str(tmp_path / str(number)), RUN).close()
        bases.add(rows(tmp_path / str(number), "SELECT value FROM setting WHERE key = 'index_base'")[0])
    assert len(bases) > 1


# Owners


OWNER_SCRIPT = """
import sys
from dnet.store import Store
from tests.support import samples
from tests.unit.state.test_store import BLUE, RUN, web
store = Store(sys.argv[1], RUN)
with store.write():
    if sys.argv[2] == "creating":
        store.insert_network(samples.network("made", "10.9.0.0/16"), store.new_owner())
        store.insert_containers([web(name="made", address="10.1.0.9", index=9)], store.new_owner())
    else:
        store.set_deleting("container", [web().id], store.new_owner())
print("written", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def another_process(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a script that imports what the tests import; it is killed at the end of the block, at the latest."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("phase", ["creating", "deleting"])
def test_work_of_a_killed_process_is_abandoned(store, directory, phase):
    """What a process was creating or deleting is its own while it lives, and abandoned when it has been killed."""
    insert(store, BLUE, web())
    with another_process(OWNER_SCRIPT, str(directory), phase) as process:
        assert process.stdout.readline() == "written\n"
        assert store.abandoned() == ([], [], [])
        process.kill()
        process.wait()
        containers, changing, networks = store.abandoned()
    expected = ["made"] if phase == "creating" else ["web"]
    assert [item.name for item in containers] == expected
    assert [item.name for item in networks] == (["made"] if phase == "creating" else [])
    assert containers[0].endpoints
    assert changing == []
    store.forget("container", [item.id for item in containers])
    store.forget("network", [item.id for item in networks])
    assert store.abandoned() == ([], [], [])


def test_ready_is_never_abandoned(store):
    """What is ready belongs to nobody, whether the process that made it lives or not."""
    insert(store, BLUE, web(), owner="0123456789abcdef")
    assert store.abandoned() == ([], [], [])


def test_open_store_keeps_its_work_from_others(store, directory):
    """What one store has begun is not abandoned for another one of the same process, as long as the first is open."""
    insert(store, BLUE, web(), owner=store.new_owner(), is_ready=False)
    with contextlib.closing(Store(str(directory), RUN)) as other:
        assert other.abandoned() == ([], [], [])
        store.close()
        assert [item.name for item in other.abandoned()[0]] == ["web"]


def test_container_whose_starter_has_gone(store, directory):
    """A container that a process was to start is forsaken when that has gone; it is ready, and never abandoned."""
    insert(store, BLUE, web(), owner=store.new_owner())
    with contextlib.closing(Store(str(directory), RUN)) as other:
        assert not other.is_forsaken(web().id)
        with store.write():
            store.set_starting([web().id])
        assert [item.name for item in other.containers()] == ["web"]
        for asked in (store, other):
            assert not asked.is_forsaken(web().id)
        store.close()
        assert other.is_forsaken(web().id)
        assert other.abandoned() == ([], [], [])
        with other.write():
            other.set_ready("container", [web().id])
        assert not other.is_forsaken(web().id)


def test_own_remains_are_abandoned(store):
    """What a store finds of its own at the beginning of the next change is what an earlier one failed to take back."""
    insert(store, BLUE, web(), owner=store.new_owner(), is_ready=False)
    assert [item.name for item in store.abandoned()[0]] == ["web"]


def test_owners_differ(store, directory):
    """Two stores have different owners, and so have two changes of one store; each store keeps one file."""
    with contextlib.closing(Store(str(directory), RUN)) as other:
        assert other.new_owner() != store.new_owner()
        assert other.new_owner() != other.new_owner()
        assert len(list((directory / "operations").iterdir())) == 2


def test_closed_store_leaves_no_file(store, directory):
    """The file by which a store's owner is known to live is gone when the store is closed."""
    assert store.new_owner()
    store.close()
    assert list((directory / "operations").iterdir()) == []


def test_failed_change_leaves_nothing_after_closing(store, directory):
    """A change that failed leaves neither rows nor files when the store is closed."""
    fail_after_inserting(store)
    store.close()
    assert list((directory / "operations").iterdir()) == []
    assert rows(directory, "SELECT * FROM network") == []


def test_forgetting_what_an_owner_began(store, directory):
    """Forgetting what an owner began leaves what is ready, and what others began."""
    insert(store, BLUE, web())
    insert(store, RED, web("10.1.0.9", "mine", index=9), owner="me", is_ready=False)
    insert(store, web("10.1.0.10", "theirs", index=10), owner="them", is_ready=False)
    store.forget_owned("me")
    assert rows(directory, "SELECT name FROM container ORDER BY name") == [("theirs",), ("web",)]
    assert rows(directory, "SELECT name FROM network") == [("blue",)]


def test_two_finders_of_one_dead_owner(store, directory, monkeypatch):
    """Two processes may find the same dead owner at once: that the other removed its file first is no failure."""
    (directory / "operations" / "dead").touch()
    insert(store, BLUE, web(), owner="dead", is_ready=False)
    flock = fcntl.flock

    def flock_while_another_cleans_up(file, flags):
        flock(file, flags)
        (directory / "operations" / "dead").unlink()

    monkeypatch.setattr(dnet.database.fcntl, "flock", flock_while_another_cleans_up)
    assert [item.name for item in store.abandoned()[0]] == ["web"]


def test_network_lock_excludes(store, directory):
    """While one holds the lock of networks, another process cannot have it; afterwards it can."""
    script = """
import fcntl, sys
with open(sys.argv[1], "w") as file:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        print("free", flush=True)
    except BlockingIOError:
        print("held", flush=True)
"""
    for expected in ("held", "free"):
        with store.network_lock() if expected == "held" else contextlib.nullcontext():
            done = subprocess.run(
                [sys.executable, "-c", script, str(directory / "network.lock")],
                capture_output=True,
                text=True,
                check=True,
            )
        assert done.stdout == f"{expected}\n"


# Races


RACE_SCRIPT = """
import sys
from dnet.errors import Conflict
from dnet.store import Store
from tests.unit.state.test_store import RUN, web
number, kind = int(sys.argv[2]), sys.argv[3]
store = Store(sys.argv[1], RUN)
print("ready", flush=True)
sys.stdin.readline()
for attempt in range(20):
    mine = f"{number}-{attempt}"
    index = 1000 * number + attempt
    if kind == "name":
        value = web(f"10.1.{number}.{attempt}", f"c-{attempt}", index, id=mine)
    elif kind == "address":
        value = web(f"10.1.0.{attempt}", mine, index, id=mine)
    try:
        with store.write():
            store.insert_containers([value], "owner")
    except Conflict:
        print("lost", attempt, flush=True)
    else:
        print("won", attempt, flush=True)
"""


@pytest.mark.parametrize("kind", ["name", "address"])
def test_race(store, directory, kind):
    """Of two processes that want the same names or addresses at the same time each is won by exactly one, whole."""
    insert(store, BLUE)
    with contextlib.ExitStack() as stack:
        racers = [
            stack.enter_context(another_process(RACE_SCRIPT, str(directory), str(number), kind)) for number in (1, 2)
        ]
        for racer in racers:
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            racer.stdin.write("go\n")
            racer.stdin.flush()
        lines = [line for racer in racers for line in racer.stdout.read().splitlines()]
        assert [racer.wait() for racer in racers] == [0, 0]
    expected = {f"{outcome} {attempt}": 1 for outcome in ("won", "lost") for attempt in range(20)}
    assert Counter(lines) == expected
    assert rows(directory, "SELECT count(*) FROM container") == [(20,)]
    assert rows(directory, "SELECT count(*), count(DISTINCT address) FROM endpoint")[0][0] == 20
    assert rows(directory, "SELECT name FROM container GROUP BY name HAVING count(*) > 1") == []


FIRST_SCRIPT = """
import sys
from dnet.errors import DnetError
from dnet.store import Store
print("ready", flush=True)
for line in sys.stdin:
    try:
        store = Store(line.strip(), "/run/x")
        with store.write():
            print(*store.take_indexes(50), flush=True)
    except DnetError as error:
        print(error, flush=True)
"""


def test_processes_make_one_database(tmp_path):
    """Processes that open a state directory for the first time at once agree on one database; none fails."""
    with contextlib.ExitStack() as stack:
        openers = [stack.enter_context(another_process(FIRST_SCRIPT)) for _ in range(3)]
        assert [opener.stdout.readline() for opener in openers] == ["ready\n"] * 3
        for number in range(20):
            for opener in openers:
                opener.stdin.write(f"{tmp_path / str(number)}\n")
                opener.stdin.flush()
            answers = [opener.stdout.readline().strip() for opener in openers]
            assert [answer for answer in answers if not re.fullmatch(r"[\d ]+", answer)] == []
            assert len({index for answer in answers for index in answer.split()}) == 150


# Damage


def read_everything(directory: Path) -> None:
    """Open the store, and use all of it."""
    with contextlib.closing(Store(str(directory), RUN)) as opened:
        opened.networks()
        opened.containers()
        with opened.write():
            opened.take_indexes(1)


def refusal(directory: Path) -> StateError:
    """Return the error of opening the store and reading all of it."""
    with pytest.raises(StateError) as caught:
        read_everything(directory)
    return caught.value


def test_newer_schema(store, directory):
    """A database of a newer dnet is refused with the advice to upgrade, and left as it is."""
    insert(store, BLUE, web())
    store.close()
    change(directory, "PRAGMA user_version = 99")
    before = (directory / "state.db").read_bytes()
    error = refusal(directory)
    assert "newer dnet" in str(error)
    assert "99" in str(error)
    assert "upgrade" in error.hint
    assert (directory / "state.db").read_bytes() == before


def spoil(path: Path, start: int, data: bytes) -> None:
    """Overwrite a part of a file."""
    with path.open("r+b") as file:
        file.seek(start)
        file.write(data)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(
            lambda path: path.write_bytes(b"this is no database, and long enough to be sure of it " * 99), id="text"
        ),
        pytest.param(lambda path: path.write_bytes(hashlib.shake_256(b"noise").digest(20_000)), id="noise"),
        pytest.param(lambda path: spoil(path, 0, b"SQLite format 4\0"), id="header"),
        pytest.param(lambda path: spoil(path, 4096, b"\xff" * 16_000), id="pages"),
        pytest.param(lambda path: os.truncate(path, 5000), id="cut off"),
    ],
)
def test_damaged_file(store, directory, damage):
    """A file that SQLite cannot read is a StateError that names the file and says what can be done."""
    insert(store, BLUE, web())
    store.close()
    damage(directory / "state.db")
    error = refusal(directory)
    assert str(directory / "state.db") in str(error)


CONTENT = {
    "subnet that is none": "UPDATE network SET subnet = 'everything'",
    "empty subnet": "UPDATE network SET subnet = ''",
    "gateway that is none": "UPDATE network SET gateway = '10.1.0'",
    "range that is none": "UPDATE network SET ip_range = 'x'",
    "auxiliary address that is none": """UPDATE network SET aux_addresses = '{"router": "x"}'""",
    "auxiliary addresses as a list": "UPDATE network SET aux_addresses = '[1]'",
    "labels that are not JSON": "UPDATE container SET labels = '{\"a\"'",
    "labels that are a number": "UPDATE container SET labels = '5'",
    "labels that are null": "UPDATE container SET labels = 'null'",
    "network labels that are a list": "UPDATE network SET labels = '[1, 2]'",
    "address that is text": "UPDATE endpoint SET address = 'x'",
    "address beyond 32 bits": "UPDATE endpoint SET address = 1 << 40",
    "index that is text": "UPDATE endpoint SET host_index = 'x'",
    "time that is text": "UPDATE container SET created = 'yesterday'",
    "no base of indexes": "DELETE FROM setting WHERE key = 'index_base'",
    "base of indexes that is text": "UPDATE setting SET value = 'x'",
    "no table of endpoints": "DROP TABLE endpoint",
    "no column": "ALTER TABLE container DROP COLUMN mtu",
}


@pytest.mark.parametrize("sql", [pytest.param(sql, id=label) for label, sql in CONTENT.items()])
def test_damaged_content(store, directory, sql):
    """Content that makes no sense is a StateError that names the file, never an unexpected failure."""
    insert(store, BLUE, web())
    store.close()
    change(directory, sql)
    assert str(directory / "state.db") in str(refusal(directory))


def test_empty_file_is_a_new_database(directory):
    """An empty file, as of a crash before the first commit, becomes a new database."""
    directory.mkdir()
    (directory / "state.db").touch()
    with contextlib.closing(Store(str(directory), RUN)) as opened:
        insert(opened, BLUE)
        assert opened.networks() == [BLUE]


def test_state_directory_that_is_a_file(tmp_path):
    """A state directory that is a file is a StateError that names it."""
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="file"):
        Store(str(tmp_path / "file"), RUN)
    with pytest.raises(StateError, match="below"):
        Store(str(tmp_path / "file" / "below"), RUN)


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


# Adopted interfaces


def adoption(store: Store, interface: str, phase: str = "ready", owner: str = "") -> Adoption:
    """Remember an interface of network blue."""
    item = Adoption(interface, BLUE.id, "{}", phase, owner)
    with store.write():
        store.put_adoption(item)
    return item


def test_adoptions(store):
    """An interface is remembered once, with its network, which shows it in whatever phase and takes it along."""
    insert(store, BLUE)
    adoption(store, "eth2")
    adoption(store, "eth1", "creating", "somebody")
    item = adoption(store, "eth1", "trial", "somebody")
    assert store.adoptions([BLUE.id]) == [item, store.adoption("eth2")]
    assert store.adoptions(["absent"]) == []
    assert [str(item) for item in store.network(BLUE.name).uplinks] == ["eth1", "eth2"]
    store.forget("network", [BLUE.id])
    assert store.adoptions() == []


def test_phases_of_adoptions(store):
    """Of two who move one on, the first one does."""
    insert(store, BLUE)
    adoption(store, "eth1", "trial", "somebody")
    with store.write():
        assert store.move_adoption("eth1", ["trial"], "ready")
        assert not store.move_adoption("eth1", ["creating", "trial"], "deleting", "me")
    assert store.adoption("eth1") == Adoption("eth1", BLUE.id, "{}", "ready", "")


def test_abandoned_adoptions(store, directory):
    """What a dead owner left half done is found; what is ready, or in living hands, is not."""
    insert(store, BLUE)
    adoption(store, "eth1", "trial", "0123456789abcdef.1")
    adoption(store, "eth2", "trial", store.new_owner())
    adoption(store, "eth3")
    with contextlib.closing(Store(str(directory), "/run/x")) as other:
        assert [item.interface for item in other.abandoned_adoptions()] == ["eth1"]


def test_device_of_another_index(store):
    """A bridge that was made again has another index, also one that was another network's."""
    first, second = (
        samples.network(name, subnet, device=name, device_index=index, owns_device=False)
        for name, subnet, index in (("br0", "10.1.0.0/24", 5), ("br1", "10.2.0.0/24", 6))
    )
    insert(store, first, second)
    with store.write():
        store.set_device(replace(first, device_index=6, found=("gateway",)))
    assert (store.network("br0").device_index, store.network("br0").found) == (6, ("gateway",))
    assert store.network("br1").device_index < 0
    with store.write():
        store.set_device(replace(second, device_index=5))
    assert {item.name: item.device_index for item in store.networks()} == {"br0": 6, "br1": 5}


def test_network_on(store):
    """The network of a bridge is found by the device, ready or not."""
    insert(store, BLUE, is_ready=False)
    assert store.network_on(BLUE.device) == BLUE.name
    assert store.network_on("absent") == ""
