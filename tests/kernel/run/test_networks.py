"""Running containers on their networks: published ports, modes, several networks, links, a root directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.container_processes import (
    busybox_tree,
    detached,
    execute,
    fetch,
    inspected,
    is_alive,
    pid_of,
    require_runtime,
    statuses,
    wait_for_log,
)
from tests.support.dnet_commands import address, network, run
from tests.support.hosts import FakeHost, Namespace, Neighbour
from tests.support.traffic import HOST

FOREVER = ("sleep", "1000")
# Serves the directory it is in, and says so at once.
SERVER = ("python3", "-u", "-m", "http.server", "80")


@pytest.fixture(autouse=True)
def _runtime() -> None:
    require_runtime()


def links_of(space: Namespace) -> list[str]:
    """Return the names of the interfaces that a namespace has."""
    return [link["ifname"] for link in space.json("ip -j link")]


# Published ports


def test_published_server(host: FakeHost, outside: Neighbour) -> None:
    """A web server of one command is reached from outside, from the host and by 127.0.0.1, and sees who asks."""
    (host.directory / "page").write_text("hello\n", encoding="ascii")
    detached(host, "web", "-p", "8080:80", "-w", str(host.directory), *SERVER)
    assert fetch(outside, f"http://{outside.host_address}:8080/page") == "hello\n"
    assert fetch(host, "http://127.0.0.1:8080/page") == "hello\n"
    assert fetch(host, f"http://{address(host, 'web')}/page") == "hello\n"
    assert outside.address in host.dnet("logs", "web").stdout + host.dnet("logs", "web").stderr
    run(host, "stop", "-t", "0", "web")
    assert outside.run("curl", "-s", f"http://{outside.host_address}:8080/page", code=7).stdout == ""
    run(host, "start", "web")
    assert fetch(outside, f"http://{outside.host_address}:8080/page") == "hello\n"


def test_reaching_the_outside(host: FakeHost, outside: Neighbour) -> None:
    """A program in a container reaches a server outside, which sees the host's address."""
    with outside.serve(4000):
        asked = (
            "import socket, sys\n"
            "connection = socket.create_connection((sys.argv[1], 4000), 5)\n"
            "connection.sendall(b'hello')\n"
            "print(connection.recv(1000).decode())"
        )
        done = host.dnet("run", "--rm", "python3", "-c", asked, outside.address).json
    assert done["peer"] == outside.host_address


# Modes


def test_mode_host(host: FakeHost, outside: Neighbour) -> None:
    """In mode host a program has the host's interfaces, name and ports; -p is only warned of, NAT is not made."""
    done = run(host, "run", "-d", "--name", "web", "--network", "host", "-p", "9999:80", *SERVER)
    assert "published ports are discarded in mode host" in done.stderr
    assert fetch(outside, f"http://{outside.host_address}:80/etc/hostname") == host.run("cat /etc/hostname").stdout
    assert outside.run("curl", "-s", f"http://{outside.host_address}:9999/", code=7).stdout == ""
    shown = execute(host, "web", "sh", "-c", "readlink /proc/self/ns/net; hostname; ls /sys/class/net").split()
    assert shown[:2] == host.run("sh", "-c", "readlink /proc/self/ns/net; hostname").stdout.split()
    assert sorted(shown[2:]) == sorted(links_of(host))
    document = inspected(host, "web")
    assert (document["HostConfig"]["NetworkMode"], document["NetworkSettings"]["IPAddress"]) == ("host", "")
    run(host, "rm", "-f", "web")
    assert "outside" in links_of(host)


def test_mode_none(host: FakeHost) -> None:
    """In mode none a program has lo and nothing else, and can talk to itself over it."""
    detached(host, "web", "--network", "none", *SERVER)
    assert execute(host, "web", "ls", "/sys/class/net") == "lo\n"
    assert fetch(host.sandbox("web"), "http://127.0.0.1/etc/hostname") == f"{inspected(host, 'web')['Id'][:12]}\n"
    assert execute(host, "web", "ip", "route") == ""


