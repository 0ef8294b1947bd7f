"""Attachments to containers of Docker's: found, remembered, attached again. The oracles are dockerd, ip and ping."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.attachment_lan import HOST4, PEER4, default, device, make_lan, names
from tests.support.dnet_commands import run
from tests.support.docker import Dockerd, running_dockerd
from tests.support.hosts import Namespace, wait_until

pytestmark = pytest.mark.kernel

ADDRESS = "192.168.1.150"
ATTACH = ("attach", "--bridge", "br0", "--ip", f"{ADDRESS}/24@{HOST4}")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    """Yield a Docker daemon on a host with a LAN on bridge br0."""
    with running_dockerd(tmp_path_factory.mktemp("dockerd")) as found:
        make_lan(found.host)
        yield found


@pytest.fixture
def web(daemon: Dockerd) -> Iterator[str]:
    """Yield the id of a running container `web`; afterwards nothing is attached to anything."""
    yield daemon.run("web")
    daemon.docker("rm", "--force", "web", code=None)
    run(daemon.host, "reconcile", code=None)
    refresh(daemon)
    assert daemon.host.rows("SELECT name FROM container") == []


def refresh(daemon: Dockerd) -> list[str]:
    """Refresh attachments, and return what was done."""
    done: list[str] = daemon.host.call(_refresh, daemon.host.directories)
    return done


def _refresh(directories: tuple[str, str]) -> list[str]:
    import dnet
    from dnet.operations import reattach

    with dnet.open(*directories) as engine:
        return [f"{item.what}{f': {item.error}' if item.error else ''}" for item in reattach.refresh(engine._context)]


def namespace_of(daemon: Dockerd, name: str = "web") -> Namespace:
    """Return the namespace of a running container."""
    return Namespace(name, daemon.host.pid, f"/proc/{daemon.pid(name)}/ns/net", {})


def peer(daemon: Dockerd) -> Namespace:
    """Return the machine on the LAN."""
    return daemon.host.sandbox("peer")


def listed(daemon: Dockerd) -> list[dict[str, Any]]:
    """Return what `attachment ls` lists."""
    return list(run(daemon.host, "attachment", "ls", "--json").json)


def test_by_name_and_id(daemon: Dockerd, web: str) -> None:
    """A container is attached by its name; its id, its short id and `docker:` mean the same one."""
    run(daemon.host, *ATTACH, "web")
    assert default(namespace_of(daemon)) == [(HOST4, "eth0")]
    assert peer(daemon).can_ping(ADDRESS)
    for reference in (web, web[:12], "docker:web"):
        [again] = run(daemon.host, *ATTACH, "--json", reference).json
        assert again["new"] is False
    [end] = [link for link in daemon.host.json("ip -j link") if "docker:web" in link.get("ifalias", "")]
    assert end["ifalias"].startswith("dnet docker:web eth0 ")
    assert [one["target"] for one in listed(daemon)] == ["docker:web"]
    run(daemon.host, "detach", web[:12])
    assert names(namespace_of(daemon)) == ["lo"]
    assert listed(daemon) == []


@pytest.mark.usefixtures("web")
def test_restarted_container_is_attached_again(daemon: Dockerd) -> None:
    """After `docker restart` the same interface, address, route and MAC address are there again."""
    run(daemon.host, *ATTACH, "-i", "lan0", "web")
    run(daemon.host, "route", "add", "web", "10.8.0.0/16", "via", PEER4)
    mac = device(namespace_of(daemon), "lan0")["address"]
    daemon.docker("restart", "--time", "0", "web")
    assert names(namespace_of(daemon)) == ["lo"]
    assert refresh(daemon) == ["docker:web, which has been restarted"]
    assert device(namespace_of(daemon), "lan0")["address"] == mac
    assert default(namespace_of(daemon)) == [(HOST4, "lan0")]
    assert [way["dst"] for way in namespace_of(daemon).json("ip -j route show via 192.168.1.2")] == ["10.8.0.0/16"]
    assert peer(daemon).can_ping(ADDRESS)
    assert refresh(daemon) == []


@pytest.mark.usefixtures("web")
def test_same_command_after_a_restart(daemon: Dockerd) -> None:
    """The command that attached it does so again, and what else was attached comes along."""
    run(daemon.host, *ATTACH, "web")
    run(daemon.host, "attach", "--bridge", "br0", "-i", "more0", "web")
    daemon.docker("restart", "--time", "0", "web")
    run(daemon.host, *ATTACH, "web")
    assert set(names(namespace_of(daemon))) == {"lo", "eth0", "more0"}
    assert peer(daemon).can_ping(ADDRESS)


@pytest.mark.usefixtures("web")
def test_stopped_container_is_remembered(daemon: Dockerd) -> None:
    """A container that is stopped keeps what it had, for when it starts; a removed one is forgotten."""
    run(daemon.host, *ATTACH, "web")
    daemon.docker("stop", "--time", "0", "web")
    wait_until(lambda: "docker:web" not in daemon.host.run("ip link").stdout, "its veth has gone with it")
    assert refresh(daemon) == []
    assert [one["target"] for one in listed(daemon)] == ["docker:web"]
    refused = run(daemon.host, *ATTACH, "web", code=3)
    assert "Docker container web is not running" in refused.stderr
    daemon.docker("start", "web")
    refresh(daemon)
    assert peer(daemon).can_ping(ADDRESS)
    daemon.docker("rm", "--force", "web")
    assert refresh(daemon) == ["removal of docker:web, which is gone"]
    assert listed(daemon) == []
    assert not [link for link in daemon.host.json("ip -j link") if "docker:web" in link.get("ifalias", "")]


@pytest.mark.usefixtures("web")
def test_another_container_of_the_same_name(daemon: Dockerd) -> None:
    """A new container of a removed one's name is not taken for it."""
    run(daemon.host, *ATTACH, "web")
    daemon.docker("rm", "--force", "web")
    daemon.run("web")
    run(daemon.host, "attach", "--bridge", "br0", "-i", "other0", "web")
    assert set(names(namespace_of(daemon))) == {"lo", "other0"}
    assert [one["interface"] for one in listed(daemon)] == ["other0"]
    run(daemon.host, "detach", "web")


