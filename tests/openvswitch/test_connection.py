"""Ways to the database, servers that come and go, and processes with many descriptors."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from pathlib import Path

import pytest

from dnet.openvswitch import ovsdb
from dnet.openvswitch.ovsdb import Ovsdb
from dnet.openvswitch.remote import Remote, remote
from dnet.openvswitch.switch import OpenVSwitch
from tests.support.hosts import FakeHost, Raised
from tests.support.openvswitch import DIRECTORY, Ovs, bridge, port


def keys(host: FakeHost, place: str) -> dict[str, str]:
    """Make a certificate authority with the keys of a server and a client, by ovs-pki; return the client's files."""
    host.run("mkdir", "-p", place)
    pki = f"cd {place} && ovs-pki --dir=pki --log=log -B 2048"
    for command in ("init", "-u req+sign server switch", "-u req+sign client controller"):
        host.run("sh", "-c", f"{pki} {command}")
    ca = f"{place}/pki/controllerca/cacert.pem"
    return {
        "private_key": f"{place}/client-privkey.pem",
        "certificate": f"{place}/client-cert.pem",
        "ca_certificate": ca,
    }


def make_bridge(switch: OpenVSwitch) -> list[str]:
    """Make ovs0 and return the bridges that exist."""
    switch.create_bridges([bridge()])
    return list(switch.bridge_names())


def test_tcp(ovs: Ovs):
    """A database is reached by tcp."""
    ovs.vsctl("set-manager", "ptcp:6640:127.0.0.1")
    assert ovs.call(make_bridge, remote("tcp:127.0.0.1:6640")) == ["ovs0"]
    assert ovs.vsctl("list-br") == "ovs0"


def test_ssl(ovs: Ovs):
    """A database is reached by ssl with the right keys; with another authority's neither side accepts the other."""
    place = str(ovs.host.directory / "keys")
    files = keys(ovs.host, place)
    server = (f"{place}/server-privkey.pem", f"{place}/server-cert.pem", f"{place}/pki/controllerca/cacert.pem")
    ovs.vsctl("set-ssl", *server)
    ovs.vsctl("set-manager", "pssl:6640:127.0.0.1")
    trusted = files | {"ca_certificate": f"{place}/pki/switchca/cacert.pem"}
    assert ovs.call(make_bridge, remote("ssl:127.0.0.1:6640", **trusted)) == ["ovs0"]
    for wrong in (files, {**trusted, "private_key": server[0], "certificate": server[1]}):
        with pytest.raises(Raised, match=r"database at ssl:127\.0\.0\.1:6640") as caught:
            ovs.call(make_bridge, remote("ssl:127.0.0.1:6640", **wrong))
        assert caught.value.kind in {"OvsError", "ConnectionLost"}


def test_unusable_keys(ovs: Ovs):
    """A file that is no key is told with the library's words."""
    path = str(ovs.host.directory / "nonsense.pem")
    ovs.host.run("sh", "-c", f"echo nonsense >{path}")
    ovs.vsctl("set-manager", "ptcp:6640:127.0.0.1")
    with pytest.raises(Raised, match=r"cannot connect to Open vSwitch's database at ssl:127\.0\.0\.1:6640: ") as caught:
        ovs.call(make_bridge, remote("ssl:127.0.0.1:6640", path, path, path))
    assert caught.value.kind == "OvsError"


@pytest.mark.parametrize("address", ["", "unix:/run/elsewhere.sock", "tcp:127.0.0.1:6640"])
def test_nobody_there(host: FakeHost, address: str):
    """Where no server is, the sentence names what was tried, and the hint how to start it."""

    def connect() -> None:
        Ovsdb(remote(address)).read([], "look")

    with pytest.raises(Raised) as caught:
        host.call(connect)
    assert caught.value.kind == "OvsError"
    assert f"database at {address or 'unix:/run/openvswitch/db.sock'}: " in caught.value.sentence
    assert "systemctl start openvswitch-switch" in caught.value.hint


def test_somebody_else_there(host: FakeHost):
    """A server of another kind is told, and not waited for."""
    with host.serve(6640), pytest.raises(Raised, match=r"database at tcp:127\.0\.0\.1:6640") as caught:
        host.call(lambda: Ovsdb(remote("tcp:127.0.0.1:6640")).read([], "look"))
    assert caught.value.kind in {"OvsError", "ConnectionLost"}


def test_database_of_something_else(host: FakeHost, ovs: Ovs):
    """A database server without Open vSwitch's database is told in its words."""
    ovs.end_switch()
    ovs.end_server()
    schema = '{"name": "Other", "version": "1.0.0", "tables": {"T": {"columns": {"c": {"type": "string"}}}}}'
    host.run("sh", "-c", f"echo '{schema}' >{DIRECTORY}/other.ovsschema")
    host.run("ovsdb-tool", "create", f"{DIRECTORY}/other.db", f"{DIRECTORY}/other.ovsschema")
    host.run("rm", f"{DIRECTORY}/conf.db")
    host.run("mv", f"{DIRECTORY}/other.db", f"{DIRECTORY}/conf.db")
    ovs.start_server(is_configured=False)
    with pytest.raises(Raised, match="specifies unknown database") as caught:
        ovs.call(make_bridge)
    assert caught.value.kind == "OvsError"


