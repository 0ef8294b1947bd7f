"""A database of an earlier version is brought up to date when it is opened, with all that is in it."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Interface, ip_address
from pathlib import Path

import pytest

from dnet.drivers import desired
from dnet.errors import StateError
from dnet.model.record import MadeBridge
from dnet.state.adoptions import ADOPTION
from dnet.state.attachments import ATTACHMENT, MADE_BRIDGE
from dnet.state.container_rows import CONTAINER, ENDPOINT, LINK, PORT, ROUTE
from dnet.state.networks import NETWORK
from dnet.state.schema import SCHEMA_VERSION, SCHEMAS
from dnet.state.store import LEFT_BEHIND, Store
from dnet.transaction import apply
from tests.support import old_databases, samples
from tests.support.bare_context import bare_context
from tests.support.engine_on_fakes import Machine, remembered
from tests.support.stores import rows

RUN = "/run/x"
ROOT = Path(__file__).resolve().parents[3]
WEB, ALONE, HALF = (samples.identity_of(name) for name in ("web", "alone", "half"))
BLUE = samples.identity_of("blue")
SETTINGS = (
    '{"hostname": "web1", "domainname": "", "dns": ["192.0.2.53"], "dns_search": [], "dns_options": [], '
    '"extra_hosts": [["db", "10.0.0.5"]]}'
)
CONTENT = (
    "INSERT INTO setting VALUES ('index_base', 1445986304), ('next_index', 3), ('last_automatic_port', 32770)",
    f"""INSERT INTO network VALUES ('{BLUE}', 'blue', 'bridge', '10.1.0.0/24', '10.1.0.1', '', 'fd00:1::/64',
    'fd00:1::1', '{{"router": "10.1.0.9"}}', 0, 0, 1, '', '', '', 1400, 'br-blue', 1445986304, '{{}}', '{{}}', 1.5,
    'ready', '')""",
    f"""INSERT INTO container VALUES
    (1, '{WEB}', 'web', 'blue', 1300, 0, '[[80, "tcp"]]', '{SETTINGS}', '{{"a": "b"}}', 2.5, 'ready', ''),
    (2, '{ALONE}', 'alone', 'none', 0, 1, '[]', '{SETTINGS}', '{{}}', 3.5, 'ready', ''),
    (3, '{HALF}', 'half', 'blue', 0, 0, '[]', '{SETTINGS}', '{{}}', 4.5, 'creating', 'dead.1')""",
    f"""INSERT INTO endpoint VALUES
    ('end-1', '{WEB}', '{BLUE}', 'eth0', {int(IPv4Address("10.1.0.2"))}, 'fd00:1::2', '02:00:00:00:00:02', 1445986305),
    ('end-2', '{HALF}', '{BLUE}', 'eth0', {int(IPv4Address("10.1.0.3"))}, NULL, '02:00:00:00:00:03', 1445986306)""",
    f"INSERT INTO port_mapping VALUES ('tcp', 8080, '0.0.0.0', '{WEB}', 80), ('tcp', 8080, '::', '{WEB}', 80)",
)


def make(directory: Path) -> Path:
    """Write a database of version 1 with two containers and half a third; return its path."""
    path = directory / "state" / "state.db"
    old_databases.make_database_1(path, *CONTENT)
    return path


def version(path: Path) -> int:
    """Return the version that the file says it is."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Iterator[Machine]:
    """Yield a machine that has a database of version 1, with all that it tells of on the host."""
    make(tmp_path)
    with remembered(tmp_path, monkeypatch) as made:
        (net,), containers = made.engine.networks(), made.engine.containers()
        groups = [desired.container(item, {net.id: net}, desired.HostFiles("")) for item in containers]
        for place in ("etc", "netns"):
            (tmp_path / "run" / place).mkdir(parents=True)
        apply.create_groups(bare_context(made.kernel, made.nft), [desired.network(net, is_first=True), *groups])  # type: ignore[arg-type]
        yield made


