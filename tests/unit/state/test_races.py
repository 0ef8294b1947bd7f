"""Processes that use one database at the same time."""

from __future__ import annotations

import contextlib
import re
from collections import Counter

import pytest

from tests.support.stores import BLUE, another_process, insert, rows

RACE_SCRIPT = """
import sys
from dnet.errors import Conflict
from dnet.state.store import Store
from tests.support.stores import RUN, web
number, kind = int(sys.argv[2]), sys.argv[3]
store = Store(sys.argv[1], RUN)
print("ready", flush=True)
sys.stdin.readline()
for attempt in range(20):
    mine = f"{number}-{attempt}"
    index = 1000 * number + attempt
    if kind == "name":
        value = web(f"10.1.{number}.{attempt}", f"c-{attempt}", index, id=mine)
    elif kind == "address":
        value = web(f"10.1.0.{attempt}", mine, index, id=mine)
    try:
        with store.write():
            store.containers.insert([value], "owner")
    except Conflict:
        print("lost", attempt, flush=True)
    else:
        print("won", attempt, flush=True)
"""


@pytest.mark.parametrize("kind", ["name", "address"])
def test_race(store, directory, kind):
    """Of two processes that want the same names or addresses at the same time each is won by exactly one, whole."""
    insert(store, BLUE)
    with contextlib.ExitStack() as stack:
        racers = [
            stack.enter_context(another_process(RACE_SCRIPT, str(directory), str(number), kind)) for number in (1, 2)
        ]
        for racer in racers:
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            racer.stdin.write("go\n")
            racer.stdin.flush()
        lines = [line for racer in racers for line in racer.stdout.read().splitlines()]
        assert [racer.wait() for racer in racers] == [0, 0]
    expected = {f"{outcome} {attempt}": 1 for outcome in ("won", "lost") for attempt in range(20)}
    assert Counter(lines) == expected
    assert rows(directory, "SELECT count(*) FROM container") == [(20,)]
    assert rows(directory, "SELECT count(*), count(DISTINCT address) FROM endpoint")[0][0] == 20
    assert rows(directory, "SELECT name FROM container GROUP BY name HAVING count(*) > 1") == []


FIRST_SCRIPT = """
import sys
from dnet.errors import DnetError
from dnet.state.store import Store
print("ready", flush=True)
for line in sys.stdin:
    try:
        store = Store(line.strip(), "/run/x")
        with store.write():
            print(*store.take_indexes(50), flush=True)
    except DnetError as error:
        print(error, flush=True)
"""


def test_processes_make_one_database(tmp_path):
    """Processes that open a state directory for the first time at once agree on one database; none fails."""
    with contextlib.ExitStack() as stack:
        openers = [stack.enter_context(another_process(FIRST_SCRIPT)) for _ in range(3)]
        assert [opener.stdout.readline() for opener in openers] == ["ready\n"] * 3
        for number in range(20):
            for opener in openers:
                opener.stdin.write(f"{tmp_path / str(number)}\n")
                opener.stdin.flush()
            answers = [opener.stdout.readline().strip() for opener in openers]
            assert [answer for answer in answers if not re.fullmatch(r"[\d ]+", answer)] == []
            assert len({index for answer in answers for index in answer.split()}) == 150
