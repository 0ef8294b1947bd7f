"""What a process in a container sees, as mount, ps and the rest show it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import dnet
from dnet.model.container import Container
from dnet.model.container_spec import check_process
from dnet.runtime.process import Runtime
from tests.support.dnet_commands import run as cli
from tests.support.hosts import FakeHost
from tests.support.plugin import require_root
from tests.support.runtime_box import (
    Box,
)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[FakeHost]:
    """Yield a host with dnet's directories on disk, where they would be seen if they were not hidden."""
    require_root()
    with FakeHost(tmp_path, is_in_memory=False) as fake:
        yield fake


def test_files_of_the_container(box: Box) -> None:
    """hosts, hostname and resolv.conf are the container's, each a mount; the names are the container's too."""
    box.create("named", "-h", "front", "--domainname", "example.org", "--add-host", "db:10.9.0.5")
    script = (
        "hostname; cat /proc/sys/kernel/domainname; getent hosts db; cat /etc/hostname; cat /etc/resolv.conf; mount"
    )
    lines = box.output("sh", "-c", script, name="named").splitlines()
    assert lines[:2] == ["front", "example.org"]
    assert lines[2].split() == ["10.9.0.5", "db"]
    assert lines[3] == "front"
    assert "nameserver 198.51.100.53" in lines
    mounted = [line.split()[2] for line in lines if " on " in line]
    assert {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"} <= set(mounted)


@pytest.mark.parametrize("target", ["/run/systemd/resolve/stub-resolv.conf", "../run/resolvconf/resolv.conf"])
def test_linked_resolv_conf(box: Box, target: str) -> None:
    """Where the host's resolv.conf is a link to where nothing is inside, the container's is there all the same."""
    box.host.run("rm", "/etc/resolv.conf")
    box.host.run("ln", "-s", target, "/etc/resolv.conf")
    out = box.output(
        "sh", "-c", "cat /etc/resolv.conf; findmnt -n -o TARGET /etc/resolv.conf; test ! -h /etc/resolv.conf"
    )
    assert "nameserver 198.51.100.53" in out
    assert out.splitlines()[-1] == "/etc/resolv.conf"


def test_files_change_while_it_runs(box: Box) -> None:
    """A change of the host's resolver reaches a running container."""
    box.start("sleep", "60")
    box.host.resolv_conf.write_text("nameserver 198.51.100.54\n", encoding="ascii")
    with dnet.open(*box.host.directories) as engine:
        assert engine.containers()
    box.host.call(lambda: dnet.open(*box.host.directories).refresh_resolvers())
    assert "nameserver 198.51.100.54" in box.output("cat", "/etc/resolv.conf", verb="execute")


def test_network_of_the_container(box: Box) -> None:
    """A process has its container's network, and reaches the host by it."""
    address = json.loads(box.output("ip", "-j", "-4", "address", "show", "eth0"))[0]["addr_info"][0]["local"]
    document = cli(box.host, "inspect", "web").json[0]["NetworkSettings"]
    assert address == document["IPAddress"]
    assert "1 received" in box.output("ping", "-n", "-c", "1", "-W", "5", document["Gateway"])


def test_network_modes(box: Box) -> None:
    """In mode none there is nothing but lo; in mode host are the host's devices."""
    box.create("alone", "--network", "none")
    assert [item["ifname"] for item in json.loads(box.output("ip", "-j", "link", name="alone"))] == ["lo"]
    out = str(box.host.directory / "devices")

    def on_host(runtime: Runtime, container: Container) -> int:
        os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT), 1)
        return runtime.run(replace(container, sandbox=""), check_process(["ip", "-j", "link"]))

    assert box.call(on_host) == 0
    seen = [item["ifname"] for item in json.loads(Path(out).read_text(encoding="ascii"))]
    assert seen == [item["ifname"] for item in box.host.json("ip -j link")]