def test_content_stays(tmp_path):
    """All that version 1 knew is there; what it did not know is empty."""
    path = make(tmp_path)
    with contextlib.closing(Store(str(path.parent), RUN)) as store:
        web, alone = store.containers.all()
        (net,) = store.networks.all()
        assert store.setting("last_automatic_port") == 32770
    assert version(path) == SCHEMA_VERSION == 4
    assert (web.id, web.name, web.mode, web.mtu, web.labels) == (WEB, "web", "blue", 1300, {"a": "b"})
    assert (web.settings.hostname, web.settings.extra_hosts) == ("web1", (("db", "10.0.0.5"),))
    assert [(item.host_ip, item.host_port) for item in web.ports] == [
        (ip_address("0.0.0.0"), 8080),
        (ip_address("::"), 8080),
    ]
    (end,) = web.endpoints
    assert (str(end.address), end.address6, end.gateway) == ("10.1.0.2/24", IPv6Interface("fd00:1::2/64"), net.gateway)
    assert (end.mac, end.host_index, end.host_interface) == ("02:00:00:00:00:02", 1445986305, "veth56300001")
    assert (end.aliases, end.gateway_priority, web.shares, web.links, web.linked_by) == ((), 0, "", (), ())
    assert (alone.name, alone.mode, alone.endpoints) == ("alone", "none", ())
    assert (net.name, net.icc, net.mtu, net.aux_addresses) == ("blue", False, 1400, {"router": ip_address("10.1.0.9")})


def test_opening_again_changes_nothing(tmp_path):
    """What has been brought up to date is left as it is the next time."""
    path = make(tmp_path)
    for _ in range(2):
        with contextlib.closing(Store(str(path.parent), RUN)) as store:
            found = store.containers.all()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        before = list(connection.iterdump())
    with contextlib.closing(Store(str(path.parent), RUN)) as store:
        assert store.containers.all() == found
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert list(connection.iterdump()) == before


def test_same_schema_as_a_new_database(tmp_path):
    """A database that was brought up to date has the tables, columns and indexes of one that is new."""
    path = make(tmp_path)
    fresh = tmp_path / "fresh" / "state.db"
    texts = []
    for place in (path, fresh):
        Store(str(place.parent), RUN).close()
        with contextlib.closing(sqlite3.connect(place)) as connection:
            texts.append(sorted(connection.execute("SELECT type, name, sql FROM sqlite_master")))
    assert texts[0] == texts[1] != []


def test_version_2(tmp_path):
    """Of version 2, attachments have no VLANs, and bridges that were made are the kernel's."""
    path = tmp_path / "state" / "state.db"
    make(tmp_path)
    details = {"kind": "bridge", "device_index": 9, "host_interface": "veth9", "addresses": ["10.9.0.5/24"]}
    details |= {"gateways": [], "mac": "02:42:0a:09:00:05", "mtu": 0}
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(f"{SCHEMAS[1]}; PRAGMA user_version = 2;")
        connection.execute("INSERT INTO made_bridge VALUES ('br9', 7)")
        values = ("wire", ALONE, "eth0", "br9", 1445986400, json.dumps(details), "ready")
        connection.execute("INSERT INTO attachment VALUES (?, ?, ?, ?, ?, ?, ?)", values)
    with contextlib.closing(Store(str(path.parent), RUN)) as store:
        assert store.attachments.made_bridges() == {"br9": MadeBridge("br9", 7, "")}
        [wire] = store.containers.get("alone").attachments
        assert (wire.device, wire.kind, wire.vlans) == ("br9", "bridge", None)
        assert store.left_behind() == []
        assert not store.uses_switch()
    assert version(path) == SCHEMA_VERSION


