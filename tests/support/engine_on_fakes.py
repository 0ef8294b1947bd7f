"""An engine with directories of its own, on the stand-ins of tests/support/fakes.py: a remembered machine."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnet.drivers import desired, host_files
from dnet.engine import Engine
from dnet.linux import listeners, watch_files
from dnet.model.container_spec import ContainerSpec
from dnet.transaction import containers
from tests.support.fakes import FakeKernel, FakeNft, FakeSwitch, snapshot

TABLES = ("network", "container", "endpoint", "port_mapping", "link")
EMPTY = (([], [], False), [[] for _ in TABLES], {})


class Machine:
    """An engine with its directories, kernel and nftables, all for one test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kernel = FakeKernel()
        self.nft = FakeNft()
        self.switch = FakeSwitch(self.kernel)
        self.notices: list[str] = []
        self.engine = self.another_engine()

    def close(self) -> None:
        """Close the engine that is open at last."""
        self.engine.close()

    def another_engine(self) -> Engine:
        """Return one more engine of the same directories and host, as another process would have."""
        state, run = str(self.directory / "state"), str(self.directory / "run")
        return Engine(state, run, self.notices.append, self.kernel, self.nft, self.switch)  # type: ignore[arg-type]

    def rows(self) -> list[list[tuple]]:
        """Return the contents of the database, as SQL tells it."""
        with contextlib.closing(sqlite3.connect(self.directory / "state" / "state.db")) as connection:
            return [sorted(connection.execute(f"SELECT * FROM {table}")) for table in TABLES]

    def phases(self) -> set[str]:
        """Return the phases that rows are in."""
        with contextlib.closing(sqlite3.connect(self.directory / "state" / "state.db")) as connection:
            return {
                phase for (phase,) in connection.execute("SELECT phase FROM container UNION SELECT phase FROM network")
            }

    def everything(self) -> tuple:
        """Return the host, the database and the files, to compare."""
        return (snapshot(self.kernel, self.nft), self.rows(), self.tree())

    def tree(self) -> dict[str, str]:
        """Return the containers' files, with their content, and what leads to them, with its target."""
        found = {}
        for place in (self.directory / "run" / "etc", Path(desired.ETC_DIRECTORY)):
            for path in sorted(place.rglob("*")):
                name = str(path.relative_to(self.directory))
                found[name] = str(path.readlink()) if path.is_symlink() else "" if path.is_dir() else path.read_text()
        return found

    def files(self) -> list[str]:
        """Return the files of operations, left by engines that are closed, and the names in `ip netns`."""
        self.engine.close()
        self.engine = self.another_engine()
        places = (self.directory / "state" / "operations", Path(desired.NAME_DIRECTORY))
        return sorted(path.name for place in places for path in place.iterdir())


@contextlib.contextmanager
def remembered(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Yield a machine on which nothing exists yet, all of whose files are below a directory."""
    for name in ("names", "etc-netns"):
        (directory / name).mkdir()
    (directory / "resolv.conf").write_text("nameserver 198.51.100.53\n", encoding="ascii")
    monkeypatch.setattr(desired, "NAME_DIRECTORY", str(directory / "names"))
    monkeypatch.setattr(desired, "ETC_DIRECTORY", str(directory / "etc-netns"))
    monkeypatch.setattr(host_files, "RESOLV_CONF", str(directory / "resolv.conf"))
    monkeypatch.setattr(containers, "SYSTEMD_RESOLV_CONF", str(directory / "systemd.conf"))
    monkeypatch.setattr(containers, "HOSTS", str(directory / "hosts"))
    monkeypatch.setattr(listeners, "RANGE_PATH", str(directory / "range"))
    (directory / "range").write_text("32768\t32799\n", encoding="ascii")
    made = Machine(directory)
    monkeypatch.setattr(watch_files, "changes_of", made.kernel.changes_of)
    with contextlib.closing(made):
        yield made


def specs(count: int, **wishes) -> list[ContainerSpec]:
    """Return specifications of c-1, c-2, ..."""
    return [ContainerSpec(name=f"c-{number}", **wishes) for number in range(1, count + 1)]
