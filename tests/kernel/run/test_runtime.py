"""Processes in containers, started by crun or runc and looked after by conmon, as mount, ps and the rest see them."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import dnet
from dnet.linux import spawn
from dnet.model.container import Container
from dnet.model.container_spec import check_process
from dnet.runtime import oci
from dnet.runtime.process import Runtime
from tests.support.hosts import FakeHost, Raised, wait_until
from tests.support.publishing import run as cli

STATUS = ("state", "pid", "exit_code")
TIMEOUT_S = 30.0
UNIFIED = "/sys/fs/cgroup/unified"


def require(*programs: str) -> None:
    """Skip the test, or fail it where CI=true, unless the programs are installed."""
    missing = [name for name in programs if not spawn.find(name)]
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"not installed: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


# Calls the runtime for a container with its own standard files.
DRIVER = """
import json, sys, dnet
from dnet.model.container_spec import check_process
from dnet.runtime.process import Runtime
state, run, program, name, verb, wish = sys.argv[1:]
with dnet.open(state, run) as engine:
    container = engine.container(name)
runtime = Runtime(state, run, program)
wish = json.loads(wish)
process = check_process(wish.pop("args", ["true"]), **wish)
arguments = (container, process) if verb in ("run", "execute") else (container,)
sys.exit(getattr(runtime, verb)(*arguments))
"""


class Box:
    """Containers of a fake host, and what the runtime does with them; each call in a child inside the host."""

    def __init__(self, host: FakeHost, program: str) -> None:
        self.host = host
        self.program = program

    def create(self, name: str = "web", *options: str) -> dict[str, Any]:
        """Create a container's network; return `inspect`'s document of it."""
        document: dict[str, Any] = cli(self.host, "create", "--json", *options, name).json
        return document

    def call(self, function: Callable[[Runtime, Container], Any], name: str = "web") -> Any:
        """Call a function with the runtime and a container."""

        def inside() -> Any:
            with dnet.open(*self.host.directories) as engine:
                container = engine.container(name)
            return function(Runtime(*self.host.directories, self.program), container)

        return self.host.call(inside)

    def run(self, *args: str, name: str = "web", stdin: bytes = b"", verb: str = "run", **wishes: Any) -> Any:
        """Run a process in the foreground; return its exit status, and what it wrote to stdout and stderr."""
        files = [self.host.directory / file for file in ("in", "out", "err")]
        files[0].write_bytes(stdin)

        def inside(runtime: Runtime, container: Container) -> list[Any]:
            for number, file in enumerate(files):
                flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
                os.dup2(os.open(file, flags), number)
            code = getattr(runtime, verb)(container, check_process(args, **wishes))
            return [code, *(file.read_text() for file in files[1:])]

        return self.call(inside, name)

    def output(self, *args: str, **wishes: Any) -> str:
        """Run a process in the foreground and return what it wrote; it has to succeed."""
        code, out, errors = self.run(*args, **wishes)
        assert code == 0, out + errors
        return str(out)

    def start(self, *args: str, name: str = "web", on_exit: tuple[str, ...] = (), **wishes: Any) -> int:
        """Start a detached process and return its pid."""
        process = check_process(args, **wishes)
        pid: int = self.call(lambda runtime, container: runtime.start(container, process, on_exit), name)
        return pid

    def drive(self, verb: str, name: str = "web", prefix: tuple[str, ...] = (), **wish: Any) -> list[str]:
        """Return a command line that does something with a container, with its own standard files."""
        directories = self.host.directories
        return [*prefix, sys.executable, "-c", DRIVER, *directories, self.program, name, verb, json.dumps(wish)]

    def status(self, name: str = "web") -> tuple[str, int, int | None]:
        """Return state, pid and exit code of a container's process."""
        found = self.call(lambda r, c: [getattr(r.status(c), field) for field in STATUS], name)
        return tuple(found)

    def await_exit(self, name: str = "web") -> int | None:
        """Wait until a container's process has ended; return its exit status."""
        wait_until(lambda: self.status(name)[0] == "exited", f"{name} has ended")
        return self.status(name)[2]

    def log(self, name: str = "web") -> dict[str, str]:
        """Return what a container wrote, by stream."""

        def inside(runtime: Runtime, container: Container) -> dict[str, str]:
            found = {"stdout": "", "stderr": ""}
            for entry in runtime.log(container):
                found[entry.stream] += entry.data.decode()
            return found

        streams: dict[str, str] = self.call(inside, name)
        return streams

    def refusal(self, *args: str, verb: str = "run", name: str = "web", **wishes: Any) -> tuple[str, str, int | None]:
        """Return kind, sentence and exit code of the error that something ends with."""

        def inside(runtime: Runtime, container: Container) -> list[Any]:
            os.dup2(os.open(os.devnull, os.O_RDWR), 2)
            try:
                getattr(runtime, verb)(container, check_process(args, **wishes))
            except dnet.DnetError as error:
                return [type(error).__name__, str(error), getattr(error, "exit_code", None)]
            return ["nothing", "", None]

        return tuple(self.call(inside, name))

    def remove(self, name: str = "web") -> None:
        """Remove all of a container's process."""
        self.call(lambda runtime, container: runtime.remove(container), name)

    def remains(self) -> list[str]:
        """Return what is left of any container's process: files, control groups, processes."""
        kept = self.host.state_dir / "containers"
        running = Path(self.host.inside(self.host.run_dir / "runtime"))
        found = [str(path) for path in kept.iterdir()] if kept.exists() else []
        found += [str(path) for path in running.iterdir() if path.name != "states"] if running.exists() else []
        found += [str(path) for path in running.glob("states/*/*")]
        names = [row[0][:12] for row in self.host.rows("SELECT id FROM container")]
        groups = subprocess.run(
            ["find", "/sys/fs/cgroup", "-name", "dnet-*"], capture_output=True, text=True, check=False
        )
        found += [path for path in groups.stdout.split() if path.rpartition("dnet-")[2] in names]
        commands = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        found += [line for line in commands.splitlines() if "conmon" in line and any(name in line for name in names)]
        return found