def test_own_namespaces(each: Box) -> None:
    """A process is number 1 among its own, in namespaces of its own, and in its sandbox's network."""
    lines = each.output("sh", "-c", "echo $$; ps -e -o pid=; stat -L -c %i /proc/1/ns/*; ls /proc/1/ns").splitlines()
    assert lines[0] == "1"
    assert lines[1].strip() == "1"
    names = lines[-len(os.listdir("/proc/self/ns")) :]
    inodes = dict(zip(names, lines[-2 * len(names) : -len(names)], strict=True))
    host = {name: str(os.stat(f"/proc/{each.host.pid}/ns/{name}").st_ino) for name in names}
    assert not [name for name in ("pid", "mnt", "uts", "ipc", "net") if inodes[name] == host[name]]
    sandbox = cli(each.host, "inspect", "web").json[0]["NetworkSettings"]["SandboxKey"]
    assert inodes["net"] == str(os.stat(each.host.inside(sandbox)).st_ino)


def test_writes_stay_inside(each: Box) -> None:
    """The host's files are there to be read, changed and removed; the host's own stay as they were."""
    seen = each.host.directory / "seen"
    seen.mkdir()
    (seen / "old").write_text("old\n")
    (seen / "gone").touch()
    places = ["/etc", "/root", "/usr/local", "/var/tmp", str(seen)]
    script = f"cd {seen} && cat old && echo new >old && rm gone && mkdir deep && cat old"
    script += "".join(f" && touch {place}/written-by-a-container" for place in places)
    assert each.output("sh", "-c", script) == "old\nnew\n"
    assert sorted(os.listdir(seen)) == ["gone", "old"]
    assert (seen / "old").read_text() == "old\n"
    assert not [place for place in places if os.path.exists(each.host.inside(f"{place}/written-by-a-container"))]
    assert each.output("sh", "-c", f"ls {seen}; cat {seen}/old; ls /etc/written-by-a-container").split() == [
        "deep",
        "old",
        "written-by-a-container",
        "new",
        "/etc/written-by-a-container",
    ]
    each.create("other")
    assert each.output("ls", str(seen), name="other").split() == ["gone", "old"]
    each.remove()
    assert each.output("ls", str(seen)).split() == ["gone", "old"]


def test_modes_of_directories(box: Box) -> None:
    """Directories of the root have inside the owners and permissions that they have on the host."""
    command = ["stat", "-c", "%n %a %u %g", "/", "/tmp", "/root", "/etc", "/usr", "/var", "/home"]
    assert box.output(*command) == box.host.run(*command).stdout


def test_further_file_systems(box: Box) -> None:
    """A file system that is mounted below a directory of the host is seen too, and not written to."""
    box.host.run("sh", "-c", "mkdir -p /mnt/x:y,z; mount -t tmpfs disk /mnt/x:y,z; echo data >/mnt/x:y,z/file")
    assert box.output("sh", "-c", "cd /mnt/x:y,z && cat file && echo more >>file && cat file") == "data\ndata\nmore\n"
    assert box.host.run("cat", "/mnt/x:y,z/file").stdout == "data\n"
    box.host.run("umount", "/mnt/x:y,z")
    box.host.run("rmdir", "/mnt/x:y,z")


def test_hidden_directories(box: Box) -> None:
    """/run is the container's own, empty; dnet's state is not to be seen."""
    box.host.run("touch", "/run/secret")
    state, run = box.host.directories
    assert box.output("ls", "-A", "/run").split() in ([], ["lock"])
    assert box.output("ls", "-A", state, run).split() == [f"{run}:", f"{state}:"]
    assert box.output("sh", "-c", "mkdir /run/mine && test -w /run/mine && mount").count(" on /run ") == 1


def test_read_only(each: Box) -> None:
    """With --read-only nothing of the root can be written to, the three files neither; /run and /dev/shm can."""
    places = ["/written", "/etc/written", "/usr/written", "/etc/hosts", "/tmp/written"]
    always = ["/run/written", "/dev/shm/written"]
    script = "".join(f"(echo x >>{place}) 2>/dev/null && echo {place}; " for place in [*places, *always])
    assert each.output("sh", "-c", f"{script} true", is_read_only=True).split() == always
    assert each.output("sh", "-c", f"{script} true").split() == [*places, *always]


