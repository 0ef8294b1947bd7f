"""Containers that are read lot by lot: what is read when, and that it is the same as reading all at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from dnet.model.record import ContainerHead
from dnet.state.containers import Containers
from dnet.state.store import Store
from dnet.transaction.lots import FIRST_LOT, LOT, LazyContainers
from tests.support import samples

COUNT = FIRST_LOT + 2 * FIRST_LOT + LOT + 10
NAMES = [f"c-{number}" for number in range(COUNT)]


class Watched(Containers):
    """Stored containers that count what is read of them."""

    lots: list[int]

    def ready(self, identities):
        """Read, and note of how many."""
        self.lots.append(len(identities))
        return super().ready(identities)


@pytest.fixture
def store(tmp_path) -> Iterator[Store]:
    """Yield a store with many containers."""
    with contextlib.closing(Store(str(tmp_path / "state"), "/run/x")) as store:
        store.containers = Watched(store, store.networks, "/run/x")
        store.containers.lots = []
        with store.write():
            store.containers.insert(
                [samples.container(id=f"{number:064x}", name=name, endpoints=()) for number, name in enumerate(NAMES)],
                "",
            )
            store.set_phase("container", [f"{number:064x}" for number in range(COUNT)], "ready")
        yield store


@pytest.fixture
def members(store) -> LazyContainers:
    """Return them all, unread, in another order than that of their making."""
    heads = store.containers.heads(NAMES)
    return LazyContainers(store, [heads[name] for name in reversed(NAMES)])


def test_heads(store):
    """What containers are called comes without the rest; who is not there is left out."""
    heads = store.containers.heads([NAMES[3], "nobody", NAMES[1]])
    assert heads == {
        name: ContainerHead(f"{number:064x}", name, "none") for number, name in ((1, NAMES[1]), (3, NAMES[3]))
    }
    assert heads[NAMES[1]].shares == ""
    assert ContainerHead("1", "a", "container:2").shares == "2"
    assert store.containers.lots == []


def test_read_lot_by_lot(store, members):
    """Each lot is read once, when its first is asked for; all together are what reading at once returns."""
    assert len(members) == COUNT
    assert store.containers.lots == []
    assert members[0].name == NAMES[-1]
    assert store.containers.lots == [FIRST_LOT]
    assert members[FIRST_LOT - 1].name == NAMES[-FIRST_LOT]
    assert store.containers.lots == [FIRST_LOT]
    assert members[FIRST_LOT].name == NAMES[-FIRST_LOT - 1]
    assert store.containers.lots == [FIRST_LOT, 2 * FIRST_LOT]
    assert list(members) == store.containers.all()[::-1]
    assert store.containers.lots == [FIRST_LOT, 2 * FIRST_LOT, LOT, 10]
    list(members)
    assert len(store.containers.lots) == 4


@pytest.mark.parametrize(
    "key", [slice(0, 5), slice(None, -1), slice(-3, None), slice(None, None, -1), slice(5, 2), slice(40, 20, -7)]
)
def test_slices(store, members, key):
    """Slices are those of a list, however much has been read."""
    whole = store.containers.all()[::-1]
    assert members[key] == whole[key]


@pytest.mark.parametrize("key", [-1, -COUNT, COUNT - 1])
def test_places(store, members, key):
    """Places are those of a list, too."""
    assert members[key] == store.containers.all()[::-1][key]


@pytest.mark.parametrize("key", [COUNT, -COUNT - 1])
def test_no_such_place(members, key):
    """A place that is none is an IndexError, without reading."""
    with pytest.raises(IndexError):
        members[key]
    assert members._store.containers.lots == []


def test_each_once_and_read_ones_as_they_are(store):
    """Who is there twice is one member; who has been read already is not read again."""
    first, second = store.containers.get(NAMES[0]), store.containers.heads([NAMES[1]])[NAMES[1]]
    members = LazyContainers(store, [first, second, first, second])
    assert len(members) == 2
    assert members[0] is first
    assert members[1].name == NAMES[1]
    assert store.containers.lots == [1]
