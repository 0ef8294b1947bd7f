"""The log that conmon writes, read whole and followed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dnet.errors import KernelRefused, StateError
from dnet.linux import watch_files
from dnet.runtime import logs

TIME = "2026-03-04T05:06:07.123456789+00:00"


def log(path, *lines: str) -> str:
    """Write a log of lines without their times; return its path."""
    path.write_text("".join(f"{TIME} {line}" for line in lines))
    return str(path)


def test_entries(tmp_path):
    """An entry has time, stream and what was written; only whole lines end with a newline."""
    path = log(tmp_path / "log", "stdout F hello world\n", "stderr P part\n", "stdout F \n", "stderr F  two  blanks\n")
    assert list(logs.read(path)) == [
        (TIME, "stdout", b"hello world\n"),
        (TIME, "stderr", b"part"),
        (TIME, "stdout", b"\n"),
        (TIME, "stderr", b" two  blanks\n"),
    ]


def test_any_bytes(tmp_path):
    """What is no text comes as it is."""
    (tmp_path / "log").write_bytes(TIME.encode() + b" stdout F \xff\x00\xfe\r\n")
    assert [entry.data for entry in logs.read(str(tmp_path / "log"))] == [b"\xff\x00\xfe\r\n"]


def test_incomplete_line(tmp_path):
    """A line that is being written is left for later."""
    path = log(tmp_path / "log", "stdout F one\n", "stdout F tw")
    assert [entry.data for entry in logs.read(path)] == [b"one\n"]


@pytest.mark.parametrize("line", [b"hello\n", b"\xff \xfe \xfd\n", b"time stdout X text\n"])
def test_line_of_somebody_else(tmp_path, line):
    """A line that conmon has not written is named, after those before it."""
    path = tmp_path / "log"
    path.write_bytes(TIME.encode() + b" stdout F one\n" + line)
    entries = logs.read(str(path))
    assert next(entries).data == b"one\n"
    with pytest.raises(StateError, match="not conmon's"):
        next(entries)


# Writes one line in two halves, then waits for a word before each further one; ends after the last.
WRITER = """
import sys
log = open(sys.argv[1], "a", buffering=1)
log.write("T stdout F fi")
log.flush()
print("half", flush=True)
for line in ["rst", "T stderr F second", "T stdout F third"]:
    sys.stdin.readline()
    log.write(line + "\\n")
"""


def test_following(tmp_path):
    """Followed, a log gives each entry as it is written, and ends when the process that keeps it does."""
    path = log(tmp_path / "log", "stdout F zeroth\n")
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, path], stdin=pipe, stdout=pipe, text=True, bufsize=1
    ) as writer:
        assert writer.stdout.readline() == "half\n"
        followed = logs.read(path, lambda: os.pidfd_open(writer.pid))
        assert next(followed).data == b"zeroth\n"
        for data in (b"first\n", b"second\n", b"third\n"):
            writer.stdin.write("go\n")
            assert next(followed).data == data
        assert list(followed) == []


def test_following_what_has_ended(tmp_path):
    """What was written before the end is all there when the keeper has gone already."""
    path = log(tmp_path / "log", "stdout F one\n", "stdout F two\n")
    with subprocess.Popen(["true"]) as keeper:
        opened = os.pidfd_open(keeper.pid)
    assert [entry.data for entry in logs.read(path, lambda: opened)] == [b"one\n", b"two\n"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.close(opened)


def test_watching_what_is_not_there(tmp_path):
    """A directory that is missing cannot be watched, and the error names it."""
    with pytest.raises(KernelRefused, match="absent"):
        watch_files.Watch(str(tmp_path / "absent"))
