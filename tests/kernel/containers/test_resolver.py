"""The host's resolver changes: who watches brings containers' resolv.conf up to date."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import dnet
from tests.support.etc_files import MANY, NEW, PATIENCE_S, SERVER, conf, servers
from tests.support.hosts import FakeHost, wait_until
from tests.support.state_diff import inspect


class Watch:
    """A running `dnet watch`, which has said twice already that it has rewritten files."""

    def __init__(self, host: FakeHost) -> None:
        host.dnet("create", "sentinel")
        self._log = host.directory / "watch.log"
        in_place(host, "nameserver 198.51.100.99\n")
        with self._log.open("w", encoding="utf-8") as log:
            self._process = host.start_dnet("watch", stderr=log)
        self.wait(1)
        in_place(host, f"nameserver {SERVER}\n")
        self.wait(2)

    def said(self) -> list[str]:
        """Return what it has said, sentence by sentence."""
        return [line.removeprefix("dnet: ") for line in self._log.read_text(encoding="utf-8").splitlines()]

    def wait(self, count: int) -> None:
        """Wait until it has said so much."""
        wait_until(lambda: len(self.said()) >= count, f"{count} sentences: {self.said()}", PATIENCE_S)

    def end(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it by a signal; until then it has to run."""
        assert self._process.poll() is None, self.said()
        self._process.send_signal(number)
        stdout, _ = self._process.communicate(timeout=PATIENCE_S)
        assert (self._process.returncode, stdout) == (0, "")


def in_place(host: FakeHost, text: str) -> None:
    """Write the host's resolv.conf as an editor that keeps the file does."""
    # Not by way of `resolv_conf`: seen from the test, an absolute link leads to the machine's own files.
    host.run("sh", "-c", 'printf %s "$1" >/etc/resolv.conf', "-", text)


def renamed(host: FakeHost, text: str) -> None:
    """Replace the host's resolv.conf as network managers do."""
    host.run(
        "sh", "-c", 'printf %s "$1" >/etc/.resolv.conf.new && mv /etc/.resolv.conf.new /etc/resolv.conf', "-", text
    )


def removed(host: FakeHost, text: str) -> None:
    """Remove the host's resolv.conf and write another one."""
    host.run("sh", "-c", 'rm /etc/resolv.conf; printf %s "$1" >/etc/resolv.conf', "-", text)


def through_link(host: FakeHost, text: str) -> None:
    """Write the file that the host's resolv.conf leads to."""
    host.run("sh", "-c", 'printf %s "$1" >/run/resolver/real.conf', "-", text)


def through_link_renamed(host: FakeHost, text: str) -> None:
    """Replace the file that the host's resolv.conf leads to."""
    script = 'printf %s "$1" >/run/resolver/new && mv /run/resolver/new /run/resolver/real.conf'
    host.run("sh", "-c", script, "-", text)


def link_turned(host: FakeHost, text: str) -> None:
    """Make the host's resolv.conf lead elsewhere."""
    host.run("sh", "-c", 'printf %s "$1" >/run/other.conf && ln -sfn /run/other.conf /etc/resolv.conf', "-", text)


def inner_link_turned(host: FakeHost, text: str) -> None:
    """Make a link on the way from the host's resolv.conf to the file lead elsewhere."""
    script = 'printf %s "$1" >/run/other.conf && ln -sfn /run/other.conf /run/links/link'
    host.run("sh", "-c", script, "-", text)


PLAIN = "true"
LINK = "ln -sfn /run/resolver/real.conf /etc/resolv.conf"
LINKS = "mkdir /run/links; ln -s /run/resolver/real.conf /run/links/link; ln -sfn /run/links/link /etc/resolv.conf"
WAYS: dict[str, tuple[str, Callable[[FakeHost, str], None]]] = {
    "written in place": (PLAIN, in_place),
    "replaced by rename": (PLAIN, renamed),
    "removed and made again": (PLAIN, removed),
    "through a link": (LINK, through_link),
    "through a link, replaced by rename": (LINK, through_link_renamed),
    "link that leads elsewhere": (LINK, link_turned),
    "link to a link, written in place": (LINKS, through_link),
    "link to a link that leads elsewhere": (LINKS, inner_link_turned),
}


@pytest.mark.parametrize("way", WAYS)
def test_watch(host: FakeHost, way: str) -> None:
    """However the host's resolv.conf changes, containers have the new content, in the same file as before."""
    layout, change = WAYS[way]
    host.run("sh", "-ec", f"mkdir /run/resolver; cp /etc/resolv.conf /run/resolver/real.conf; {layout}")
    host.dnet("bulk-create", "--count", "3")
    paths = [conf(host, f"c-{number}") for number in (1, 2, 3)]
    inodes = [path.stat().st_ino for path in paths]
    watch = Watch(host)
    for count, server in enumerate((NEW, "198.51.100.55"), 3):
        change(host, f"nameserver {server}\n")
        watch.wait(count)
        assert all(server in path.read_text(encoding="ascii") for path in paths)
        assert servers(host, "c-2") == [server]
    assert [path.stat().st_ino for path in paths] == inodes
    watch.end()
    assert watch.said() == ["rewrote resolv.conf of 4 containers"] * 4


