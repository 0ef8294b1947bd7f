"""What other processes do between the moment that containers are found and the one that they are marked as changing."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator

import pytest

import dnet
from dnet.engine import Engine
from dnet.model.attachment_spec import NetworkAttachmentSpec
from dnet.operations import attachments, endpoints
from dnet.transaction.reserve_endpoints import EndpointReservation
from tests.support.engine_on_fakes import Machine, remembered, specs

NAMES = ["c-1", "c-2", "c-3"]
Action = Callable[[Machine], None]


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Iterator[Machine]:
    """Yield a machine with three containers on network blue, and two more networks."""
    with remembered(tmp_path, monkeypatch) as made:
        for name in ("blue", "red", "late"):
            made.engine.create_network(name)
        made.engine.create_many(specs(3, network="blue"))
        yield made
        while OTHERS:
            OTHERS.pop().close()


OTHERS: list[Engine] = []


def another(machine: Machine) -> Engine:
    """Return an engine that lives as long as the test, as another process would."""
    OTHERS.append(machine.another_engine())
    return OTHERS[-1]


def remove(machine: Machine) -> None:
    """Remove the second one."""
    another(machine).delete_many(["c-2"])


def replace(machine: Machine) -> None:
    """Remove it, and make another one of its name."""
    remove(machine)
    another(machine).create_many(specs(2, network="blue")[1:])


def begin_to_remove(machine: Machine) -> None:
    """Come as far as marking it."""
    other = another(machine)
    with other._store.write():
        other._store.set_phase(
            "container", [other._store.containers.get("c-2").id], "deleting", other._store.new_owner()
        )


def join(machine: Machine) -> None:
    """Attach it to the same network."""
    another(machine).attach_many(["c-2"], "red")


def half_join(machine: Machine, owner: str = "", network: str = "red") -> None:
    """Come half as far."""
    other = another(machine)
    store, member = other._store, other._store.containers.get("c-2")
    with store.write():
        [(_, end)] = EndpointReservation(store).join(
            [member], dnet.EndpointSpec(network=network), store.networks.get(network)
        )
        store.containers.insert_endpoints([(member.id, end)], "creating")
        store.set_phase("container", [member.id], "changing", owner or store.new_owner())


def half_join_and_die(machine: Machine) -> None:
    """Join another network, and be killed."""
    half_join(machine, "0123456789abcdef.1", "late")


CHANGED, CHANGING = "container c-2 has just been changed by another", "container c-2 is being changed by another"
CASES: dict[str, tuple[Action, str]] = {
    "removed": (remove, CHANGED),
    "replaced": (replace, CHANGED),
    "being removed": (begin_to_remove, CHANGED),
    "joined": (join, CHANGED),
    "joining": (half_join, CHANGING),
    "killed": (half_join_and_die, CHANGED),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("names", [NAMES, ["c-2"]], ids=["several", "one"])
@pytest.mark.parametrize("interface", ["", "net7"], ids=["", "named"])
def test_attached_by_what_was_known(machine, monkeypatch, case, names, interface):
    """It is refused, to be tried again: nobody's change is lost, and nothing of ours is left."""
    action, sentence = CASES[case]

    def act_before(store):
        monkeypatch.setattr(attachments, "EndpointReservation", EndpointReservation)
        action(machine)
        return EndpointReservation(store)

    monkeypatch.setattr(attachments, "EndpointReservation", act_before)
    before = rows(machine, "red")
    with pytest.raises(dnet.Conflict) as caught:
        machine.engine.attach_many(
            names, NetworkAttachmentSpec(spec=dnet.EndpointSpec(network="red", interface=interface))
        )
    assert str(caught.value).startswith(sentence)
    assert "try again" in caught.value.hint
    assert not getattr(caught.value, "__notes__", [])
    assert [row for row in rows(machine, "red") if row[0] != "c-2"] == before == []
    assert [row for row in phases(machine) if row[0] != "c-2"] == [("c-1", "ready"), ("c-3", "ready")]
    if case == "killed":
        assert rows(machine, "late") == [("c-2", "creating")]
        machine.engine.delete_many(["nobody"], missing_ok=True)
        assert rows(machine, "late") == []
        machine.engine.delete_networks(["late"])
        machine.engine.attach_many(names, "red")
        assert rows(machine, "red") == [(name, "ready") for name in names]


def test_connected_after_somebody_was_killed(machine, monkeypatch):
    """So is `connect`, where the look for what dead processes left was before."""
    repair = endpoints.repair_networks

    def repair_late(*arguments, **options):
        repair(*arguments, **options)
        monkeypatch.setattr(endpoints, "repair_networks", repair)
        half_join_and_die(machine)

    monkeypatch.setattr(endpoints, "repair_networks", repair_late)
    with pytest.raises(dnet.Conflict, match=CHANGED):
        machine.engine.connect(NAMES, "red")
    assert rows(machine, "late") == [("c-2", "creating")]
    machine.engine.connect(NAMES, "red")
    assert rows(machine, "late") == []
    assert rows(machine, "red") == [(name, "ready") for name in NAMES]


def rows(machine: Machine, network: str) -> list[tuple[str, str]]:
    """Return who has an endpoint on a network, and its phase."""
    sql = (
        "SELECT c.name, e.phase FROM endpoint e JOIN container c ON c.id = container_id JOIN network n "
        f"ON n.id = network_id WHERE n.name = '{network}' ORDER BY c.name"
    )
    return _query(machine, sql)


def phases(machine: Machine) -> list[tuple[str, str]]:
    """Return the containers' phases."""
    return _query(machine, "SELECT name, phase FROM container ORDER BY name")


def _query(machine: Machine, sql: str) -> list[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(machine.directory / "state" / "state.db")) as connection:
        return connection.execute(sql).fetchall()