def boxed(host: FakeHost, program: str) -> Iterator[Box]:
    """Yield the containers of a host; afterwards every process of them is gone."""
    require(program, "conmon")
    if program == "crun" and os.path.isdir(UNIFIED):
        # crun refuses controllers of both versions; without the second one, it takes the first for all there is.
        host.run("mount", "-t", "tmpfs", "hidden", UNIFIED)
    made = Box(host, program)
    try:
        yield made
    finally:
        for (name,) in host.rows("SELECT name FROM container"):
            made.remove(name)
    wait_until(lambda: not made.remains(), "nothing is left of the containers' processes")


@pytest.fixture(params=["crun", "runc"])
def each(host: FakeHost, request: pytest.FixtureRequest) -> Iterator[Box]:
    """Yield the containers of a host, once by each OCI runtime; one of them is made."""
    with contextlib.contextmanager(boxed)(host, request.param) as made:
        made.create()
        yield made


@pytest.fixture
def box(host: FakeHost) -> Iterator[Box]:
    """Yield the containers of a host by one OCI runtime; one of them is made."""
    with contextlib.contextmanager(boxed)(host, "crun" if spawn.find("crun") else "runc") as made:
        made.create()
        yield made


@pytest.fixture
def image(tmp_path: Path) -> str:
    """Return a root directory with nothing in it but busybox."""
    require("busybox")
    root = tmp_path / "image"
    (root / "bin").mkdir(parents=True)
    shutil.copy(spawn.find("busybox"), root / "bin" / "busybox")
    for name in ("sh", "cat", "ls", "id", "mount", "touch", "hostname", "true", "sleep", "stat"):
        (root / "bin" / name).symlink_to("busybox")
    return str(root)


def settled(box: Box) -> None:
    """Wait for conmon's last steps."""
    wait_until(lambda: not box.remains(), "nothing is left")


# In the foreground


