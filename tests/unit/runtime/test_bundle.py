"""config.json, users by name, and which of the host's directories and file systems a container sees."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from dnet.errors import InvalidRequest
from dnet.model.container import Process, Settings
from dnet.model.container_spec import check_process
from dnet.runtime import bundle
from dnet.runtime.bundle import Layer, User, find_user
from tests.support import samples

ROOT = User(0, 0, (), "/root")
NOBODY = User(65534, 65534, (7,), "/nonexistent")

USERS = """\
root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin

# a comment
web:x:1000:1000:,,,:/home/web:/bin/sh
42:x:2000:2001::/home/number:/bin/sh
short:x
homeless:x:1001:1001:::
"""
GROUPS = """\
root:x:0:
adm:x:4:web,daemon
web:x:1000:
staff:x:50:daemon,web
bare:x:60
webs:x:61:webmaster
"""


# Users


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("", User(0, 0, (), "/root")),
        ("root", User(0, 0, (), "/root")),
        ("web", User(1000, 1000, (4, 50), "/home/web")),
        ("1000", User(1000, 1000, (4, 50), "/home/web")),
        ("daemon", User(1, 1, (4, 50), "/usr/sbin")),
        ("web:adm", User(1000, 4, (), "/home/web")),
        ("web:60", User(1000, 60, (), "/home/web")),
        ("web:61000", User(1000, 61000, (), "/home/web")),
        ("3000", User(3000, 0, (), "/")),
        ("3000:staff", User(3000, 50, (), "/")),
        ("3000:3001", User(3000, 3001, (), "/")),
        ("42", User(2000, 2001, (), "/home/number")),
        ("homeless", User(1001, 1001, (), "/")),
    ],
)
def test_users(text, user):
    """A user is found by name or number, a number also without an entry; other groups only where none is named."""
    assert find_user(text, USERS, GROUPS) == user


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nosuch", "user nosuch"),
        ("web:nosuch", "group nosuch"),
        ("short", "user short"),
        ("2147483648", "2147483648"),
        ("web:99999999999999999999", "99999999999999999999"),
        ("-1", "user -1"),
        ("\u0663", "\u0663"),  # a digit, but not to the kernel
    ],
)
def test_unknown_users(text, words):
    """Who is not there, and a number that the kernel does not have, is refused by name."""
    with pytest.raises(InvalidRequest, match=words):
        find_user(text, USERS, GROUPS)


def test_users_without_files():
    """Where the container has neither file, root and numbers are known all the same."""
    assert find_user("", "", "") == User(0, 0, (), "/")
    assert find_user("5:6", "", "") == User(5, 6, (), "/")
    with pytest.raises(InvalidRequest, match="web"):
        find_user("web", "", "")


# What of the host is seen

MOUNTINFO = """\
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
22 21 0:20 / /proc rw shared:2 - proc proc rw
23 21 0:21 / /sys rw - sysfs sysfs rw
24 21 0:5 / /dev rw - devtmpfs udev rw
25 24 0:22 / /dev/shm rw - tmpfs tmpfs rw
26 21 0:23 / /run rw - tmpfs tmpfs rw
27 26 0:4 net:[4026532288] /run/dnet/netns/0a1b2c rw - nsfs nsfs rw
28 21 8:1 / /boot/efi rw - vfat /dev/sda1 rw
29 21 8:2 / /home rw shared:3 master:4 - xfs /dev/sda2 rw
30 29 8:3 /sub /home/with\\040space rw - btrfs /dev/sda3 rw
31 21 0:30 / /var/lib/docker/overlay2/1/merged rw - overlay overlay rw
32 21 0:31 / /var/lib/libraries rw - nfs4 server:/export rw
33 21 0:32 / /mnt/remote rw - fuse.sshfs me@there: rw
34 21 0:33 / /srv/automatic rw - autofs systemd-1 rw
35 21 0:34 / /var/lib/dnet/deep rw - tmpfs tmpfs rw
36 21 0:35 / /mnt/cd ro - iso9660 /dev/sr0 ro
37 21 8:4 / /mnt/cd rw - ext4 /dev/sda4 rw
"""
DIRECTORIES = ["/usr", "/var", "/boot", "/home", "/proc", "/run", "/mnt"]


def test_mounted():
    """What is mounted is read from mountinfo: blanks in names, optional fields, the last of two at one place."""
    found = bundle.mounted(MOUNTINFO)
    assert found["/"] == "ext4"
    assert found["/home"] == "xfs"
    assert found["/home/with space"] == "btrfs"
    assert found["/mnt/remote"] == "fuse.sshfs"
    assert found["/mnt/cd"] == "ext4"
    assert not [path for path in found if "netns" in path]


def test_type_at():
    """The type of a path's file system is that of the nearest mount above it."""
    types = bundle.mounted(MOUNTINFO)
    places = {"/": "ext4", "/usr/bin": "ext4", "/home": "xfs", "/home/me/x": "xfs", "/homestead": "ext4"}
    assert {path: bundle.type_at(path, types) for path in places} == places
    assert bundle.type_at("/x", {}) == ""