def test_given_root(each: Box, image: str) -> None:
    """With --rootfs a process has that directory as its root; what it writes is there; the three files are made."""
    script = "ls /; cat /etc/hostname; mount; echo kept >/kept; touch /etc/hosts"
    lines = each.output("sh", "-c", script, rootfs=image).splitlines()
    assert lines[:6] == ["bin", "dev", "etc", "proc", "sys", lines[5]]
    assert {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"} <= {line.split()[2] for line in lines if " on " in line}
    assert Path(image, "kept").read_text() == "kept\n"
    each.remove()
    assert Path(image, "kept").read_text() == "kept\n"
    assert Path(image, "etc/hosts").read_text() == ""
    assert each.run("sh", "-c", "touch /more 2>/dev/null", rootfs=image, is_read_only=True)[0] != 0
    assert not Path(image, "more").exists()


def test_users_of_a_given_root(box: Box, image: str) -> None:
    """Users and groups are those of the root directory, not the host's."""
    Path(image, "etc").mkdir()
    Path(image, "etc/passwd").write_text("own:x:4711:4712::/srv:/bin/sh\n")
    Path(image, "etc/group").write_text("more:x:4713:own\n")
    out = box.output("sh", "-c", "id -u; id -g; id -G; echo $HOME", rootfs=image, user="own")
    assert out.split() == ["4711", "4712", "4712", "4713", "/srv"]
    kind, sentence, _ = box.refusal("true", rootfs=image, user="daemon")
    assert (kind, "daemon" in sentence) == ("InvalidRequest", True)


def test_user_without_privileges(box: Box) -> None:
    """Another user than root has no capabilities, and may serve port 80 all the same."""
    script = "import socket, os; s = socket.socket(); s.bind(('', 80)); print(os.getuid(), os.getgid(), os.getgroups())"
    assert box.output("/usr/bin/python3", "-c", script, user="nobody:5").split() == ["65534", "5", "[]"]
    status = box.output("cat", "/proc/self/status", user="nobody")
    masks = dict(line.split() for line in status.splitlines() if line.startswith("Cap"))
    assert (int(masks["CapEff:"], 16), int(masks["CapPrm:"], 16)) == (0, 0)


def test_privileges_of_root(each: Box) -> None:
    """Root has fourteen capabilities, and can neither configure the network, mount, nor open the host's disks."""
    status = each.output("cat", "/proc/self/status")
    masks = dict(line.split() for line in status.splitlines() if line.startswith("Cap"))
    assert masks["CapEff:"] == masks["CapBnd:"] == "00000000a80425fb"  # what `docker run` shows
    assert each.run("ip", "link", "set", "eth0", "down")[0] != 0
    assert each.run("mount", "-t", "tmpfs", "x", "/mnt")[0] != 0
    number = os.stat("/").st_dev
    script = f"mknod /tmp/disk b {os.major(number)} {os.minor(number)} && head -c 1 /tmp/disk"
    assert "Operation not permitted" in each.run("sh", "-c", script)[2]
    assert each.run("sh", "-c", "echo 1 >/proc/sys/kernel/sysrq")[0] != 0
    assert each.output("sh", "-c", "echo x >/dev/null; head -c 2 /dev/zero | wc -c").strip() == "2"


def test_environment(each: Box) -> None:
    """A process has PATH, HOME and HOSTNAME, what is asked for, and nothing of the caller's."""
    identity = each.create("other")["Id"][:12]
    out = each.output(
        "sh", "-c", "env -0 | tr '\\0' '\\n'; pwd", name="other", env={"A": "b c"}, workdir="/srv/new/deep"
    )
    found = dict(line.split("=", 1) for line in out.splitlines()[:-1])
    assert found.pop("PWD") == "/srv/new/deep" == out.splitlines()[-1]
    found.pop("OLDPWD", None)
    assert found == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME": identity,
        "HOME": "/root",
        "A": "b c",
    }
