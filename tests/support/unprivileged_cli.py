"""The command line as a process without any privilege.

Every process here runs without capabilities, also under root, so that whatever a wrong test makes it do, it cannot
touch the host; and in directories of its own. Input that has to be refused before any state is opened runs in the
test's own process, where an attempt to open some is a failure.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import pytest

import dnet
from dnet import cli
from dnet.state.store import Store

DNET = str(Path(sys.executable).parent / "dnet")


# The capabilities go, the user stays: the virtual environment may be where nobody else may look.
WITHOUT_PRIVILEGE = [
    shutil.which("setpriv") or "/usr/bin/setpriv",
    "--inh-caps=-all",
    "--ambient-caps=-all",
    "--bounding-set=-all",
]


PREFIX = WITHOUT_PRIVILEGE if os.geteuid() == 0 else []


# cli.md
EXIT_CODES = {
    "InvalidRequest": 2,
    "NotFound": 3,
    "Conflict": 4,
    "Exhausted": 5,
    "Unsupported": 6,
    "KernelRefused": 7,
    "OvsError": 8,
    "RuntimeFailed": 8,
    "StateError": 9,
    "NeedsRoot": 13,
    "DnetError": 1,
}


class Terminal:
    """Runs dnet with a state and a run directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.environment = os.environ | {"DNET_STATE_DIR": str(self.state), "DNET_RUN_DIR": str(directory / "run")}

    def run(
        self, *arguments: str, environment: Mapping[str, str] | None = None, **options
    ) -> subprocess.CompletedProcess[str]:
        """Run dnet to its end."""
        return subprocess.run(
            [*PREFIX, DNET, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env=self.environment | (environment or {}),
            **options,
        )

    def refused(self, *arguments: str, code: int, **options) -> str:
        """Run dnet, which has to fail with a code, a sentence and at most a hint; return the sentence."""
        done = self.run(*arguments, **options)
        assert done.returncode == code, done.stderr
        assert done.stdout == ""
        first, *hints = done.stderr.splitlines()
        assert first.startswith("dnet: ")
        assert len(hints) <= 1, "an error is one line, and one of advice"
        assert all(line.startswith("  ") and line.strip() for line in hints)
        return first.removeprefix("dnet: ")

    def write(self, name: str, text: str | bytes) -> str:
        """Write a file and return its path."""
        path = self.directory / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    def store(self) -> contextlib.closing[Store]:
        """Open the database, to put something into it."""
        return contextlib.closing(Store(str(self.state), str(self.directory / "run")))

    def rows(self) -> list[tuple]:
        """Return all that the database has; nothing when there is none."""
        if not (self.state / "state.db").exists():
            return []
        with contextlib.closing(sqlite3.connect(self.state / "state.db")) as connection:
            return [
                row
                for name in ("network", "container", "endpoint")
                for row in connection.execute(f"SELECT * FROM {name}")
            ]


class Inline(Terminal):
    """Runs dnet's main function in this process, for a fraction of the time; it must not come to open an engine."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__(directory)
        self._capsys = capsys
        monkeypatch.setenv("DNET_STATE_DIR", str(self.state))
        monkeypatch.setattr(dnet, "open", lambda *_arguments, **_options: pytest.fail("an engine was opened"))

    def run(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,  # noqa: ARG002
        **_options,
    ) -> subprocess.CompletedProcess[str]:
        """Call what main does before it exits."""
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            code = cli.run(list(arguments))
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        out, err = self._capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, out, err)


def commands() -> Iterator[tuple[str, click.Context]]:
    """Yield every command, by its words, with the context in which it would be parsed."""
    top = click.Context(cli.cli, info_name="dnet")
    yield "dnet", top
    stack = [top]
    while stack:
        context = stack.pop()
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            inner = click.Context(command, info_name=name, parent=context)
            yield inner.command_path, inner
            if isinstance(command, click.Group):
                stack.append(inner)


COMMANDS = dict(commands())