def test_layers():
    """Each directory of the root and each real file system below is seen: those of disks overlaid or read-only.

    Left out are what the kernel makes up, what is hidden, and other programs' containers.
    """
    layers = bundle.layers(DIRECTORIES, bundle.mounted(MOUNTINFO), ["/var/lib/dnet"])
    assert layers == [
        Layer("/boot", is_overlaid=True),
        Layer("/boot/efi", is_overlaid=False),
        Layer("/home", is_overlaid=True),
        Layer("/home/with space", is_overlaid=True),
        Layer("/mnt", is_overlaid=True),
        Layer("/mnt/cd", is_overlaid=True),
        Layer("/usr", is_overlaid=True),
        Layer("/var", is_overlaid=True),
        Layer("/var/lib/libraries", is_overlaid=True),
    ]


def test_layers_have_names_of_their_own():
    """No two layers share a directory, whatever they are called."""
    paths = ["/a/b", "/a%2Fb", "/a-b", "/a", "/a%252Fb"]
    names = [Layer(path, is_overlaid=True).name for path in paths]
    assert len(set(names)) == len(paths)
    assert not [name for name in names if "/" in name]


# config.json


def document(process: Process | None = None, user: User = ROOT, **given: Any) -> dict[str, Any]:
    """Return config.json of a container, by default of one with a network that runs `true`."""
    net = samples.network()
    container = given.pop("container", samples.container(endpoints=[samples.endpoint(net, "10.1.0.2")]))
    return json.loads(
        bundle.config(
            container, process or check_process(["true"]), user, **{"root": "/x", "cgroup": "/dnet-1"} | given
        )
    )


