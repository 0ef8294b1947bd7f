"""Docker's containers as targets. The oracles are a real dockerd and its command line, and stat for namespaces."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dnet.runtime import docker, targets
from dnet.runtime.targets import Target
from tests.support.docker import Dockerd, running_dockerd
from tests.support.hosts import Namespace, Raised, wait_until
from tests.support.target_resolution import find, resolve

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def daemon(tmp_path_factory) -> Iterator[Dockerd]:
    """Yield a Docker daemon with a container that runs, `web`, and one that does not, `idle`."""
    with running_dockerd(tmp_path_factory.mktemp("dockerd")) as found:
        found.run("web")
        found.docker("create", "--name", "idle", "--network", "none", "busybox", "sleep", "1000")
        yield found


def inode(space: Namespace, pid: int) -> int:
    """Return the inode of a process's network namespace, as stat tells it."""
    return int(space.run(f"stat -L -c %i /proc/{pid}/ns/net").stdout)


@pytest.fixture
def box(daemon) -> Iterator[str]:
    """Yield the id of a running container `box`, to be treated badly."""
    found = daemon.run("box")
    yield found
    daemon.docker("rm", "--force", "box", code=None)


def test_by_name_and_id(daemon):
    """Name, id, the beginning of the id, each with and without `docker:`, lead to one namespace: the container's."""
    full_id = daemon.docker("inspect", "--format", "{{.Id}}", "web")
    pid = daemon.pid("web")
    for reference in ("web", full_id, full_id[:12]):
        for text in (reference, f"docker:{reference}"):
            target = find(daemon.host, text)
            assert (target.kind, target.reference, target.name) == ("docker", full_id, "web")
            assert target.socket == "/var/run/docker.sock"
            assert (target.pid, target.path) == (pid, f"/proc/{pid}/ns/net")
            assert target.inode == inode(daemon.host, pid)
            assert str(target) == "Docker container web"


def test_the_namespace_is_the_containers(daemon):
    """What is made in the namespace that was found is seen by a process inside the container."""
    target = find(daemon.host, "web")
    daemon.host.run(f"nsenter --net={target.path} ip link add seen type veth peer name unseen")
    assert "seen" in daemon.docker("exec", "web", "busybox", "ip", "link")


def test_docker_host(daemon, tmp_path):
    """DOCKER_HOST=unix://... is where Docker is asked, and remembered for later, when the environment is another."""
    (tmp_path / "sock").symlink_to("/var/run/docker.sock")

    def inside(place):
        os.environ["DOCKER_HOST"] = place
        return targets.find("web").socket

    assert daemon.host.call(inside, f"unix://{tmp_path}/sock") == f"{tmp_path}/sock"
    with pytest.raises(Raised, match=r"no socket /absent/docker\.sock"):
        daemon.host.call(inside, "unix:///absent/docker.sock")
    with pytest.raises(Raised, match=r"DOCKER_HOST is tcp://192\.0\.2\.1:2375, and only a runtime of this host"):
        daemon.host.call(inside, "tcp://192.0.2.1:2375")


def test_no_such_container(daemon):
    """A name that nobody knows is not found, and the error says who was asked and with what result."""
    with pytest.raises(Raised) as caught:
        find(daemon.host, "nobody")
    assert caught.value.kind == "NotFound"
    assert "no container nobody was found: Docker has none of that name or id; Podman" in caught.value.sentence
    with pytest.raises(Raised) as caught:
        find(daemon.host, "docker:nobody")
    assert caught.value.sentence.endswith("Docker has none of that name or id")


def test_not_running(daemon):
    """A container that does not run has no network yet; the hint is to start it."""
    with pytest.raises(Raised, match="Docker container idle is not running") as caught:
        find(daemon.host, "idle")
    assert caught.value.kind == "NotFound"
    assert "start it" in caught.value.hint


def test_ambiguous_beginning(daemon):
    """The beginning of several ids is refused; the hint is to write more of it."""
    beginnings: set[str] = set()
    while True:
        full_id = daemon.docker("create", "--network", "none", "busybox", "sleep", "1000")
        if full_id[0] in beginnings:
            break
        beginnings.add(full_id[0])
    with pytest.raises(Raised, match=f"several Docker containers have an id that begins with {full_id[0]}") as caught:
        find(daemon.host, full_id[0])
    assert caught.value.kind == "InvalidRequest"
    assert "more of the id" in caught.value.hint


def test_hosts_own_network(daemon):
    """A container on the host's network is refused: there is nothing to attach to but the host."""
    daemon.run("on-host", network="host")
    with pytest.raises(Raised, match="Docker container on-host is in the host's own network") as caught:
        find(daemon.host, "on-host")
    assert caught.value.kind == "InvalidRequest"


