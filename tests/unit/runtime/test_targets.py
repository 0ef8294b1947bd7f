"""Paths and processes as targets, and what becomes of them. The oracles are ip, stat and /proc."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnet.errors import InvalidRequest
from dnet.runtime import targets
from dnet.runtime.targets import split
from tests.support.hosts import FakeHost, Raised, wait_until
from tests.support.target_resolution import find, resolve


def sleeper(host: FakeHost) -> subprocess.Popen[str]:
    """Start a process that has a network namespace of its own already when this returns."""
    process = host.start("unshare", "--net", "sh", "-c", "echo ready; exec sleep 1000", stdout=subprocess.PIPE)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("text", ["/run/netns/blue", "path:/run/netns/blue"])
def test_path(host, text):
    """A path leads to the namespace there, and goes on to as long as it is the same."""
    host.run("ip netns add blue")
    target = find(host, text)
    assert (target.kind, target.reference, target.name, target.path) == ("path", *["/run/netns/blue"] * 3)
    assert (target.pid, target.started, target.socket) == (0, 0, "")
    assert target.inode == int(host.run("stat -c %i /run/netns/blue").stdout)
    assert str(target) == "namespace /run/netns/blue"
    assert resolve(host, target) == ("same", target)


def test_path_that_vanishes_and_comes_back(host):
    """A path is gone with what was there; what comes there later is something else, whatever its number."""
    host.run("ip netns add blue")
    before = find(host, "/run/netns/blue")
    host.run("ip netns delete blue")
    assert resolve(host, before) == ("gone", None)
    host.run("ip netns add blue")
    state, after = resolve(host, before)
    assert state == "changed"
    assert after == find(host, "/run/netns/blue")
    assert after.cookie != before.cookie


def test_path_that_is_no_namespace_any_more(host, tmp_path):
    """A path where something else is by now is an error when asked for, not a namespace."""
    host.run("ip netns add blue")
    before = find(host, "/run/netns/blue")
    host.run("ip netns delete blue")
    host.run("touch /run/netns/blue")
    for text in ("/run/netns/blue", str(tmp_path)):
        with pytest.raises(Raised, match="is not a network namespace") as caught:
            find(host, text)
        assert caught.value.kind == "InvalidRequest"
    assert resolve(host, before) == ("gone", None)


def test_process(host):
    """A process leads to its namespace, by number and when it was started."""
    process = sleeper(host)
    for text in (f"pid:{process.pid}", f"pid:000{process.pid}"):
        target = find(host, text)
        assert (target.kind, target.reference, target.pid) == ("pid", str(process.pid), process.pid)
        assert target.inode == int(host.run(f"stat -L -c %i /proc/{process.pid}/ns/net").stdout)
        assert str(target) == f"process {process.pid}"
    ticks = float(host.run(f"ps -o lstart= -o etimes= -p {process.pid}").stdout.split()[-1])
    (uptime,) = (float(host.run("cat /proc/uptime").stdout.split()[0]),)
    assert abs(uptime - target.started / os.sysconf("SC_CLK_TCK") - ticks) < 2
    assert resolve(host, target) == ("same", target)


def test_process_that_ends(host):
    """A process that has ended is gone and not found any more, also before its parent has taken note."""
    process = sleeper(host)
    target = find(host, f"pid:{process.pid}")
    process.kill()
    wait_until(lambda: " Z " in host.run(f"cat /proc/{process.pid}/stat").stdout, "the process is a zombie")
    for _ in range(2):
        assert resolve(host, target) == ("gone", None)
        with pytest.raises(Raised, match=f"there is no process {process.pid}") as caught:
            find(host, f"pid:{process.pid}")
        assert caught.value.kind == "NotFound"
        process.wait()


def test_reused_pid(host):
    """Another process of the same number is not the target."""
    target = find(host, f"pid:{sleeper(host).pid}")
    assert resolve(host, replace(target, started=target.started - 1)) == ("gone", None)


def test_process_that_moves(host):
    """A process that has gone to another namespace is changed."""
    code = "import ctypes; libc = ctypes.CDLL(None)\nwhile True: print(libc.unshare(1 << 30), flush=True); input()"
    pipe = subprocess.PIPE
    process = host.start(sys.executable, "-c", code, stdin=pipe, stdout=pipe)
    assert process.stdout.readline() == "0\n"
    before = find(host, f"pid:{process.pid}")
    assert resolve(host, before) == ("same", before)
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "0\n"
    state, after = resolve(host, before)
    assert (state, after) == ("changed", find(host, f"pid:{process.pid}"))
    assert (after.pid, after.started) == (before.pid, before.started)
    assert after.cookie != before.cookie


@pytest.mark.parametrize("text", ["pid:{pid}", "/proc/{pid}/ns/net", "/proc/self/ns/net", "pid:{self}"])
def test_hosts_own(host, text):
    """The host's own namespace is refused, by whichever way it is meant."""
    with pytest.raises(Raised, match="is in the host's own network") as caught:
        host.call(lambda: asdict(targets.find(text.format(pid=host.pid, self=os.getpid()))))
    assert caught.value.kind == "InvalidRequest"
    assert caught.value.hint


def test_nobody_knows(host):
    """Where neither runtime is, a bare name is not found, and the error says where each was looked for."""

    def inside():
        os.environ["PATH"] = "/nowhere"
        return asdict(targets.find("web"))

    with pytest.raises(Raised) as caught:
        host.call(inside)
    assert caught.value.kind == "NotFound"
    assert "no socket /var/run/docker.sock; " in caught.value.sentence
    assert "neither a socket /run/podman/podman.sock nor a program podman" in caught.value.sentence


@pytest.mark.parametrize(
    ("text", "kind", "rest"),
    [
        ("web", "", "web"),
        ("4f2a9c0e1b7d", "", "4f2a9c0e1b7d"),
        ("docker:web", "docker", "web"),
        ("podman:web", "podman", "web"),
        ("pid:1", "pid", "1"),
        ("/run/netns/a:b", "path", "/run/netns/a:b"),
        ("path:/run/netns/blue", "path", "/run/netns/blue"),
        ("my-app.web_1", "", "my-app.web_1"),
    ],
)
def test_split(text, kind, rest):
    """Kinds are said outright by a prefix; a slash begins a path, and all else is a name."""
    assert split(text) == (kind, rest)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it names nothing"),
        ("docker:", "it names nothing"),
        ("pid:", "it names nothing"),
        ("path:run/netns/blue", "not absolute"),
        ("path:docker", "not absolute"),
        ("pid:web", "not the number of a process"),
        ("pid:0", "not the number of a process"),
        ("pid:-1", "not the number of a process"),
        ("pid:\u0661", "not the number of a process"),
        ("pid:99999999999", "not the number of a process"),
        ("lxc:web", "not a container's name"),
        ("-web", "not a container's name"),
        ("two words", "not a container's name"),
        ("docker:a/b", "not a container's name"),
        ("web\n", "not a container's name"),
    ],
)
def test_unreadable(text, why):
    """What cannot be a target is refused before anybody is asked; the hint has the grammar."""
    with pytest.raises(InvalidRequest, match=why) as caught:
        split(text)
    assert "pid:N" in caught.value.hint


@given(st.text())
def test_split_of_anything(text):
    """Any text is read, or refused as an invalid request."""
    try:
        kind, rest = split(text)
    except InvalidRequest:
        return
    assert kind in {"", "path", "pid", "docker", "podman"}
    assert text.endswith(rest)