def test_mode_container(host: FakeHost, outside: Neighbour) -> None:
    """Two that share a namespace talk over lo and have one address, name and hosts; processes and files are apart."""
    options = ("-p", "8080:80", "-h", "front", "--add-host", "db:10.9.0.5")
    detached(host, "web", *options, "sh", "-c", "echo mine >/var/tmp/dnet-own; exec sleep 1000")
    detached(host, "server", "--network", "container:web", "-w", "/etc", *SERVER)
    assert fetch(outside, f"http://{outside.host_address}:8080/hostname") == "front\n"
    assert execute(host, "web", "curl", "-s", "http://127.0.0.1/hostname") == "front\n"
    for kind, is_shared in {"net": True, "mnt": False, "pid": False, "ipc": False}.items():
        names = [os.readlink(f"/proc/{pid_of(host, name)}/ns/{kind}") for name in ("web", "server")]
        assert (names[0] == names[1]) is is_shared, kind
    both = [execute(host, name, "sh", "-c", "hostname; cat /etc/hosts /etc/resolv.conf") for name in ("web", "server")]
    assert both[0] == both[1]
    assert "10.9.0.5\tdb" in both[0]
    assert execute(host, "web", "cat", "/var/tmp/dnet-own") == "mine\n"
    assert execute(host, "server", "ls", "/var/tmp/dnet-own", code=2) == ""
    rows = {row["name"]: row for row in run(host, "ps", "--json").json}
    assert rows["server"]["mode"] == "container:web"


def test_removing_what_others_share(host: FakeHost) -> None:
    """A container that lends its namespace is removed only with -f; the other's program goes on."""
    detached(host, "web", *FOREVER)
    detached(host, "side", "--network", "container:web", *FOREVER)
    run(host, "stop", "-t", "0", "web")
    assert "side" in run(host, "rm", "web", code=4).stderr
    assert statuses(host) == {"web": "exited (137)", "side": "running"}
    run(host, "start", "web")
    pids = [pid_of(host, name) for name in ("web", "side")]
    assert os.readlink(f"/proc/{pids[0]}/ns/net") == os.readlink(f"/proc/{pids[1]}/ns/net")
    run(host, "rm", "-f", "web")
    assert not is_alive(pids[0])
    run(host, "rm", "-f", "side")
    assert not is_alive(pids[1])


def test_several_networks(host: FakeHost) -> None:
    """With several networks a program has eth0, eth1, ... and one default route; its hosts name it at each address."""
    for number, name in enumerate(("blue", "red"), 1):
        network(host, name, "--subnet", f"10.{number}.0.0/24")
    detached(host, "web", "--network", "red", "--network", "name=blue,ip=10.1.0.9", "-h", "front", *FOREVER)
    detached(host, "server", "--network", "blue", *SERVER)
    assert execute(host, "web", "ls", "/sys/class/net").split() == ["eth0", "eth1", "lo"]
    assert execute(host, "web", "ip", "route", "show", "default") == "default via 10.1.0.1 dev eth1 \n"
    fetch(host, f"http://{address(host, 'server')}/")
    assert execute(host, "web", "curl", "-s", f"http://{address(host, 'server')}/etc/hostname") != ""
    found = execute(host, "web", "getent", "-s", "files", "ahosts", "front")
    assert {line.split()[0] for line in found.splitlines()} == {"10.1.0.9", "10.2.0.2"}
    run(host, "network", "disconnect", "red", "web")
    assert execute(host, "web", "ls", "/sys/class/net").split() == ["eth1", "lo"]


# Links


def test_link(host: FakeHost) -> None:
    """A linked container is found by alias, host name and name, and reached; its variables tell its ports."""
    detached(host, "db", "--expose", "80", "-h", "base", "-e", "SECRET=x", *SERVER)
    done = host.dnet("run", "--name", "web", "--link", "db:store", "-e", "OWN=1", "env").stdout.splitlines()
    found = address(host, "db")
    told = {line for line in done if line.startswith("STORE_")}
    assert told == {
        f"STORE_PORT=tcp://{found}:80",
        f"STORE_PORT_80_TCP=tcp://{found}:80",
        f"STORE_PORT_80_TCP_ADDR={found}",
        "STORE_PORT_80_TCP_PORT=80",
        "STORE_PORT_80_TCP_PROTO=tcp",
        "STORE_NAME=/web/store",
        "STORE_ENV_SECRET=x",
    }
    assert "OWN=1" in done
    names = "store", "base", "db"
    script = f"for name in {' '.join(names)}; do getent -s files hosts $name; done; curl -s http://store/etc/hostname"
    fetch(host, f"http://{found}/")
    lines = host.dnet("run", "--link", "db:store", "sh", "-c", script).stdout.splitlines()
    assert [line.split() for line in lines] == [[found, *names]] * 3 + [["base"]]
    assert "web/store" in {row["name"]: row["links"] for row in run(host, "ps", "--json").json}["db"]


