"""What a program that `dnet run` starts finds: namespaces, variables, user, names, files. One host serves all of it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.container_processes import inspected, require_runtime, wait_for_status
from tests.support.hosts import FakeHost
from tests.support.plugin import require_root

DOCKER_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHost]:
    """Yield a host with the network that containers are put on."""
    require_root()
    require_runtime()
    with FakeHost(tmp_path_factory.mktemp("shared"), is_in_memory=False) as host:
        host.dnet("create", "first")
        yield host


def test_own_namespaces(shared: FakeHost) -> None:
    """The program is process 1 of few, and each namespace is its own but the user's; the network's is the sandbox."""
    kinds = ("pid", "mnt", "uts", "ipc", "net", "user")
    show = f"for kind in {' '.join(kinds)}; do readlink /proc/self/ns/$kind; done"
    script = f"echo $$; {show}; ls /proc | grep -c '^[0-9]'"
    one, *names, count = shared.dnet("run", "--name", "alone", "sh", "-c", script).stdout.split()
    outside = shared.run("sh", "-c", show).stdout.split()
    assert one == "1"
    assert int(count) <= 3
    assert [kind for kind, inner, outer in zip(kinds, names, outside, strict=True) if inner == outer] == ["user"]
    key = inspected(shared, "alone")["NetworkSettings"]["SandboxKey"]
    assert names[4] == f"net:[{shared.run('stat', '-c', '%i', key).stdout.strip()}]"


def test_environment(shared: FakeHost) -> None:
    """The variables are Docker's and what -e gives; none of dnet's own caller, unless named alone."""
    options = ("-e", "A=1", "-e", "B=x y=z", "-e", "A=2", "-e", "GIVEN", "-e", "ABSENT", "-h", "front")
    done = shared.dnet("run", *options, "env", env={"GIVEN": "ours", "OTHER": "ours"})
    assert sorted(done.stdout.splitlines()) == sorted(
        [DOCKER_PATH, "HOSTNAME=front", "HOME=/root", "A=2", "B=x y=z", "GIVEN=ours"]
    )


def test_directory_and_user(shared: FakeHost) -> None:
    """-w is the working directory and -u the user, with its groups and home; the files made are that user's."""
    script = "pwd; id -un; id -gn; echo $HOME; touch /tmp/made; stat -c %U:%G /tmp/made"
    done = shared.dnet("run", "-w", "/usr/lib", "-u", "nobody", "sh", "-c", script).stdout.splitlines()
    assert done == ["/usr/lib", "nobody", "nogroup", "/nonexistent", "nobody:nogroup"]
    assert shared.dnet("run", "-u", "12345:23456", "sh", "-c", "id -u; id -g").stdout.split() == [
        "12345",
        "23456",
    ]
    assert not os.path.exists(shared.inside("/tmp/made"))


def test_capabilities(shared: FakeHost) -> None:
    """Root inside cannot mount, or configure the network, and it can ping; everybody can bind port 80."""
    script = (
        "mount -t tmpfs x /mnt && echo mounted; ip link set lo down && echo down; ip route add 10.9.0.0/16 dev lo && "
        "echo routed; ping -q -n -c 1 -W 2 172.17.0.1 >/dev/null && echo pinged"
    )
    assert shared.dnet("run", "sh", "-c", script).stdout == "pinged\n"
    bind = "import socket; socket.create_server(('', 80))"
    shared.dnet("run", "-u", "nobody", "python3", "-c", bind)


def test_names(shared: FakeHost) -> None:
    """The kernel, the file and the resolver agree on the host's name; by default it is the id's first 12 digits."""
    script = "hostname; cat /etc/hostname; uname -n; getent -s files hosts $(hostname) | cut -d' ' -f1; hostname -d"
    options = ("--name", "web", "-h", "front", "--domainname", "example.org")
    done = shared.dnet("run", *options, "sh", "-c", script).stdout.split()
    address = inspected(shared, "web")["NetworkSettings"]["IPAddress"]
    assert done == ["front", "front", "front", address, "example.org"]
    assert shared.dnet("run", "--name", "db", "hostname").stdout.strip() == inspected(shared, "db")["Id"][:12]


def test_three_mounts(shared: FakeHost) -> None:
    """`mount` shows hostname, hosts and resolv.conf, each a mount of its own, and they hold what was asked for."""
    options = ("--dns", "203.0.113.1", "--add-host", "db:10.9.0.5")
    script = "mount; echo --; cat /etc/resolv.conf; getent -s files hosts db"
    mounts, _, text = shared.dnet("run", *options, "sh", "-c", script).stdout.partition("--\n")
    places = [line.split()[2] for line in mounts.splitlines()]
    assert [places.count(f"/etc/{name}") for name in ("hostname", "hosts", "resolv.conf")] == [1, 1, 1]
    assert "nameserver 203.0.113.1\n" in text
    assert "10.9.0.5" in text


def test_copy_on_write(shared: FakeHost) -> None:
    """The program sees the host's files and may change, remove and add; the host's stay as they are."""
    shared.run("sh", "-c", "echo before >/etc/dnet-test; echo before >/etc/dnet-gone")
    script = (
        "cat /etc/dnet-test; echo after >/etc/dnet-test; rm /etc/dnet-gone; mkdir /usr/local/dnet-test /opt/dnet-test; "
        f"echo x >/var/dnet-test; rm -r {shared.directory}/mine; cat /etc/dnet-test; ls /etc/dnet-gone"
    )
    (shared.directory / "mine").mkdir()
    done = shared.dnet("run", "sh", "-c", script, code=2)
    assert done.stdout == "before\nafter\n"
    assert shared.run("cat /etc/dnet-test /etc/dnet-gone").stdout == "before\nbefore\n"
    places = ("/usr/local/dnet-test", "/opt/dnet-test", "/var/dnet-test")
    assert [path for path in places if os.path.exists(shared.inside(path))] == []
    assert (shared.directory / "mine").is_dir()


def test_written_files_go_with_the_container(shared: FakeHost) -> None:
    """What was written is there when the container is started again, and gone with it."""
    script = "cat /var/tmp/dnet-mark; echo again >>/var/tmp/dnet-mark; echo done"
    shared.dnet("run", "--name", "kept", "sh", "-c", script)
    shared.dnet("start", "kept")
    wait_for_status(shared, "kept", "exited (0)")
    assert shared.dnet("logs", "kept").stdout == "again\ndone\n"
    shared.dnet("rm", "kept")
    assert shared.run("find", str(shared.state_dir), "-name", "dnet-mark").stdout == ""


def test_read_only(shared: FakeHost) -> None:
    """With --read-only nothing can be written but what is the container's own, and is gone with it: /run, /dev/shm."""
    done = shared.dnet("run", "--read-only", "sh", "-c", "touch /run/x /dev/shm/x; touch /etc/x /x /var/x", code=1)
    assert done.stderr.count("Read-only file system") == 3


def test_own_directories(shared: FakeHost) -> None:
    """Of dnet's own files and the host's /run nothing is seen inside."""
    shared.run("touch /run/host-only")
    own = f"{shared.state_dir}/state.db {shared.run_dir}/netns"
    script = f"ls /run/host-only {own} /sys/firmware/* 2>/dev/null; echo over"
    assert shared.dnet("run", "sh", "-c", script).stdout == "over\n"
