"""Programs and paths below a root directory, and what becomes of the host's."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from dnet.errors import InvalidRequest, RuntimeFailed, Unsupported
from dnet.runtime import rootfs
from dnet.runtime.bundle import User

PATH = "/usr/bin:/bin"


@pytest.fixture
def tree(tmp_path):
    """Return a root directory with programs, links of all kinds, and users."""
    root = tmp_path / "root"
    for name in ("usr/bin", "etc", "opt/tool/bin", "srv"):
        (root / name).mkdir(parents=True)
    for name, mode in (("usr/bin/tool", 0o755), ("usr/bin/plain", 0o644), ("opt/tool/bin/deep", 0o700)):
        (root / name).touch()
        (root / name).chmod(mode)
    (root / "bin").symlink_to("usr/bin")
    (root / "usr/bin/absolute").symlink_to("/opt/tool/bin/deep")
    (root / "usr/bin/relative").symlink_to("../../opt/tool/bin/deep")
    (root / "usr/bin/escaping").symlink_to("../../../../../../../../bin/sh")
    (root / "usr/bin/loop").symlink_to("loop")
    (root / "usr/bin/dangling").symlink_to("/nosuch")
    (root / "etc/passwd").symlink_to("/srv/passwd")
    (root / "srv/passwd").write_text("web:x:7:8::/home/web:\n")
    return str(root)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/usr/bin/tool", "/usr/bin/tool"),
        ("/bin/tool", "/usr/bin/tool"),
        ("//bin/./../bin/tool", "/usr/bin/tool"),
        ("/bin/absolute", "/opt/tool/bin/deep"),
        ("/bin/relative", "/opt/tool/bin/deep"),
        ("/../../etc", "/etc"),
        ("/bin/escaping", "/usr/bin/sh"),
        ("/nosuch/../etc", "/etc"),
        ("/", ""),
    ],
)
def test_paths_stay_inside(tree, path, place):
    """Links, absolute or upward, lead to where they would with the directory as root."""
    assert rootfs.inside(tree, path) == tree + place


def test_endless_links_end(tree):
    """A link to itself leads nowhere, and not for ever."""
    assert rootfs.inside(tree, "/bin/loop") == f"{tree}/usr/bin/loop"


def test_paths_of_the_host():
    """With the host's root, paths are what the kernel says they are."""
    for path in ("/bin/sh", "/etc/passwd", "/usr/bin/python3", "/"):
        assert rootfs.inside("", path) == os.path.realpath(path)


@pytest.mark.parametrize("program", ["tool", "absolute", "/bin/tool", "/usr/bin/relative", "./bin/tool", "bin/tool"])
def test_programs_are_found(tree, program):
    """A program is found by its name in PATH, by its path, and from the working directory."""
    found = rootfs.find_program(tree, program, PATH, "/usr" if program.startswith("./") else "/")
    assert found == tree + ("/usr/bin/tool" if program.endswith("tool") else "/opt/tool/bin/deep")


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("nosuch", 127),
        ("/bin/nosuch", 127),
        ("./tool", 127),
        ("dangling", 127),
        ("loop", 127),
        ("escaping", 127),
        ("plain", 126),
        ("/usr/bin/plain", 126),
        ("/usr", 126),
    ],
)
def test_programs_that_cannot_be_run(tree, program, code):
    """What is missing is 127, what cannot be executed 126, as to a shell; the error names it."""
    with pytest.raises(RuntimeFailed, match=program) as caught:
        rootfs.find_program(tree, program, PATH, "/srv")
    assert caught.value.exit_code == code
    assert caught.value.hint


OWN = Path(sys.executable).read_bytes()[:64]
SWAPPED = bytes([3 - OWN[5]])
FILES = {
    "of our own": (OWN, True),
    "of 32 bits": (OWN[:4] + b"\1" + OWN[5:18] + b"\x03\0", True),
    "script": (b"#!/bin/sh\n", True),
    "other processor": (OWN[:18] + b"\xff\xff" + OWN[20:], False),
    "other order of bytes": (OWN[:5] + SWAPPED + OWN[6:], False),
    "cut off": (OWN[:10], False),
    "text": (b"echo hello\n", False),
    "empty": (b"", False),
}


@pytest.mark.skipif(OWN[4] != 2, reason="this is no system of 64 bits")
@pytest.mark.parametrize(("head", "is_fit"), FILES.values(), ids=FILES)
@pytest.mark.parametrize(
    ("handlers", "can_tell"), [(None, True), ([], True), (["register", "status"], True), (["register", "java"], False)]
)
def test_what_the_kernel_executes(tmp_path, monkeypatch, head, is_fit, handlers, can_tell):
    """A binary of this processor and a script are fit; with handlers of somebody else's, anything may be."""
    directory = tmp_path / "binfmt_misc"
    if handlers is not None:
        directory.mkdir()
        for name in handlers:
            (directory / name).touch()
    monkeypatch.setattr(rootfs, "HANDLERS", str(directory))
    file = tmp_path / "program"
    file.write_bytes(head)
    assert rootfs.is_fit(str(file)) == (is_fit or not can_tell)


def test_program_that_has_gone(tmp_path):
    """Of what cannot be read nothing is said."""
    assert rootfs.is_fit(str(tmp_path / "nosuch"))


def test_users_are_those_inside(tree):
    """Users are looked for in the root's own files, wherever links there lead."""
    assert rootfs.find_user(tree, "web") == User(7, 8, (), "/home/web")
    with pytest.raises(InvalidRequest, match="daemon"):
        rootfs.find_user(tree, "daemon")


@pytest.mark.parametrize("kind", ["missing", "file", "dangling"])
def test_root_that_is_no_directory(tmp_path, kind):
    """A root directory has to be a directory."""
    place = tmp_path / "root"
    if kind == "file":
        place.touch()
    elif kind == "dangling":
        place.symlink_to("/nosuch")
    with pytest.raises(InvalidRequest, match=str(place)):
        rootfs.check_root(str(place), str(tmp_path))


@pytest.mark.parametrize("path", ["/", "//", "/usr/..", "link"])
def test_root_that_is_the_hosts(tmp_path, path):
    """The host's own root is not given to a container to write to, by whatever name."""
    (tmp_path / "link").symlink_to("/")
    with pytest.raises(InvalidRequest, match="host's own"):
        rootfs.check_root(str(tmp_path / path), str(tmp_path))


def test_state_where_overlayfs_cannot_write(tmp_path, monkeypatch):
    """With the state directory on a file system that cannot hold layers, only --rootfs is possible."""
    mountinfo = f"1 0 8:1 / / rw - ext4 a rw\n2 1 0:9 / {tmp_path} rw - overlay overlay rw\n"
    monkeypatch.setattr(rootfs.files, "read", lambda _: mountinfo)
    with pytest.raises(Unsupported, match=f"{tmp_path}.*overlay") as caught:
        rootfs.check_root("", str(tmp_path))
    assert "--rootfs" in caught.value.hint
    rootfs.check_root(str(tmp_path), str(tmp_path))
    rootfs.check_root("", "/elsewhere")
