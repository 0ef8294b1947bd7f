"""A database that is reached by tcp, or by ssl with keys: by every command, and words for every way that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.openvswitch.test_connection import keys
from tests.openvswitch.test_engine import OPTIONS, SUBNET, create, device, left_over, port_of
from tests.support.attachment_lan import namespace
from tests.support.hosts import FakeHost, program
from tests.support.openvswitch import DATAPATH, Ovs, reaches

ADDRESSES = {"tcp": "tcp:127.0.0.1:6640", "ssl": "ssl:127.0.0.1:6640"}
# So that nothing is found by the way of this host's own socket.
ENVIRONMENT = {"OVS_RUNDIR": "/nowhere"}


class Remote:
    """An Open vSwitch whose database listens at an address, and the options that say so."""

    def __init__(self, ovs: Ovs, kind: str) -> None:
        self.ovs, self.host, self.address = ovs, ovs.host, ADDRESSES[kind]
        ovs.host.run("ip link set lo up")
        self.place = str(ovs.host.directory / "keys")
        self.files: dict[str, str] = {}
        if kind == "ssl":
            self.files = keys(ovs.host, self.place)
            self.files["ca_certificate"] = f"{self.place}/pki/switchca/cacert.pem"
            server = ("server-privkey.pem", "server-cert.pem", "pki/controllerca/cacert.pem")
            ovs.vsctl("set-ssl", *(f"{self.place}/{name}" for name in server))
        ovs.vsctl("set-manager", f"p{self.address.replace('127.0.0.1:6640', '6640:127.0.0.1')}")

    def options(self, **others: str) -> tuple[str, ...]:
        """Return the options of `network create`, with other files in the place of some."""
        words = [f"ovsdb={self.address}", *(f"ovsdb_{name}={path}" for name, path in (self.files | others).items())]
        return tuple(part for word in words for part in ("-o", word))

    def dnet(self, *arguments: str, code: int | None = 0) -> Any:
        """Run dnet where the host's own socket is not found."""
        return self.host.dnet(*arguments, code=code, env=ENVIRONMENT)


@pytest.fixture(params=["tcp", "ssl"])
def remote(ovs: Ovs, request: pytest.FixtureRequest) -> Remote:
    """An Open vSwitch that listens by tcp, or by ssl."""
    return Remote(ovs, request.param)


@pytest.fixture
def safe(ovs: Ovs) -> Remote:
    """An Open vSwitch that listens by ssl."""
    return Remote(ovs, "ssl")


def test_every_command(remote: Remote) -> None:
    """Networks, containers, attachments and mending go by the address and keys that the first network was given."""
    ovs, host = remote.ovs, remote.host
    remote.dnet("network", "create", *OPTIONS, *SUBNET, *remote.options(), "lab")
    known = remote.dnet("network", "inspect", "lab").json[0]["Options"]
    assert known["ovsdb"] == remote.address
    assert {key.removeprefix("ovsdb_"): path for key, path in known.items() if "ovsdb_" in key} == remote.files
    remote.dnet("create", "--network", "lab", "a")
    namespace(host, "x")
    remote.dnet("attach", "--network", "lab", "/run/netns/x")
    assert reaches(host.sandbox("x"), "10.7.0.2")
    ovs.vsctl("add-br", "ovs0", "--", "set", "Bridge", "ovs0", f"datapath_type={DATAPATH}")
    remote.dnet("attach", "--bridge", "ovs0", "--vlan", "100", "/run/netns/x")
    assert len(ovs.ports("ovs0")) == 1
    ovs.vsctl("del-port", port_of(host, "a"))
    remote.dnet("reconcile")
    assert reaches(host.sandbox("x"), "10.7.0.2")
    remote.dnet("network", "create", *OPTIONS, "more")
    remote.dnet("network", "create", *OPTIONS, "--ovsdb", remote.address, "again")
    found = {item["about"]: item for item in remote.dnet("doctor", "--json", code=None).json}
    assert found["Open vSwitch"]["level"] == "ok"
    for name in ("eth0", "eth1"):
        remote.dnet("detach", "/run/netns/x", "-i", name)
    remote.dnet("rm", "a")
    remote.dnet("network", "rm", "lab", "more", "again")
    assert ovs.vsctl("list-br") == "ovs0"
    assert ovs.ports("ovs0") == []
    assert left_over(host) == []