def test_uninitialised_database(ovs: Ovs):
    """A database that no switch has been made in is told, with the command that does it."""
    ovs.end_switch()
    ovs.end_server()
    ovs.host.run("sh", "-c", f"rm {DIRECTORY}/conf.db && ovsdb-tool create {DIRECTORY}/conf.db")
    ovs.start_server()
    with pytest.raises(Raised) as caught:
        ovs.call(make_bridge)
    assert (caught.value.kind, "ovs-vsctl init" in caught.value.hint) == ("OvsError", True)


def test_server_that_restarts(ovs: Ovs):
    """A connection outlives a restart of ovsdb-server, between calls and within them."""
    ovs.veths("v1", "v2", "v3")

    def work(switch: OpenVSwitch) -> list[str]:
        switch.create_bridges([bridge()])
        restart(ovs)
        switch.create_ports([port("v1")])
        late = threading.Timer(0.1, ovs.start_server)
        ovs.end_server()
        late.start()
        switch.create_ports([port("v2")])
        late.join()
        return [item.port for item in switch.observed() if hasattr(item, "port")]

    # Here and not in a child, since processes are started on the way.
    switch = OpenVSwitch(Ovsdb(Remote(f"unix:{ovs.host.inside(DIRECTORY)}/db.sock")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "dnet.openvswitch.switch._index_of", lambda _: 1
        )  # the device is in another namespace than this process
        assert sorted(work(switch)) == ["v1", "v2"]
    switch.close()
    assert sorted(ovs.ports()) == ["v1", "v2"]


def restart(ovs: Ovs) -> None:
    """End ovsdb-server and start it again."""
    ovs.end_server()
    ovs.start_server()


class Losing(Ovsdb):
    """A connection that breaks right behind a transaction that makes something: its answer never comes."""

    has_lost = False

    def transact(self, operations, what):
        """Run a transaction, and lose the first that inserts, before or after it is run."""
        makes = any(item["op"] == "insert" for item in operations)
        if not makes or self.has_lost:
            return super().transact(operations, what)
        self.has_lost = True
        if self.is_run:
            super().transact(operations, what)
        return self._lose("Broken pipe")


@pytest.mark.parametrize("is_run", [True, False])
def test_answer_that_is_lost(ovs: Ovs, is_run):
    """A transaction whose answer is lost is made sure of: run already or not, everything is there once."""
    ovs.veths("v1", "v2")

    def work() -> int:
        database = Losing(remote())
        database.is_run = is_run
        switch = OpenVSwitch(database)
        switch.create_bridges([bridge()])
        assert database.has_lost
        database.has_lost = False
        assert switch.create_ports([port("v1"), port("v2", tag=9)]) == [None, None]
        assert database.has_lost
        return len(switch.observed())

    assert ovs.host.call(work) == 3
    assert (sorted(ovs.ports()), ovs.vsctl("list-br")) == (["v1", "v2"], "ovs0")
    assert ovs.datapath_ports() == ["ovs0", "v1", "v2"]


def test_switch_that_starts_late(ovs: Ovs):
    """A change waits for an ovs-vswitchd that is just being started again."""
    ovs.end_switch(signal.SIGKILL)
    late = threading.Timer(1.2, ovs.start_switch)
    late.start()
    assert ovs.call(make_bridge) == ["ovs0"]
    late.join()
    assert ovs.datapath_ports() == ["ovs0"]


def test_many_descriptors(ovs: Ovs):
    """A process with more descriptors than select(2) can tell apart reaches the database."""

    def work() -> bool:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 2000), hard), hard))
        held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
        database = Ovsdb(remote())
        OpenVSwitch(database).create_bridges([bridge()])
        return max(held) > 1024 and database._stream.socket.fileno() > 1024

    assert ovs.host.call(work)


def test_interrupted_wait(ovs: Ovs):
    """After an interrupt in the middle of a wait the connection serves again."""
    ovs.switch.send_signal(signal.SIGSTOP)

    def work() -> list[str]:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        switch = OpenVSwitch(Ovsdb(remote()))
        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            switch.create_bridges([bridge()])
        os.kill(ovs.switch.pid, signal.SIGCONT)
        switch.create_bridges([bridge(tag=5)])
        return list(switch.bridge_names())

    assert ovs.host.call(work) == ["ovs0"]
    assert ovs.vsctl("get", "Port", "ovs0", "tag") == "5"


def test_package_of_the_distribution(ovs: Ovs):
    """The package is found where the distribution keeps it, with its parser in C if that is for this interpreter."""
    code = (
        "import sys; from dnet.openvswitch import ovsdb, remote; assert 'ovs' not in sys.modules\n"
        "ovsdb.Ovsdb(remote.remote()).read([], 'look')\n"
        "import ovs.json; print(ovs.json.PARSER)"
    )
    built_for = Path(ovsdb.DISTRIBUTION_PATHS[0]).glob(f"_json.{sys.implementation.cache_tag}*")
    assert ovs.host.python(code).stdout == ("C\n" if any(built_for) else "PYTHON\n")
