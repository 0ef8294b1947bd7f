"""Namespaces opened, told apart and entered. The oracles are stat, ip and the kernel's own refusal."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time

import pytest

from dnet.errors import InvalidRequest, NotFound
from dnet.linux import namespaces
from tests.support.hosts import Raised, wait_until


def identity(path):
    """Return the inode and cookie of the namespace at a path."""
    descriptor = namespaces.open_namespace(path)
    found = namespaces.identify(descriptor)
    os.close(descriptor)
    return found.inode, found.cookie


def test_identity(host):
    """The inode is what stat shows; each namespace has a cookie of its own, the same at each look."""
    for name in ("blue", "red"):
        host.run(f"ip netns add {name}")
    paths = ("/run/netns/blue", "/run/netns/red")
    blue, red = (host.call(identity, path) for path in paths)
    assert [blue[0], red[0]] == [int(host.run(f"stat -c %i {path}").stdout) for path in paths]
    assert blue[1] != red[1]
    assert host.call(identity, paths[0]) == blue


def test_number_is_reused_and_the_cookie_is_not(host):
    """Namespaces that come and go at one path often have one inode, and never one cookie."""
    seen = []
    for _ in range(5):
        host.run("ip netns add blue")
        seen.append(tuple(host.call(identity, "/run/netns/blue")))
        host.run("ip netns delete blue")
    assert len({cookie for _, cookie in seen}) == len(seen)


def test_kernel_without_cookies(host, monkeypatch):
    """Where the kernel has no cookies (before 5.14), it is 0 and the inode has to do."""
    monkeypatch.setattr(namespaces, "SO_NETNS_COOKIE", 9999)
    host.run("ip netns add blue")
    assert host.call(identity, "/run/netns/blue")[1] == 0


@pytest.mark.parametrize(
    ("make", "why"),
    [
        ("touch {}", "is not a network namespace"),
        ("mkdir {}", "is not a network namespace"),
        ("mkfifo {}", "is not a network namespace"),
        ("ln -s /dev/null {}", "is not a network namespace"),
        ("ln -s /proc/self/ns/mnt {}", "is a namespace, but not a network namespace"),
        ("ln -s /proc/self/ns/user {}", "is a namespace, but not a network namespace"),
        ("ln -s /proc/self/status {}", "is not a network namespace"),
        ("ln -s nowhere {}", "there is no network namespace"),
        ("true {}", "there is no network namespace"),
    ],
)
def test_what_is_no_namespace(tmp_path, make, why):
    """What is not a network namespace is refused by its path, without opening what might block."""
    path = tmp_path / "thing"
    subprocess.run(make.format(path).split(), check=True)
    with pytest.raises(InvalidRequest if "there is" not in why else NotFound, match=why) as caught:
        namespaces.open_namespace(str(path))
    assert str(path) in str(caught.value)


def test_path_through_a_file(tmp_path):
    """A path that leads through something else than a directory leads nowhere."""
    (tmp_path / "file").touch()
    with pytest.raises(NotFound):
        namespaces.open_namespace(f"{tmp_path}/file/net")


def test_nothing_is_left_open(tmp_path):
    """Refusing leaves no descriptor behind."""
    (tmp_path / "file").touch()
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        with pytest.raises(InvalidRequest):
            namespaces.open_namespace(str(tmp_path / "file"))
    assert os.listdir("/proc/self/fd") == before


def test_own(host):
    """The caller's own namespace is told from others'."""
    host.run("ip netns add blue")

    def inside():
        return [namespaces.is_own(os.stat(path).st_ino) for path in ("/proc/self/ns/net", "/run/netns/blue")]

    assert host.call(inside) == [True, False]


def test_call_is_inside_and_comes_back(host):
    """A function runs in the namespace, its value and its errors come back, and nobody else has moved."""
    host.run("ip netns add blue")

    def inside():
        own = os.readlink("/proc/thread-self/ns/net")
        descriptor = namespaces.open_namespace("/run/netns/blue")
        there = namespaces.call(descriptor, lambda: os.readlink("/proc/thread-self/ns/net"))
        with pytest.raises(ZeroDivisionError):
            namespaces.call(descriptor, lambda: 1 // 0)
        # A thread is still there for a moment after its last word.
        wait_until(lambda: len(os.listdir("/proc/self/task")) == 1, "the threads have ended")
        return there == f"net:[{os.fstat(descriptor).st_ino}]", os.readlink("/proc/self/ns/net") == own != there

    assert host.call(inside) == [True, True]


def test_signal_during_a_call(host):
    """An exception from a signal's handler interrupts the function, waits for it and goes on."""
    host.run("ip netns add blue")

    def inside():
        stop, heard = threading.Event(), []

        def interrupt():
            heard.append("interrupt")
            stop.set()

        def wait():
            os.kill(os.getpid(), signal.SIGINT)
            heard.append("ended" if stop.wait(30) else "lost")

        signal.signal(signal.SIGINT, signal.default_int_handler)
        descriptor = namespaces.open_namespace("/run/netns/blue")
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            namespaces.call(descriptor, wait, interrupt=interrupt)
        return heard, time.monotonic() - began < 20

    assert host.call(inside) == [["interrupt", "ended"], True]


def test_needs_root(host):
    """Without the privilege to enter, and to look at root's processes, it is said that root is needed."""
    host.run("ip netns add blue")

    def inside(path):
        os.setuid(65534)
        return identity(path)

    for path in ("/run/netns/blue", f"/proc/{os.getpid()}/ns/net"):
        with pytest.raises(Raised) as caught:
            host.call(inside, path)
        assert caught.value.kind == "NeedsRoot"