@pytest.mark.usefixtures("web")
def test_watch_attaches_again(daemon: Dockerd) -> None:
    """A running `dnet watch` attaches as soon as the container has started, and forgets it when it is removed."""
    run(daemon.host, *ATTACH, "web")
    watch = daemon.host.start_dnet("watch")
    try:
        wait_until(lambda: watches(daemon), "dnet watch listens to Docker")
        daemon.docker("restart", "--time", "0", "web")
        wait_until(lambda: "eth0" in names(namespace_of(daemon)), "attached again", within_s=20)
        wait_until(lambda: peer(daemon).can_ping(ADDRESS), "it answers", within_s=20)
        daemon.docker("rm", "--force", "web")
        wait_until(lambda: listed(daemon) == [], "forgotten", within_s=20)
    finally:
        watch.terminate()
        _, messages = watch.communicate()
    assert "seen to: docker:web, which has been restarted" in messages
    assert "removal of docker:web, which is gone" in messages


def watches(daemon: Dockerd) -> bool:
    """Whether somebody has a connection to Docker's socket open."""
    lines = daemon.host.run("cat /proc/net/unix").stdout.splitlines()
    return sum(line.endswith("/docker.sock") and line.split()[5] == "03" for line in lines) > 0


@pytest.mark.usefixtures("web")
def test_network_of_dnets(daemon: Dockerd) -> None:
    """A container of Docker's on a network of dnet's talks to dnet's own containers, also after a restart."""
    run(daemon.host, "network", "create", "--subnet", "10.1.0.0/24", "blue")
    run(daemon.host, "create", "--network", "blue", "db")
    run(daemon.host, "attach", "--network", "blue", "web")
    assert daemon.host.sandbox("db").can_ping("10.1.0.3")
    daemon.docker("restart", "--time", "0", "web")
    refresh(daemon)
    assert daemon.host.sandbox("db").can_ping("10.1.0.3")
    run(daemon.host, "detach", "web")
    run(daemon.host, "rm", "db")
    run(daemon.host, "network", "rm", "blue")


def test_docker_that_does_not_answer(daemon: Dockerd, tmp_path: Path) -> None:
    """A socket at which nobody listens is named, and is another error than a container that is unknown."""
    unknown = run(daemon.host, *ATTACH, "nobody", code=3)
    assert "Docker has none of that name or id" in unknown.stderr
    path = str(tmp_path / "docker.sock")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    silent = daemon.host.dnet(*ATTACH, "docker:web", code=6, env={"DOCKER_HOST": f"unix://{path}"})
    assert f"cannot ask Docker at {path}: nobody listens there" in silent.stderr


def test_process_that_ends(daemon: Dockerd) -> None:
    """What is attached to a process is forgotten when that has ended; the host's own namespace is refused."""
    process = daemon.host.start("unshare", "--net", "sleep", "1000")
    own = daemon.host.run("readlink", "/proc/self/ns/net").stdout
    wait_until(lambda: daemon.host.run("readlink", f"/proc/{process.pid}/ns/net").stdout != own, "it has unshared")
    run(daemon.host, *ATTACH, f"pid:{process.pid}")
    assert peer(daemon).can_ping(ADDRESS)
    process.kill()
    process.wait()
    assert refresh(daemon) == [f"removal of pid:{process.pid}, which is gone"]
    assert daemon.host.rows("SELECT * FROM attachment") == []
    host = run(daemon.host, *ATTACH, f"pid:{daemon.host.pid}", code=2)
    assert "is in the host's own network" in host.stderr