def test_own_variables_win(host: FakeHost) -> None:
    """A variable that -e gives is not changed by a link, and `exec` sees those of links too."""
    detached(host, "db", "--expose", "5432", *FOREVER)
    detached(host, "web", "--link", "db", "-e", "DB_PORT=mine", *FOREVER)
    assert execute(host, "web", "sh", "-c", "echo $DB_PORT $DB_PORT_5432_TCP_PORT") == "mine 5432\n"


def test_link_follows_its_container(host: FakeHost) -> None:
    """When the linked container is made again at another address, a running parent finds it there."""
    detached(host, "db", *FOREVER)
    detached(host, "web", "--link", "db:store", *FOREVER)
    before = execute(host, "web", "getent", "-s", "files", "hosts", "store").split()[0]
    run(host, "rm", "-f", "db")
    assert execute(host, "web", "getent", "-s", "files", "hosts", "store", code=2) == ""
    run(host, "run", "-d", "--name", "db", "--ip", "172.17.9.9", *FOREVER)
    assert before != "172.17.9.9"
    assert execute(host, "web", "getent", "-s", "files", "hosts", "store").split()[0] == "172.17.9.9"


def test_linked_where_containers_may_not_talk(host: FakeHost) -> None:
    """On an --icc=false network a program reaches the exposed port of what it is linked to, and no other one."""
    network(host, "apart", "--icc=false", "--subnet", "10.3.0.0/24")
    detached(host, "db", "--network", "apart", "--expose", "80", *SERVER)
    detached(host, "other", "--network", "apart", *SERVER)
    for name in ("db", "other"):
        wait_for_log(host, name, "Serving")
    detached(host, "web", "--network", "apart", "--link", "db", *FOREVER)
    assert fetch(host, f"http://{address(host, 'db')}/etc/hostname") == execute(
        host, "web", "curl", "-s", "-m", "5", "http://db/etc/hostname"
    )
    execute(host, "web", "curl", "-s", "-m", "0.3", f"http://{address(host, 'other')}/", code=28)


# A root directory of its own


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a root directory with busybox and nothing else, as an unpacked image."""
    return busybox_tree(tmp_path / "tree")


def test_rootfs(host: FakeHost, tree: Path) -> None:
    """With --rootfs a program sees that tree, its users and the three files, and what it writes stays there."""
    script = "ls /; cat /etc/hostname; id; mount; echo kept >/tmp/kept"
    done = host.dnet("run", "--name", "web", "--rootfs", str(tree), "-u", "alice", "sh", "-c", script).stdout
    lines = done.splitlines()
    assert lines[:6] == sorted(path.name for path in tree.iterdir())
    assert lines[6] == inspected(host, "web")["Id"][:12]
    assert lines[7].startswith("uid=4711(alice) gid=4712")
    places = [line.split()[2] for line in lines[8:]]
    assert [f"/etc/{name}" in places for name in ("hostname", "hosts", "resolv.conf")] == [True] * 3
    assert (tree / "tmp" / "kept").read_text(encoding="ascii") == "kept\n"
    assert (tree / "tmp" / "kept").stat().st_uid == 4711
    run(host, "rm", "web")
    assert (tree / "bin" / "busybox").exists()


def test_rootfs_that_is_read_only(host: FakeHost, tree: Path) -> None:
    """With --read-only the tree stays as it is."""
    before = sorted(tree.rglob("*"))
    options = ("--rm", "--rootfs", str(tree), "--read-only")
    done = host.dnet("run", *options, "sh", "-c", "touch /tmp/x; touch /etc/hosts; echo x >/etc/hosts", code=1)
    assert done.stderr.count("Read-only file system") >= 2
    present = sorted(tree.rglob("*"))
    # What the three files are mounted on.
    assert [path for path in present if path not in before and path.parent.name != "etc"] == []
    assert not (tree / "tmp" / "x").exists()


def test_image_served(host: FakeHost, outside: Neighbour, tree: Path) -> None:
    """A server from an unpacked tree is published, found by another container by link, and started again."""
    detached(host, "web", "--rootfs", str(tree), "-p", "8080:80", "httpd", "-f", "-p", "80", "-h", "/etc")
    assert fetch(outside, f"http://{HOST[4]}:8080/passwd").startswith("root:")
    options = ("--rm", "--rootfs", str(tree), "--link", "web:site")
    assert host.dnet("run", *options, "wget", "-q", "-O", "-", "http://site/passwd").stdout.startswith("root:")
    run(host, "stop", "-t", "0", "web")
    run(host, "start", "web")
    assert fetch(outside, f"http://{HOST[4]}:8080/passwd").startswith("root:")