def test_exit_status_and_files(each: Box) -> None:
    """A process has the caller's stdin, stdout and stderr, and its exit status is returned and remembered."""
    script = "cat; echo oops >&2; exit 3"
    assert each.run("sh", "-c", script, stdin=b"hello\n", is_interactive=True) == [3, "hello\n", "oops\n"]
    assert each.status()[::2] == ("exited", 3)
    assert each.run("true") == [0, "", ""]


def test_input_needs_i(box: Box) -> None:
    """Without -i there is nothing to read, whatever the caller's standard input holds."""
    assert box.run("cat", stdin=b"hello\n") == [0, "", ""]


@pytest.mark.parametrize("verb", ["run", "start"])
@pytest.mark.parametrize(
    ("program", "code"), [("nosuch", 127), ("/bin/nosuch", 127), ("/etc/passwd", 126), ("/etc", 126)]
)
def test_programs_that_cannot_be_run(box: Box, program: str, code: int, verb: str) -> None:
    """What is missing is 127, what cannot be executed 126; nothing of it is left."""
    before = box.host.snapshot()
    kind, sentence, found = box.refusal(program, verb=verb)
    assert (kind, found) == ("RuntimeFailed", code)
    assert program in sentence
    assert box.status() == ("created", 0, None)
    assert box.host.changes(before) == ""
    assert box.remains() == []


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "Terminated"), (signal.SIGINT, "Interrupt")])
def test_runtime_that_is_ended(host: FakeHost, number: signal.Signals, name: str) -> None:
    """A signal that the OCI runtime dies of before it has started the program is told as a shell would."""
    program = host.directory / "runtime"
    program.write_text(f'#!/bin/sh\ncase "$*" in *" run "*) kill -{int(number)} $$; esac\n', encoding="utf-8")
    program.chmod(0o755)
    box = Box(host, str(program))
    box.create()
    kind, sentence, code = box.refusal("true")
    assert (kind, code) == ("RuntimeFailed", 128 + number)
    assert sentence == f"cannot start container web: {name} came before it had been started"
    assert box.status() == ("created", 0, None)
    assert box.remains() == []


@pytest.mark.parametrize("verb", ["run", "start"])
def test_programs_that_only_the_runtime_misses(each: Box, verb: str) -> None:
    """A program that dnet sees but the container does not, is refused by the runtime, as 127, and nothing is left."""
    each.host.run("cp", "/bin/true", "/run/hidden")
    kind, sentence, code = each.refusal("/run/hidden", verb=verb)
    assert (kind, code) == ("RuntimeFailed", 127)
    assert "/run/hidden" in sentence
    assert each.status() == ("created", 0, None)
    settled(each)


@pytest.mark.parametrize(
    ("words", "wishes"),
    [
        ("/nosuch is not a directory", {"rootfs": "/nosuch"}),
        ("no user nosuch", {"user": "nosuch"}),
        ("no group nosuch", {"user": "root:nosuch"}),
        ("not a terminal", {"has_terminal": True, "is_interactive": True}),
    ],
)
def test_refused_before_anything_is_touched(box: Box, words: str, wishes: dict[str, Any]) -> None:
    """What can be seen to be wrong is refused in one sentence, and nothing has been made."""
    before = box.host.snapshot()
    with pytest.raises(Raised, match=words) as caught:
        box.run("true", **wishes)
    assert caught.value.kind == "InvalidRequest"
    assert box.host.changes(before) == ""