def mounts(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a document's mounts by their places."""
    return {mount["destination"]: mount for mount in found["mounts"]}


def test_namespaces():
    """A container has namespaces of its own, and its sandbox's network."""
    container = samples.container()
    found = document(container=container)["linux"]["namespaces"]
    assert {item["type"]: item.get("path", "") for item in found} == {
        "pid": "",
        "mount": "",
        "uts": "",
        "ipc": "",
        "network": container.sandbox,
    }


def test_host_mode():
    """Without a sandbox the network is the host's, and none of its settings is touched."""
    found = document(container=samples.container(sandbox=""))["linux"]
    assert "network" not in {item["type"] for item in found["namespaces"]}
    assert found["sysctl"] == {}


def test_names():
    """Host name and domain are the container's, and the variable HOSTNAME says so."""
    settings = Settings(hostname="front", domainname="example.org")
    found = document(container=samples.container(settings=settings))
    assert found["hostname"] == "front"
    assert found["linux"]["sysctl"]["kernel.domainname"] == "example.org"
    assert "HOSTNAME=front" in found["process"]["env"]
    assert "kernel.domainname" not in document()["linux"]["sysctl"]


@pytest.mark.parametrize("is_read_only", [False, True])
def test_files_are_mounted(is_read_only):
    """The three files are mounted, last of all, and read-only where the root is."""
    container = samples.container()
    found = document(replace(check_process(["true"]), is_read_only=is_read_only), container=container)
    last = found["mounts"][-3:]
    assert {mount["destination"]: mount["source"] for mount in last} == {
        f"/etc/{name}": f"{container.files}/{name}" for name in ("hosts", "hostname", "resolv.conf")
    }
    assert all(("ro" in mount["options"]) is is_read_only for mount in last)
    assert found["root"]["readonly"] is is_read_only


def test_layers_are_mounted():
    """Each layer is an overlay with directories of its own, or bound read-only; then /run is the container's own."""
    layers = [Layer("/usr", is_overlaid=True), Layer("/usr/lib", is_overlaid=True), Layer("/boot", is_overlaid=False)]
    found = mounts(document(layers=layers, directory="/s/c"))
    assert found["/usr/lib"]["type"] == "overlay"
    options = ["lowerdir=/usr/lib", "upperdir=/s/c/upper/usr%2Flib", "workdir=/s/c/work/usr%2Flib"]
    assert found["/usr/lib"]["options"][:3] == options
    assert (found["/boot"]["type"], found["/boot"]["source"], found["/boot"]["options"]) == (
        "bind",
        "/boot",
        ["bind", "ro"],
    )
    assert found["/run"]["type"] == "tmpfs"
    assert list(found).index("/usr") < list(found).index("/usr/lib") < list(found).index("/proc")


def test_given_root_keeps_its_run():
    """With a root directory of the user's, nothing of the host's is mounted and /run is what it has there."""
    found = mounts(document())
    assert "/run" not in found
    assert "overlay" not in {mount["type"] for mount in found.values()}


def test_read_only_layers():
    """With --read-only no layer can be written to."""
    process = check_process(["true"], is_read_only=True)
    found = mounts(document(process, layers=[Layer("/usr", is_overlaid=True)], directory="/s"))
    assert "ro" in found["/usr"]["options"]


def test_paths_are_written_as_overlayfs_reads_them():
    """Commas, colons and backslashes in paths are escaped."""
    found = mounts(document(layers=[Layer("/mnt/a:b,c\\d", is_overlaid=True)], directory="/s,t"))
    options = found["/mnt/a:b,c\\d"]["options"]
    assert options[0] == r"lowerdir=/mnt/a\:b\,c\\d"
    assert options[1].startswith(r"upperdir=/s\,t/upper/")


def test_hidden_directories():
    """What is hidden is an empty read-only directory, mounted over the layers."""
    layers = [Layer("/var", is_overlaid=True)]
    found = mounts(document(layers=layers, directory="/s", hidden=["/var/lib/dnet"]))
    assert found["/var/lib/dnet"]["type"] == "tmpfs"
    assert "ro" in found["/var/lib/dnet"]["options"]
    assert list(found).index("/var") < list(found).index("/var/lib/dnet")


def test_capabilities_of_root():
    """Root has Docker's default capabilities: fourteen, administration of networks not among them."""
    found = document()["process"]["capabilities"]
    assert found["bounding"] == found["effective"] == found["permitted"]
    assert len(set(found["bounding"])) == 14
    assert {"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_CHOWN"} <= set(found["bounding"])
    assert not {"CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE"} & set(found["bounding"])


def test_capabilities_of_others():
    """Another user has none, as after setuid(2), but may get root's by a setuid program."""
    found = document(user=NOBODY)["process"]
    assert (found["capabilities"]["effective"], found["capabilities"]["permitted"]) == ([], [])
    assert len(found["capabilities"]["bounding"]) == 14
    assert found["noNewPrivileges"] is False
    assert (found["user"]["uid"], found["user"]["gid"], found["user"]["additionalGids"]) == (65534, 65534, [7])


def test_environment():
    """A process has PATH, HOSTNAME and HOME, TERM with a terminal, and what is asked for, which comes before."""
    assert environment(document(user=NOBODY)) == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME": "web",
        "HOME": "/nonexistent",
    }
    asked = check_process(["true"], env={"HOME": "/other", "A": "b=c", "EMPTY": ""}, has_terminal=True)
    found = environment(document(asked))
    assert (found["HOME"], found["A"], found["EMPTY"], found["TERM"]) == ("/other", "b=c", "", "xterm")


def environment(found: dict[str, Any]) -> dict[str, str]:
    """Return the variables of a document's process; each is there once."""
    pairs = [text.split("=", 1) for text in found["process"]["env"]]
    assert len({key for key, _ in pairs}) == len(pairs)
    return dict(pairs)


def test_terminal_size():
    """A terminal begins with the caller's size; without a terminal there is none to size."""
    with_terminal = check_process(["true"], has_terminal=True)
    assert document(with_terminal, size=(120, 40))["process"]["consoleSize"] == {"width": 120, "height": 40}
    assert "consoleSize" not in document(with_terminal)["process"]
    assert "consoleSize" not in document(size=(120, 40))["process"]


def test_devices_are_denied():
    """All devices are denied but for those that every OCI runtime allows."""
    assert document()["linux"]["resources"]["devices"] == [{"allow": False, "access": "rwm"}]


# exec


def test_further_process_is_like_the_first():
    """Without wishes, a further process has the first one's user, directory and variables."""
    first = document(check_process(["true"], env={"A": "1"}, workdir="/srv"), NOBODY)["process"]
    found = bundle.further_process(first, check_process(["id"]), None, None)
    assert found == {**first, "args": ["id"]}


def test_further_process_as_another_user():
    """With another user come that one's home directory and capabilities; its own variables come before all."""
    first = document(check_process(["true"], env={"A": "1", "B": "2"}))["process"]
    wish = check_process(["id"], env={"B": "3"}, workdir="/tmp", has_terminal=True)
    found = bundle.further_process(first, wish, NOBODY, (80, 24))
    assert found["user"]["uid"] == 65534
    assert found["capabilities"]["effective"] == []
    assert (found["cwd"], found["terminal"], found["consoleSize"]) == ("/tmp", True, {"width": 80, "height": 24})
    assert {"A=1", "B=3", "HOME=/nonexistent", "TERM=xterm"} <= set(found["env"])