def test_shared_network(daemon):
    """A container in another's network leads to that other's namespace."""
    daemon.run("beside", network="container:web")
    beside, web = find(daemon.host, "beside"), find(daemon.host, "web")
    assert (beside.inode, beside.cookie) == (web.inode, web.cookie)
    assert beside.reference != web.reference


def test_unchanged(daemon):
    """Nothing has changed as long as the container runs on; Docker need not even be there to be asked."""
    target = find(daemon.host, "web")
    assert resolve(daemon.host, target) == ("same", target)
    away = replace(target, socket="/absent")
    assert resolve(daemon.host, away) == ("same", away)


def test_restart(daemon, box):
    """After a restart the container has another namespace, although the kernel may number it as the old one."""
    before = find(daemon.host, "box")
    daemon.docker("restart", "--time", "0", "box")
    state, after = resolve(daemon.host, before)
    assert state == "changed"
    assert after == find(daemon.host, "box")
    assert (after.reference, after.pid) == (box, daemon.pid("box"))
    assert after.pid != before.pid
    assert after.cookie != before.cookie


def test_stop_start_and_removal(daemon, box):
    """A stopped container is stopped, started again changed, and removed gone: nothing is taken for something else."""
    before = find(daemon.host, "box")
    daemon.docker("kill", "box")
    wait_until(lambda: daemon.pid("box") == 0, "Docker sees the end of it")
    assert resolve(daemon.host, before) == ("stopped", None)
    daemon.docker("start", "box")
    assert resolve(daemon.host, before)[0] == "changed"
    daemon.docker("rm", "--force", "box")
    assert resolve(daemon.host, before) == ("gone", None)
    assert daemon.run("box") != box
    assert resolve(daemon.host, before) == ("gone", None)


@pytest.mark.usefixtures("box")
def test_unknown_when_docker_is_away(daemon):
    """When the process has ended and Docker does not answer, nothing is known: an error, not the end of the target."""
    before = find(daemon.host, "box")
    daemon.docker("kill", "box")
    wait_until(lambda: daemon.pid("box") == 0, "Docker sees the end of it")
    with pytest.raises(Raised, match="Docker is not on this host") as caught:
        resolve(daemon.host, replace(before, socket="/absent"))
    assert caught.value.kind == "DaemonNotFound"


def test_reused_pid(daemon):
    """A pid that belongs to another process by now is noticed by the time of its start; Docker is asked again."""
    target = find(daemon.host, "web")
    state, after = resolve(daemon.host, replace(target, started=target.started - 1))
    assert (state, after) == ("same", target)


@pytest.mark.usefixtures("box")
def test_opened_is_never_another(daemon):
    """A namespace is opened only if it is still the one that was found."""

    def inside(target):
        with targets.opened(target) as descriptor:
            return os.fstat(descriptor).st_ino

    before = find(daemon.host, "box")
    assert daemon.host.call(inside, before) == before.inode
    daemon.docker("restart", "--time", "0", "box")
    for stale in (before, replace(before, path=find(daemon.host, "box").path)):
        with pytest.raises(Raised) as caught:
            daemon.host.call(inside, stale)
        assert caught.value.kind == "NotFound"


def test_sandbox_where_pids_mean_nothing(daemon):
    """From another pid namespace Docker's pids mean nothing; its own handle of the namespace is used then."""
    code = "import json, dataclasses, dnet.runtime.targets as t; print(json.dumps(dataclasses.asdict(t.find('web'))))"
    script = 'mount -t proc proc /proc && exec "$0" -c "$1"'
    words = ("unshare", "--pid", "--fork", "--mount", "sh", "-c", script, sys.executable, code)
    seen = Target(**daemon.host.run(*words).json)
    target = find(daemon.host, "web")
    assert seen.path == daemon.docker("inspect", "--format", "{{.NetworkSettings.SandboxKey}}", "web")
    assert (seen.inode, seen.cookie, seen.pid) == (target.inode, target.cookie, 0)
    # It is found again by asking Docker.
    assert resolve(daemon.host, seen) == ("same", target)


def test_events(daemon, box):
    """Docker's containers are heard to start, die and be removed, beside other descriptors, without waiting."""

    def inside():
        heard = []
        events = docker.Events(docker.daemons()[0])
        assert events.read() == []
        for words in (["restart", "--time", "0", "box"], ["exec", "box", "busybox", "true"], ["rm", "--force", "box"]):
            subprocess.run(["docker", *words], check=True, capture_output=True)
        while not heard or heard[-1][0] != "destroy":
            assert select.select([events], [], [], 10)[0]
            heard += [(event.action, event.id, event.name) for event in events.read()]
        assert events.is_open
        events.close()
        return heard

    heard = daemon.host.call(inside)
    assert [action for action, _, _ in heard] == ["die", "start", "die", "destroy"]
    assert {(full_id, name) for _, full_id, name in heard} == {(box, "box")}
