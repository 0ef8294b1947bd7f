"""What tests of containers' processes ask for again and again. The answers are the kernel's, and of programs inside."""

from __future__ import annotations

import fcntl
import glob
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.dnet_commands import run
from tests.support.hosts import FakeHost, Namespace, Result, program, wait_until

PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
# For what is not given at once by the kernel: programs that start, and end, on a machine that may be busy.
PATIENCE_S = 20.0


def require(**packages: str) -> None:
    """Skip the test unless all programs are there, each given with its Debian package; where CI=true, fail it."""
    missing = [f"{name} (package {package})" for name, package in packages.items() if not shutil.which(name, path=PATH)]
    if missing:
        sentence = f"these programs are missing: {', '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(sentence, pytrace=False)
        pytest.skip(sentence)


def require_runtime() -> None:
    """Skip the test unless containers' processes can be started; where CI=true, fail it."""
    require(conmon="conmon", **({} if shutil.which("runc", path=PATH) else {"crun": "crun"}))


def detached(host: FakeHost, name: str, *words: str) -> str:
    """Run `dnet run -d` with options and a command, and return the id that it prints."""
    return run(host, "run", "-d", "--name", name, *words).stdout.strip()


def inspected(host: FakeHost, name: str) -> dict[str, Any]:
    """Return `inspect`'s document of a container."""
    [document] = run(host, "inspect", name).json
    return dict(document)


def statuses(host: FakeHost) -> dict[str, str]:
    """Return the status of each container, as `ps --json` tells it."""
    return {item["name"]: item["status"] for item in run(host, "ps", "--json").json}


def wait_for_status(host: FakeHost, name: str, status: str) -> None:
    """Wait until a container has a status."""
    wait_until(lambda: statuses(host).get(name) == status, f"{name} is {status}", PATIENCE_S)


def wait_for_removal(host: FakeHost, name: str, identity: str) -> None:
    """Wait until a container has gone by itself, and whoever removes it has ended."""
    wait_until(lambda: name not in statuses(host), f"{name} has gone", PATIENCE_S)
    wait_until(lambda: not remains(identity), f"nothing is left of {name}", PATIENCE_S)


def wait_for_log(host: FakeHost, name: str, text: str) -> None:
    """Wait until a container has written a line with a text."""
    process = host.start_dnet("logs", "-f", name, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            process.kill()
            break
    else:
        raise AssertionError(f"container {name} has ended without {text!r}: {lines}")
    process.communicate()


def execute(host: FakeHost, name: str, *command: str, code: int = 0) -> str:
    """Run a program in a running container, and return what it prints."""
    return host.dnet("exec", name, *command, code=code).stdout


def pid_of(host: FakeHost, name: str) -> int:
    """Return the pid of a container's first process."""
    number: int = inspected(host, name)["State"]["Pid"]
    return number


def is_alive(pid: int) -> bool:
    """Whether a process has not ended."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False


def remains(identity: str) -> list[str]:
    """Return the control groups of a container, and the processes that have its id among their words."""
    found = [path for place in ("", "*/") for path in glob.glob(f"/sys/fs/cgroup/{place}dnet-{identity[:12]}")]
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            words = Path(path).read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if identity[:12].encode() in words:
            found.append(words.replace(b"\0", b" ").decode(errors="replace"))
    return found


def busybox_tree(root: Path) -> Path:
    """Make a root directory with busybox and two users, as an unpacked image; /tmp is for everybody."""
    require(busybox="busybox-static")
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    shutil.copy(str(shutil.which("busybox")), root / "bin" / "busybox")
    for name in ("sh", "cat", "ls", "sleep", "id", "mount", "hostname", "httpd", "wget", "touch", "env"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\nalice:x:4711:4712::/tmp:/bin/sh\n", encoding="ascii")
    return root


def fetch(space: Namespace, url: str, *options: str) -> str:
    """Return what curl gets from a server that may still be starting."""
    found: list[Result] = []

    def is_served() -> bool:
        # Proxies are for the machine that runs the tests.
        found.append(space.run("curl", "-sS", "--noproxy", "*", "--max-time", "5", *options, url, code=None))
        return found[-1].code == 0

    wait_until(is_served, f"{url}: {found[-1:]}", PATIENCE_S)
    return found[-1].stdout


# Terminals


class Terminal:
    """A terminal on which dnet runs."""

    def __init__(self, host: FakeHost, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        self.resize(100, 30, None)
        streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        # A process has a controlling terminal in a session of its own; setsid becomes dnet.
        self.process = host.start("setsid", "--ctty", program(), *words, **streams)
        os.close(theirs)
        self.seen = ""

    def resize(self, columns: int, lines: int, process: subprocess.Popen[str] | None) -> None:
        """Change the size as a window does, of which the kernel tells the process group in the foreground."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        assert process is None or process.poll() is None

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self._ours, text.encode())

    def wait(self, pattern: str) -> str:
        """Read what is shown until it matches a pattern; what is behind that is kept."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := re.search(pattern, self.seen)):
            assert select.select([self._ours], [], [], deadline - time.monotonic())[0], self.seen
            try:
                self.seen += os.read(self._ours, 4096).decode()
            except OSError:
                raise AssertionError(f"no {pattern} in {self.seen!r}") from None
        self.seen = self.seen[found.end() :]
        return found[0]

    def end(self) -> int:
        """Wait for dnet's end, and return its status."""
        code = self.process.wait(PATIENCE_S)
        os.close(self._ours)
        return code
