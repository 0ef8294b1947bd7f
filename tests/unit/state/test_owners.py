"""Who does a piece of work: what living owners keep, and what dead ones leave to others."""

from __future__ import annotations

import contextlib
import fcntl
import subprocess
import sys

import pytest

from dnet.state import database
from dnet.state.store import Store
from tests.support.stores import BLUE, RED, RUN, another_process, fail_after_inserting, insert, rows, web

OWNER_SCRIPT = """
import sys
from dnet.state.store import Store
from tests.support import samples
from tests.support.stores import ROOT, RUN, BLUE, RED, rows, change, insert, fail_after_inserting, web, another_process
from tests.support.stores import BLUE, RUN, web
store = Store(sys.argv[1], RUN)
with store.write():
    if sys.argv[2] == "creating":
        store.networks.insert(samples.network("made", "10.9.0.0/16"), store.new_owner())
        store.containers.insert([web(name="made", address="10.1.0.9", index=9)], store.new_owner())
    else:
        store.set_phase("container", [web().id], "deleting", store.new_owner())
print("written", flush=True)
sys.stdin.read()
"""


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
    """A container that a process was to start is abandoned when that has gone; it is ready all the time."""
    insert(store, BLUE, web(), owner=store.new_owner())
    with contextlib.closing(Store(str(directory), RUN)) as other:
        assert not other.is_start_abandoned(web().id)
        with store.write():
            store.set_phase("container", [web().id], "ready", store.starter())
        assert [item.name for item in other.containers.all()] == ["web"]
        for asked in (store, other):
            assert not asked.is_start_abandoned(web().id)
        store.close()
        assert other.is_start_abandoned(web().id)
        assert other.abandoned() == ([], [], [])
        with other.write():
            other.set_phase("container", [web().id], "ready")
        assert not other.is_start_abandoned(web().id)


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

    monkeypatch.setattr(database.fcntl, "flock", flock_while_another_cleans_up)
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