def test_version_3(tmp_path):
    """Endpoints of version 3 keep all that they have, in a table of another order."""
    path = make(tmp_path)
    columns = "id, container_id, network_id, interface, address, address6, mac, host_index, aliases, gateway_priority"
    query = f"SELECT {columns}, phase, vlans FROM endpoint ORDER BY id"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(f"{SCHEMAS[1]}; {SCHEMAS[2]}; PRAGMA user_version = 3;")
        connection.execute("""UPDATE endpoint SET aliases = '["db"]', gateway_priority = 7, vlans = '{"access": 5}'""")
        connection.execute("UPDATE endpoint SET phase = 'deleting' WHERE id = 'end-1'")
        before = connection.execute(query).fetchall()
    Store(str(path.parent), RUN).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        assert connection.execute(query).fetchall() == before
        assert len(before) == 2
        with pytest.raises(sqlite3.IntegrityError, match="address6"):
            connection.execute("UPDATE endpoint SET address6 = 'fd00:1::2'")
        connection.execute("DELETE FROM container")
        assert connection.execute(query).fetchall() == []
    assert version(path) == SCHEMA_VERSION


def test_half_made_container_of_before(machine):
    """What a killed process of version 1 left half done is cleared away by the next command that writes."""
    machine.engine.delete_many(["nobody"], missing_ok=True)
    assert [item.name for item in machine.engine.containers()] == ["web", "alone"]
    assert machine.phases() == {"ready"}


def test_work_goes_on(machine):
    """Containers of version 1 are joined to networks, linked to, shared, and removed like others."""
    engine = machine.engine
    engine.create_network("red", subnet="10.2.0.0/24")
    engine.connect(["web", "alone"], "red")
    engine.create("front", network="blue", links=["web:backend"])
    engine.create("side", network="container:web")
    assert [end.network for end in engine.container("web").endpoints] == ["blue", "red"]
    assert [str(link) for link in engine.container("web").linked_by] == ["front/backend"]
    engine.delete_many(["front", "side", "web", "alone"])
    engine.delete_networks(["blue", "red"])
    assert machine.rows() == [[]] * 5


def test_failure_leaves_version_1(tmp_path):
    """A database that cannot be brought up to date is a StateError, and stays a database of version 1."""
    path = make(tmp_path)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE link (somebody TEXT)")
    with pytest.raises(StateError, match="link"):
        Store(str(path.parent), RUN)
    assert version(path) == 1
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE link")
    with contextlib.closing(Store(str(path.parent), RUN)) as store:
        assert [item.name for item in store.containers.all()] == ["web", "alone"]


OPENER = """
import contextlib, sys
from dnet.state.store import Store
print("ready", flush=True)
for line in sys.stdin:
    with contextlib.closing(Store(line.strip(), "/run/x")) as store:
        print(*(item.name for item in store.containers.all()), flush=True)
"""


def test_processes_that_open_it_at_once(tmp_path):
    """When several processes open a database of version 1 at once, one brings it up to date and none fails."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    with contextlib.ExitStack() as stack:
        openers = [stack.enter_context(subprocess.Popen([sys.executable, "-c", OPENER], **pipes)) for _ in range(3)]
        assert [opener.stdout.readline() for opener in openers] == ["ready\n"] * 3
        for number in range(5):
            path = make(tmp_path / str(number))
            for opener in openers:
                opener.stdin.write(f"{path.parent}\n")
                opener.stdin.flush()
            assert [opener.stdout.readline().split() for opener in openers] == [["web", "alone"]] * 3
            assert version(path) == SCHEMA_VERSION
        for opener in openers:
            opener.stdin.close()


@pytest.mark.parametrize(
    "table",
    [NETWORK, CONTAINER, ENDPOINT, PORT, LINK, ROUTE, ATTACHMENT, MADE_BRIDGE, ADOPTION, LEFT_BEHIND],
    ids=lambda table: table.name,
)
@pytest.mark.usefixtures("store")
def test_columns_are_those_of_the_schema(directory, table):
    """A table of the database has the columns from which rows are inserted and decoded, and a number at most."""
    columns = {name for _, name, *_ in rows(directory, f"PRAGMA table_info({table.name})")}
    assert columns - {"number"} == {*table.columns, *table.others}