@pytest.mark.parametrize("name", ["INT", "TERM"])
def test_signals_are_passed_on(each: Box, name: str) -> None:
    """A signal to whoever runs the process reaches the process, once; its exit status comes back."""
    script = f"trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.01; done"
    process = each.host.start(*each.drive("run", args=["sh", "-c", script]), stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    wait_until(lambda: each.status()[0] == "running", "it is known to run")
    process.send_signal(getattr(signal, f"SIG{name}"))
    assert process.communicate(timeout=TIMEOUT_S)[0] == f"got {name}\n"
    assert process.returncode == 9
    assert each.status()[2] == 9


def test_signals_end_the_process(box: Box) -> None:
    """A process that a signal ends is 128 + its number."""
    process = box.host.start(*box.drive("run", args=["sh", "-c", "echo ready; sleep 60"]), stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    wait_until(lambda: box.status()[0] == "running", "it is known to run")
    box.call(lambda runtime, container: runtime.kill(container, signal.SIGKILL))
    assert process.wait(TIMEOUT_S) == 137
    assert box.status()[::2] == ("exited", 137)


# Terminals


@contextlib.contextmanager
def at_terminal(box: Box, verb: str, **wish: Any) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Run something with a terminal of 101 columns and 33 lines; yields our end of it."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (33, 101))
    files = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    process = box.host.start(*box.drive(verb, prefix=("setsid", "--ctty", "--wait"), **wish), **files)
    os.close(theirs)
    try:
        yield ours, process
    finally:
        os.close(ours)


def read_until(ours: int, text: str) -> str:
    """Read from a terminal up to a text."""
    found = ""
    while text not in found:
        assert select.select([ours], [], [], TIMEOUT_S)[0], f"nothing comes after {found!r}"
        try:
            found += os.read(ours, 1).decode()
        except OSError:
            raise AssertionError(f"the terminal is closed after {found!r}") from None
    return found


# Tells the size of its terminal at the start and at each change, and what it reads; ends after the second line.
SIZES = """
import os, select, signal
changed, told = os.pipe()
os.set_blocking(told, False)
signal.set_wakeup_fd(told)
signal.signal(signal.SIGWINCH, lambda *_: None)
lines = 0
while lines < 2:
    print("size", *os.get_terminal_size(), flush=True)
    ready, _, _ = select.select([0, changed], [], [])
    if 0 in ready:
        lines += 1
        print("read", os.read(0, 100).decode().strip(), flush=True)
    else:
        os.read(changed, 100)
raise SystemExit(7)
"""


@pytest.mark.parametrize("verb", ["run", "execute"])
def test_terminal(each: Box, verb: str) -> None:
    """With -it a process has a terminal of the caller's size, which follows it; what is typed is read, echoed once."""
    if verb == "execute":
        each.start("sleep", "60")
    wish = {"args": ["/usr/bin/python3", "-c", SIZES], "has_terminal": True, "is_interactive": True}
    with at_terminal(each, verb, **wish) as (ours, process):
        before = termios.tcgetattr(ours)
        assert read_until(ours, "\n") == "size 101 33\r\n"
        os.write(ours, b"hello\r")
        assert read_until(ours, "read hello\r\n").split() == ["hello", "read", "hello"]
        termios.tcsetwinsize(ours, (44, 120))
        read_until(ours, "size 120 44")
        os.write(ours, b"done\r")
        assert process.wait(TIMEOUT_S) == 7
        after = termios.tcgetattr(ours)
    assert after[:4] == before[:4]


def test_interrupt_at_terminal(each: Box) -> None:
    """With -it Ctrl-C is typed into the container's terminal: its foreground process is interrupted, once."""
    script = "trap 'echo got INT' INT; echo ready; until read word; do :; done; echo \"read $word\"; exit 4"
    wish = {"args": ["sh", "-c", script], "has_terminal": True, "is_interactive": True}
    with at_terminal(each, "run", **wish) as (ours, process):
        read_until(ours, "ready\r\n")
        os.write(ours, b"\x03")
        read_until(ours, "got INT\r\n")
        os.write(ours, b"word\r")
        assert read_until(ours, "read word\r\n").split() == ["word", "read", "word"]
        assert process.wait(TIMEOUT_S) == 4


def test_terminal_without_input(each: Box) -> None:
    """With -t alone a process has a terminal, also where the caller has none; nothing is read from the caller."""
    # crun (1.8) may end before it has passed on what was written last.
    script = "test -t 0 && test -t 1 && tty; echo $TERM; sleep 0.5"
    code, out, _ = each.run("sh", "-c", script, has_terminal=True, stdin=b"x\n")
    assert (code, out.split()[1:]) == (0, ["xterm"])
    assert out.startswith("/dev/")


# What a process sees


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


# Detached


def test_detached(each: Box) -> None:
    """A detached process outlives its caller, with nothing open but its standard files; each stream is logged apart."""
    script = "ls /proc/self/fd | wc -l; echo oops >&2; printf partial; read x; echo $x; exit 3"
    pid = each.start("sh", "-c", script, is_interactive=True)
    wait_until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sh\n", "it runs")
    assert each.status() == ("running", pid, None)
    sandbox = cli(each.host, "inspect", "web").json[0]["NetworkSettings"]["SandboxKey"]
    assert os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat(each.host.inside(sandbox)).st_ino
    wait_until(lambda: each.log()["stderr"] and each.log()["stdout"], "the output is logged")
    each.call(lambda runtime, container: runtime.kill(container, signal.SIGKILL))
    assert each.await_exit() == 137
    assert each.log() == {"stdout": "4\npartial", "stderr": "oops\n"}


def test_ends_are_noticed(each: Box) -> None:
    """A process that ends by itself is seen as running, and then as exited with its status, and nothing in between."""

    def watch(runtime: Runtime, container: Container) -> list[Any]:
        found = []
        for number in range(5):
            runtime.start(container, check_process(["sh", "-c", f"exit {number}"]))
            while (status := runtime.status(container)).state == "running":
                pass
            found.append([status.state, status.exit_code])
        return found

    assert each.call(watch) == [["exited", number] for number in range(5)]


def test_started_again(box: Box) -> None:
    """A container that has ended can be started again: with what it wrote, its log going on, and one exit status."""
    box.start("sh", "-c", "echo first; echo data >/etc/kept; exit 1")
    assert box.await_exit() == 1
    box.start("sh", "-c", "cat /etc/kept; exit 2")
    assert box.await_exit() == 2
    assert box.log()["stdout"] == "first\ndata\n"
    assert box.run("cat", "/etc/kept") == [0, "data\n", ""]
    assert box.status()[2] == 0
    assert box.refusal("nosuch", verb="start")[2] == 127
    assert box.status()[2] == 0
    box.host.run("cp", "/bin/true", "/run/hidden")
    assert box.refusal("/run/hidden", verb="start")[2] == 127
    assert box.status()[2] == 127
    assert box.run("cat", "/etc/kept") == [0, "data\n", ""]


def test_start_of_a_running_container(box: Box) -> None:
    """A container that runs is not started again."""
    pid = box.start("sleep", "60")
    for verb in ("start", "run"):
        kind, sentence, _ = box.refusal("true", verb=verb)
        assert (kind, sentence) == ("Conflict", "container web is running")
    assert box.status() == ("running", pid, None)


def test_two_starts_at_once(box: Box) -> None:
    """Of starts of one container at the same time one succeeds, the others are conflicts."""
    commands = [box.drive("run", args=["sh", "-c", "echo started; sleep 0.5"]) for _ in range(3)]
    pipe = subprocess.PIPE
    racing = [box.host.start(*command, stdout=pipe, stderr=pipe) for command in commands]
    outcomes = [process.communicate(timeout=TIMEOUT_S) for process in racing]
    assert sorted(out for out, _ in outcomes) == ["", "", "started\n"]
    assert sum("Conflict" in errors for _, errors in outcomes) == 2
    assert sorted(process.returncode for process in racing) == [0, 1, 1]


def test_detached_terminal(each: Box) -> None:
    """Detached with -t, a process has a terminal too, and waits for what nobody types."""
    each.start("sh", "-c", "tty; read x; echo never", has_terminal=True, is_interactive=True)
    wait_until(lambda: "/dev/" in each.log()["stdout"], "the terminal is named")
    assert each.status()[0] == "running"
    assert each.log()["stdout"].endswith("\r\n")


def test_following_the_log(box: Box) -> None:
    """Followed, the log gives what is written when it is written, with its time, and ends with the process."""

    def follow(runtime: Runtime, container: Container) -> list[Any]:
        script = "echo one; while ! test -s /tmp/gate; do sleep 0.01; done; echo two >&2"
        runtime.start(container, check_process(["sh", "-c", script]))
        found = []
        for entry in runtime.log(container, is_followed=True):
            found.append([entry.time[:2], entry.stream, entry.data.decode()])
            if entry.data == b"one\n":
                runtime.execute(container, check_process(["sh", "-c", "echo go >/tmp/gate"]))
        return [*found, runtime.status(container).state]

    assert box.call(follow) == [["20", "stdout", "one\n"], ["20", "stderr", "two\n"], "exited"]


def test_no_log(box: Box) -> None:
    """What ran in the foreground, or never, has no log, and the error says so."""
    box.run("true")
    with pytest.raises(Raised, match="web has no log") as caught:
        box.log()
    assert caught.value.kind == "NotFound"


def test_command_at_the_end(box: Box) -> None:
    """When a process ends, the command that was given is executed, and finds the exit status."""
    out = box.host.directory / "ended"
    command = ("/bin/sh", "-c", f'echo "$0" "$@" >{out}.new && mv {out}.new {out}', "--rm", "-f", "x y")
    box.start("true", on_exit=command)
    wait_until(out.exists, "the command has been executed")
    assert out.read_text() == "--rm -f x y\n"
    assert box.status()[2] == 0


def test_removed_at_the_end(box: Box) -> None:
    """Removal as the command at the end, which is --rm, leaves nothing, whether the process ends or is stopped."""
    command = tuple(box.drive("remove"))
    box.start("sh", "-c", "exit 3", on_exit=command)
    settled(box)
    assert box.status() == ("created", 0, None)
    box.start("sleep", "60", on_exit=command)
    assert box.call(lambda runtime, container: runtime.stop(container, 0.1)) is True
    settled(box)


def test_failed_start_executes_no_command(box: Box) -> None:
    """A start that fails or is interrupted leaves nothing, and what was to follow the end is not executed."""
    out = box.host.directory / "ended"
    command = ["/usr/bin/touch", str(out)]

    def interrupt(runtime: Runtime, container: Container) -> str:
        create = oci.create_kept

        def interrupted(*arguments: Any) -> int:
            create(*arguments)
            raise KeyboardInterrupt

        oci.create_kept = interrupted
        try:
            runtime.start(container, check_process(["sleep", "60"]), command)
        except KeyboardInterrupt:
            return runtime.status(container).state
        return "started"

    assert box.call(interrupt) == "created"
    settled(box)
    assert not out.exists()


# Ending


def test_stop(each: Box) -> None:
    """A process is asked to end, and its own exit status is known at once; there is nothing to stop afterwards."""
    each.start("sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done")
    wait_until(lambda: each.log()["stdout"] == "ready\n", "it listens")

    def stop(runtime: Runtime, container: Container) -> list[Any]:
        is_first = runtime.stop(container)
        status = runtime.status(container)
        return [is_first, status.state, status.exit_code, runtime.stop(container)]

    assert each.call(stop) == [True, "exited", 5, False]


def test_stop_by_force(box: Box) -> None:
    """A process that does not listen is killed when the time is up; all others in the container go with it."""
    pid = box.start("sh", "-c", "trap '' TERM; sleep 61 & exec sleep 62")
    wait_until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n", "it sleeps")
    children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=True).stdout.split()
    assert len(children) == 1

    def stop(runtime: Runtime, container: Container) -> list[Any]:
        is_first = runtime.stop(container, 0.2)
        return [is_first, runtime.status(container).state, runtime.status(container).exit_code]

    assert box.call(stop) == [True, "exited", 137]
    wait_until(lambda: not os.path.exists(f"/proc/{children[0]}"), "its child has gone")


def test_signals(box: Box) -> None:
    """Any signal can be sent to a process that runs, to one that does not it is a conflict."""
    box.start("sh", "-c", "trap 'exit 6' USR1; echo ready; while :; do sleep 0.01; done")
    wait_until(lambda: box.log()["stdout"] == "ready\n", "it listens")
    box.call(lambda runtime, container: runtime.kill(container, signal.SIGUSR1))
    assert box.await_exit() == 6
    with pytest.raises(Raised, match="web is not running") as caught:
        box.call(lambda runtime, container: runtime.kill(container, signal.SIGUSR1))
    assert caught.value.kind == "Conflict"


def test_remove(each: Box) -> None:
    """After removal nothing is left: processes, mounts, control groups, files; again is no failure."""
    before = each.host.snapshot()
    pid = each.start("sh", "-c", "mkdir -p /etc/a/b && chmod 0 /etc/a; rm /etc/hostname; sleep 61 & exec sleep 62")
    wait_until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n", "it sleeps")
    assert each.remains()
    mounts = each.host.run("findmnt", "--list", "--noheadings", "--output", "TARGET").stdout.splitlines()
    assert sorted(mounts) == sorted(line.split()[0] for line in before["mounts"])
    each.remove()
    assert not os.path.exists(f"/proc/{pid}")
    settled(each)
    each.remove()
    shutil.rmtree(each.host.inside(each.host.run_dir / "runtime"))
    (each.host.state_dir / "containers").rmdir()
    assert each.host.changes(before) == ""


def test_removal_of_what_has_ended(box: Box) -> None:
    """A container whose process has ended is removed like one that runs, and one that never ran is no failure."""
    box.remove()
    box.start("true")
    box.await_exit()
    box.remove()
    settled(box)
    assert box.status() == ("created", 0, None)


# Further processes


def test_execute(each: Box) -> None:
    """A further process is in the same container, with its own files and exit status."""
    each.start("sleep", "60", env={"A": "1"}, workdir="/srv")
    script = "cat; echo $$ >&2; pwd; echo $A $B; ps -e -o args= | grep -c '^sleep 60'; exit 5"
    code, out, errors = each.run(
        "sh", "-c", script, verb="execute", stdin=b"hello\n", is_interactive=True, env={"B": "2"}
    )
    assert (code, out.split()) == (5, ["hello", "/srv", "1", "2", "1"])
    assert int(errors) > 1
    assert each.run("sh", "-c", "kill -9 $$", verb="execute")[0] == 137
    out = each.output("sh", "-c", "id -un; pwd; echo $HOME", verb="execute", user="nobody", workdir="/usr")
    assert out.split() == ["nobody", "/usr", "/nonexistent"]


@pytest.mark.parametrize(("program", "code"), [("nosuch", 127), ("/etc/passwd", 126)])
def test_execute_what_cannot_be_run(each: Box, program: str, code: int) -> None:
    """A further process that cannot be executed is 126 or 127, and leaves nothing."""
    each.start("sleep", "60")
    before = each.remains()
    kind, sentence, found = each.refusal(program, verb="execute")
    assert (kind, found) == ("RuntimeFailed", code)
    assert program in sentence
    assert each.remains() == before


def test_execute_needs_a_running_container(box: Box) -> None:
    """In a container that never ran, or has ended, nothing further is run."""
    for _ in range(2):
        kind, sentence, _ = box.refusal("true", verb="execute")
        assert (kind, sentence) == ("Conflict", "container web is not running")
        box.run("true")


def test_execute_passes_signals_on(box: Box) -> None:
    """Signals to whoever waits for a further process reach that one, not the container's first."""
    pid = box.start("sleep", "60")
    script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done"
    process = box.host.start(*box.drive("execute", args=["sh", "-c", script]), stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT_S) == 9
    assert box.status() == ("running", pid, None)


# When nobody was there


def test_keeper_killed(each: Box) -> None:
    """Without conmon a process is still known to run and can be stopped; how it ended nobody knows."""
    pid = each.start("sleep", "60")
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        keeper = int(file.read().rpartition(")")[2].split()[1])
    os.kill(keeper, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{keeper}"), "conmon has gone")
    assert each.status() == ("running", pid, None)
    assert each.call(lambda runtime, container: runtime.stop(container, 0)) is True
    assert each.status() == ("exited", 0, None)
    each.start("true")
    assert each.await_exit() == 0


def test_foreground_caller_killed(box: Box) -> None:
    """When whoever ran a process in the foreground is killed, the process runs on and is known to."""
    process = box.host.start(*box.drive("run", args=["sh", "-c", "echo ready; sleep 60"]), stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.kill()
    process.wait(TIMEOUT_S)
    state, pid, _ = box.status()
    assert (state, Path(f"/proc/{pid}/comm").read_text()) == ("running", "sh\n")
    box.remove()
    assert not os.path.exists(f"/proc/{pid}")
    settled(box)


@pytest.mark.parametrize("is_run_kept", [False, True])
def test_reboot(box: Box, *, is_run_kept: bool) -> None:
    """After a reboot what ran has ended, although its number be somebody else's; what had ended is unchanged."""
    other = box.create("other")["Id"][:12]
    box.start("sh", "-c", "exit 4", name="other")
    assert box.await_exit("other") == 4
    pid = box.start("sh", "-c", "echo data >/etc/kept; sleep 60")
    wait_until(lambda: box.run("test", "-s", "/etc/kept", verb="execute")[0] == 0, "it has written")
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        keeper = int(file.read().rpartition(")")[2].split()[1])
    os.kill(keeper, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "it has gone")
    running = Path(box.host.inside(box.host.run_dir / "runtime"))
    identity = cli(box.host, "inspect", "web").json[0]["Id"][:12]
    if is_run_kept:
        (running / identity / "pid").write_text(str(box.host.pid))
    else:
        shutil.rmtree(running)
        subprocess.run(["find", "/sys/fs/cgroup", "-depth", "-name", f"dnet-{identity}", "-delete"], check=False)
        subprocess.run(["find", "/sys/fs/cgroup", "-depth", "-name", f"dnet-{other}", "-delete"], check=False)
    assert box.status("other")[::2] == ("exited", 4)
    assert box.status() == ("exited", 0, None)
    assert box.call(lambda runtime, container: runtime.stop(container)) is False
    assert box.run("cat", "/etc/kept") == [0, "data\n", ""]


# Programs


def test_missing_programs(box: Box) -> None:
    """Without a runtime, or conmon, the error names the package to install; foreground needs no conmon."""

    def without(*names: str) -> Any:
        def inside(*_: Any) -> list[str]:
            find = spawn.find
            spawn.find = lambda name: "" if name in names else find(name)
            own = Runtime(*box.host.directories)
            try:
                own.check(check_process(["true"]), is_detached="conmon" in names)
            except dnet.DnetError as error:
                return [type(error).__name__, error.hint]
            return []

        return box.call(inside)

    assert without("conmon") == ["Unsupported", "install the package conmon (Debian's name)"]
    kind, hint = without("crun", "runc")
    assert (kind, "crun" in hint) == ("Unsupported", True)
    assert without() == []


def test_runtime_that_does_not_fit(box: Box) -> None:
    """Where control groups are of both versions, crun cannot work: then runc is chosen, or asked for."""
    places = [box.host.directory / "controllers", box.host.directory / "none"]
    places[0].write_text("hugetlb\n")

    def choose(path: Path, *missing: str) -> str:
        def inside(*_: Any) -> str:
            oci.HYBRID_CONTROLLERS = str(path)
            spawn.find = lambda name: "" if name in missing else f"/bin/{name}"
            try:
                return oci.Programs("/", "").choose()
            except dnet.Unsupported as error:
                return error.hint

        chosen_program: str = box.call(inside)
        return chosen_program

    assert choose(places[0]) == "/bin/runc"
    assert choose(places[1]) == "/bin/crun"
    assert choose(places[1], "crun") == "/bin/runc"
    assert choose(places[0], "runc") == "install the package runc"