def test_gone_and_back(remote: Remote) -> None:
    """What was removed by force is collected from where it was, although no network says any more where that is."""
    ovs, host = remote.ovs, remote.host
    remote.dnet("network", "create", *OPTIONS, *SUBNET, *remote.options(), "lab")
    remote.dnet("create", "--network", "lab", "a")
    ovs.end_switch()
    ovs.end_server()
    told = remote.dnet("rm", "a", code=8).stderr
    assert f"at {remote.address}: Connection refused" in told
    remote.dnet("rm", "-f", "a")
    remote.dnet("network", "rm", "-f", "lab")
    ovs.start_server()
    ovs.start_switch()
    assert ovs.vsctl("list-br")
    remote.dnet("reconcile")
    assert ovs.vsctl("list-br") == ""
    assert host.rows("SELECT * FROM left_behind") == []


def test_relative_paths(safe: Remote) -> None:
    """Files are found again from another directory than the one they were named in."""
    safe.files = {name: path.removeprefix(f"{safe.place}/") for name, path in safe.files.items()}
    words = ("network", "create", *OPTIONS, *SUBNET, *safe.options(), "lab")
    safe.host.run("sh", "-c", f'cd {safe.place} && exec "$@"', "sh", program(), *words)
    create(safe.host, "a")
    assert len(safe.ovs.ports(device(safe.host))) == 1


def nothing(host: FakeHost, ovs: Ovs) -> bool:
    """Whether nothing has been made."""
    return host.dnet("network", "ls", "--json").json == [] and not left_over(host) and ovs.vsctl("list-br") == ""


def test_missing_keys(safe: Remote) -> None:
    """A file that is missing, or was not named, is told before anything is touched."""
    told = safe.dnet("network", "create", "-d", "ovs", *safe.options(private_key="/x/y.pem"), "lab", code=2).stderr
    assert f"cannot connect to {safe.address}: there is no file '/x/y.pem'" in told
    told = safe.dnet("network", "create", "-d", "ovs", "--ovsdb", safe.address, "lab", code=2).stderr
    assert "the private key is missing" in told
    assert "-o ovsdb_private_key=" in told
    assert nothing(safe.host, safe.ovs)


@pytest.mark.parametrize("wrong", ["server's", "client's", "file"])
def test_refused_certificates(safe: Remote, wrong: str) -> None:
    """When either side does not accept the other's certificate, or a file is none, one sentence says so."""
    place = safe.place
    files = {
        "server's": {"ca_certificate": f"{place}/pki/controllerca/cacert.pem"},
        "client's": {"private_key": f"{place}/server-privkey.pem", "certificate": f"{place}/server-cert.pem"},
        "file": {"certificate": f"{place}/client-privkey.pem"},
    }[wrong]
    told = safe.dnet("network", "create", "-d", "ovs", *safe.options(**files), "lab", code=8).stderr
    assert f"Open vSwitch's database at {safe.address}: " in told
    assert "certificate" in told or "TLS" in told or "PEM" in told
    assert "systemctl" not in told
    assert next(iter(files.values())) in told
    assert nothing(safe.host, safe.ovs)


@pytest.mark.parametrize("address", ["tcp:127.0.0.1:6699", "ssl:127.0.0.1:6699"])
def test_nobody_listens(safe: Remote, address: str) -> None:
    """Where nobody listens, the sentence names the address, and the hint how to have somebody do so."""
    safe.address = address
    safe.files = safe.files if address.startswith("ssl") else {}
    told = safe.dnet("network", "create", "-d", "ovs", *safe.options(), "lab", code=8).stderr
    assert f"cannot connect to Open vSwitch's database at {address}: Connection refused" in told
    assert f"ovs-vsctl set-manager p{address[:3]}:6699" in told
    assert nothing(safe.host, safe.ovs)


def test_keys_that_vanish(safe: Remote) -> None:
    """When a file has gone, each command says which, and changes nothing; by force a container can be removed."""
    safe.dnet("network", "create", *OPTIONS, *SUBNET, *safe.options(), "lab")
    safe.dnet("create", "--network", "lab", "a")
    path = Path(safe.files["private_key"])
    kept = path.read_bytes()
    path.unlink()
    for command in (["create", "--network", "lab", "b"], ["rm", "a"], ["reconcile"]):
        result = safe.dnet(*command, code=None)
        assert result.code in {2, 10}
        assert str(path) in result.stderr
    assert [item["name"] for item in safe.dnet("ps", "-a", "--json").json] == ["a"]
    safe.dnet("rm", "-f", "a")
    path.write_bytes(kept)
    safe.dnet("reconcile")
    assert safe.ovs.ports(device(safe.host)) == []
