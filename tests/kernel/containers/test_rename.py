"""Renaming containers, as their files and their names in /run/netns show it."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.support.etc_files import PATIENCE_S, read
from tests.support.hosts import FakeHost
from tests.support.state_diff import inspect


def names(host: FakeHost) -> list[str]:
    """Return the names in `ip netns`, and in /etc/netns, which have to be the same."""
    found = sorted(item["name"] for item in host.json("ip -j netns"))
    assert sorted(os.listdir(host.inside("/etc/netns"))) == found
    return found


def aliases(host: FakeHost) -> str:
    """Return the ifaliases of the host's interfaces."""
    return " ".join(link.get("ifalias", "") for link in host.json("ip -j link") if link["ifname"].startswith("veth"))


@pytest.mark.parametrize("kind", ["name", "id", "prefix"])
def test_rename(host: FakeHost, kind: str) -> None:
    """A renamed container has its new name in `ip netns`, /etc/netns, ifalias and ps, and everything else as before."""
    web = host.dnet("create", "--json", "web").json
    host.dnet("create", "db")
    address = web["NetworkSettings"]["IPAddress"]
    host.dnet("rename", {"name": "web", "id": web["Id"], "prefix": web["Id"][:12]}[kind], "front")
    assert names(host) == ["db", "front"]
    assert host.dnet("inspect", "front").json == [web | {"Name": "front"}]
    assert "front" in aliases(host)
    assert "web" not in aliases(host)
    assert read(host, "front", "hostname") == [web["Config"]["Hostname"]]
    assert host.can_ping(address)
    assert host.sandbox("front").can_ping("172.17.0.3")
    assert host.dnet("inspect", "web", code=3).stdout == ""


def test_old_name_is_free(host: FakeHost) -> None:
    """After renaming, another container can have the old name; each is removed with what is its own."""
    host.dnet("create", "db")
    before = host.snapshot()
    host.dnet("create", "web")
    host.dnet("rename", "web", "front")
    host.dnet("create", "web")
    assert names(host) == ["db", "front", "web"]
    assert inspect(host, "web")["Id"] != inspect(host, "front")["Id"]
    host.dnet("rm", "front")
    assert names(host) == ["db", "web"]
    assert host.sandbox("web").can_ping("172.17.0.1")
    host.dnet("rm", "web")
    assert host.changes(before) == ""


def test_rename_there_and_back(host: FakeHost) -> None:
    """Renaming a container and renaming it back leaves everything as it was, without a network too."""
    host.dnet("create", "web")
    host.dnet("create", "--network", "none", "alone")
    before = host.snapshot()
    for name in ("web", "alone"):
        host.dnet("rename", name, "other")
        host.dnet("rename", "other", name)
    assert host.changes(before) == ""


@pytest.mark.parametrize("name", ["db", "web", "foreign", "a b", "-x", ""])
def test_rename_that_cannot_be(host: FakeHost, name: str) -> None:
    """A name that somebody has is a conflict, one that cannot be is invalid, and nothing changes."""
    for own in ("web", "db"):
        host.dnet("create", own)
    host.run("ip netns add foreign")
    before = host.snapshot()
    code = 4 if name in {"db", "web", "foreign"} else 2
    refused = host.dnet("rename", "--", "web", name, code=code)
    assert (name or "''") in refused.stderr
    assert host.changes(before) == ""


def test_rename_of_nobody(host: FakeHost) -> None:
    """Renaming what does not exist exits 3, and nothing changes."""
    host.dnet("create", "web")
    before = host.snapshot()
    for reference in ("nobody", "", "f" * 64):
        host.dnet("rename", "--", reference, "front", code=3)
    assert host.changes(before) == ""


def test_renaming_while_a_program_runs(host: FakeHost) -> None:
    """A container is renamed while a program runs in it, and the program goes on in the same namespace."""
    host.dnet("create", "web")
    pipe = subprocess.PIPE
    with host.start("ip", "netns", "exec", "web", "cat", stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("in\n")
        process.stdin.flush()
        assert process.stdout.readline() == "in\n"
        host.dnet("rename", "web", "front")
        assert host.run("ip", "netns", "pids", "front").stdout.split() == [str(process.pid)]
        host.dnet("rm", "front")
        assert host.json("ip -j netns") == []
        process.stdin.close()
        assert process.wait(timeout=PATIENCE_S) == 0
