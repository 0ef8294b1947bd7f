"""Adopted interfaces, as the database remembers them."""

from __future__ import annotations

import contextlib

from dnet.model.record import Adoption
from dnet.state.store import Store
from tests.support.stores import BLUE, insert

# Adopted interfaces


def adoption(store: Store, interface: str, phase: str = "ready", owner: str = "") -> Adoption:
    """Remember an interface of network blue."""
    item = Adoption(interface, BLUE.id, "{}", phase, owner)
    with store.write():
        store.adoptions.put(item)
    return item


def test_adoptions(store):
    """An interface is remembered once, with its network, which shows it in whatever phase and takes it along."""
    insert(store, BLUE)
    adoption(store, "eth2")
    adoption(store, "eth1", "creating", "somebody")
    item = adoption(store, "eth1", "trial", "somebody")
    assert store.adoptions.all([BLUE.id]) == [item, store.adoptions.get("eth2")]
    assert store.adoptions.all(["absent"]) == []
    assert [str(item) for item in store.networks.get(BLUE.name).uplinks] == ["eth1", "eth2"]
    store.forget("network", [BLUE.id])
    assert store.adoptions.all() == []


def test_phases_of_adoptions(store):
    """Of two who move one on, the first one does."""
    insert(store, BLUE)
    adoption(store, "eth1", "trial", "somebody")
    with store.write():
        assert store.adoptions.move("eth1", ["trial"], "ready")
        assert not store.adoptions.move("eth1", ["creating", "trial"], "deleting", "me")
    assert store.adoptions.get("eth1") == Adoption("eth1", BLUE.id, "{}", "ready", "")


def test_abandoned_adoptions(store, directory):
    """What a dead owner left half done is found; what is ready, or in living hands, is not."""
    insert(store, BLUE)
    adoption(store, "eth1", "trial", "0123456789abcdef.1")
    adoption(store, "eth2", "trial", store.new_owner())
    adoption(store, "eth3")
    with contextlib.closing(Store(str(directory), "/run/x")) as other:
        assert [item.interface for item in other.adoptions.abandoned()] == ["eth1"]