def test_watch_reaches_a_thousand(host: FakeHost) -> None:
    """A thousand containers have the new content soon after the host's has changed."""
    host.dnet("bulk-create", "--count", str(MANY))
    place = Path(host.inside(f"{host.run_dir}/etc"))
    watch = Watch(host)
    paths = [item / "resolv.conf" for item in place.iterdir()]
    assert len(paths) == MANY + 1
    renamed(host, f"nameserver {NEW}\n")

    def is_done() -> bool:
        while paths and NEW in paths[-1].read_text(encoding="ascii"):
            paths.pop()
        return not paths

    wait_until(is_done, f"all of {MANY} have it", PATIENCE_S)
    watch.wait(3)
    watch.end()
    assert watch.said()[-1] == f"rewrote resolv.conf of {MANY + 1} containers"


def test_running_program_sees_the_change(host: FakeHost) -> None:
    """A program that has been running in the container since before the change reads the new content."""
    host.dnet("create", "web")
    pipe = subprocess.PIPE
    script = "echo ready; read line; cat /etc/resolv.conf"
    process = host.start("ip", "netns", "exec", "web", "sh", "-c", script, stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    watch = Watch(host)
    renamed(host, f"nameserver {NEW}\n")
    watch.wait(3)
    watch.end()
    stdout, _ = process.communicate("\n", timeout=PATIENCE_S)
    assert f"nameserver {NEW}" in stdout.splitlines()


def test_watch_leaves_some_alone(host: FakeHost) -> None:
    """An edited file, and one made from --dns and --dns-search, are not written to; the others are."""
    for name, options in {"plain": [], "edited": [], "own": ["--dns", "203.0.113.1", "--dns-search", "."]}.items():
        host.dnet("create", *options, name)
    host.run("sh", "-c", f"echo options rotate >>{inspect(host, 'edited')['ResolvConfPath']}")
    plain, edited, own = (conf(host, name) for name in ("plain", "edited", "own"))
    before = [(path.read_text(encoding="ascii"), path.stat().st_mtime_ns) for path in (edited, own)]
    watch = Watch(host)
    in_place(host, f"nameserver {NEW}\n")
    watch.wait(3)
    watch.end()
    assert NEW in plain.read_text(encoding="ascii")
    assert watch.said()[-1] == "rewrote resolv.conf of 2 containers"
    assert [(path.read_text(encoding="ascii"), path.stat().st_mtime_ns) for path in (edited, own)] == before


def test_empty_moment_changes_nothing(host: FakeHost) -> None:
    """While the host's file is empty, or missing, nothing is written; what comes then is."""
    host.dnet("create", "web")
    path = conf(host, "web")
    watch = Watch(host)
    in_place(host, "")
    host.run("rm /etc/resolv.conf")
    in_place(host, "\n")
    in_place(host, f"nameserver {NEW}\n")
    wait_until(lambda: NEW in path.read_text(encoding="ascii"), "the new content", PATIENCE_S)
    watch.wait(3)
    watch.end()
    # Twice at the beginning, once for the new content.
    assert watch.said() == ["rewrote resolv.conf of 2 containers"] * 3


def test_watch_knows_systemd_when_it_comes(host: FakeHost) -> None:
    """When systemd-resolved starts after `dnet watch`, as when booting, containers get the servers behind its stub."""
    host.dnet("create", "web")
    path = conf(host, "web")
    watch = Watch(host)
    in_place(host, "nameserver 127.0.0.53\n")
    wait_until(lambda: "8.8.8.8" in path.read_text(encoding="ascii"), "the public ones", PATIENCE_S)
    script = "mkdir -p /run/systemd/resolve && cd /run/systemd/resolve && echo nameserver $0 >new && mv new resolv.conf"
    host.run("sh", "-c", script, NEW)
    wait_until(lambda: NEW in path.read_text(encoding="ascii"), "systemd's", PATIENCE_S)
    watch.end()


def test_watch_survives_deletions(host: FakeHost) -> None:
    """Containers that come and go while the host's file changes do not end the watching."""
    host.dnet("create", "stays")
    path = conf(host, "stays")
    watch = Watch(host)
    for number in range(5):
        host.dnet("bulk-create", "--count", "30")
        deleting = host.start_dnet("bulk-delete", "--prefix", "c")
        while deleting.poll() is None:
            in_place(host, f"nameserver 198.51.100.{100 + number}\n")
            in_place(host, f"nameserver 198.51.100.{200 + number}\n")
        assert deleting.returncode == 0
    in_place(host, f"nameserver {NEW}\n")
    wait_until(lambda: NEW in path.read_text(encoding="ascii"), "the last content", PATIENCE_S)
    watch.end()


def refresh(where: tuple[str, str]) -> int:
    """Call Engine.refresh_resolvers."""
    with dnet.open(*where) as engine:
        return engine.refresh_resolvers()


def test_refresh_once(host: FakeHost) -> None:
    """The library brings all containers up to date in one call, and says how many it has written."""
    host.dnet("bulk-create", "--count", "3")
    in_place(host, f"nameserver {NEW}\n")
    assert host.call(refresh, host.directories) == 3
    assert host.call(refresh, host.directories) == 0
    assert servers(host, "c-3") == [NEW]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_watch_ends_when_told(host: FakeHost, number: signal.Signals) -> None:
    """`dnet watch` ends at Ctrl-C and SIGTERM, with exit code 0 and without a word about it."""
    watch = Watch(host)
    watch.end(number)
    assert watch.said() == ["rewrote resolv.conf of 1 containers"] * 2
