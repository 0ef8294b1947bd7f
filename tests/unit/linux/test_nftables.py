"""nftables transactions through the library, in a network namespace made for each test; `nft` itself is the oracle."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from typing import Any

import pytest

PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
UNSHARE = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
TABLE = "add table inet t; add chain inet t c; add set inet t s { type ipv4_addr; flags interval; }"
TABLE += "; add map inet t m { type inet_proto . inet_service : ipv4_addr . inet_service; counter; }"
TABLE += "; add element inet t m { tcp . 80 : 10.0.0.2 . 8080 }; add element inet t s { 10.1.0.0/16, 10.2.0.7 }"
# Tells, for each transaction and question, what came of it.
SCRIPT = """
import json, sys
from dnet.errors import DnetError
from dnet.linux.nftables import Nft
nft, answers = Nft(), []
for name, *arguments in json.loads(sys.argv[1]):
    try:
        answers.append(getattr(nft, name)(*arguments))
    except DnetError as error:
        answers.append([type(error).__name__, getattr(error, "errno", None), str(error)])
print(json.dumps(answers))
"""


@functools.cache
def _obstacle() -> str:
    if not shutil.which("nft", path=PATH):
        return "nft is not installed"
    done = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    return done.stderr.strip()


def answers(*calls: list[Any], before: str = "", prefix: list[str] | None = None) -> list[Any]:
    """Call methods of one Nft in a fresh namespace, after `nft` has run some commands there."""
    if _obstacle():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"needs nf_tables: {_obstacle()}")
    shell = 'nft "$0"; exec "$@"' if before else 'exec "$@"'
    command = [*UNSHARE, "sh", "-euc", shell, before, *(prefix or []), sys.executable, "-c", SCRIPT, json.dumps(calls)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=30, env=os.environ | {"PATH": PATH}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_transaction():
    """Commands run as one transaction take effect."""
    _, has, has_other = answers(
        ["run", ["add table inet t", "add chain inet t c"], "set up"], ["has_table", "inet t"], ["has_table", "ip t"]
    )
    assert (has, has_other) == (True, False)


def test_transaction_is_whole_or_nothing():
    """When one command of a transaction is refused, none of it takes effect."""
    refusal, has = answers(
        ["run", ["add table inet t", "add rule inet t absent counter"], "set up"], ["has_table", "inet t"]
    )
    assert refusal[0] == "KernelRefused"
    assert has is False


def test_no_commands_are_no_transaction():
    """Nothing to do needs neither library nor privilege."""
    assert answers(["run", [], "set up"]) == [None]


@pytest.mark.parametrize(
    ("command", "number", "words"),
    [
        ("delete element inet t s { 10.9.0.0/16 }", 2, "No such file or directory"),
        ("delete element inet t m { tcp . 81 }", 2, "No such file or directory"),
        ("delete table inet absent", 2, "No such file or directory"),
        ("add element inet absent s { 10.9.0.0/16 }", 2, "No such file or directory"),
        ("create table inet t", 17, "File exists"),
        ("add element inet t m { tcp . 80 : 10.0.0.3 . 8080 }", 17, "File exists"),
        ("frobnicate", 0, "syntax error"),
    ],
)
def test_refusal(command, number, words):
    """A refusal says what could not be done, in nftables' words, and has the kernel's errno."""
    ((kind, code, sentence),) = answers(["run", [command], "do this"], before=TABLE)
    assert (kind, code) == ("KernelRefused", number)
    assert sentence.startswith("cannot do this: ")
    assert words in sentence
    assert "\n" not in sentence


def test_without_privilege():
    """Without the privilege a transaction is refused as not permitted."""
    drop = ["setpriv", "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all"]
    ((_, code, sentence),) = answers(["run", ["add table inet t"], "set up"], prefix=drop)
    assert code is None, sentence
    assert "Operation not permitted" in sentence


def test_elements_of_a_set():
    """The elements of a set are read as their keys, prefixes with their length."""
    (found,) = answers(["elements", "inet t", "set", "s"], before=TABLE)
    assert sorted(found) == [[["10.1.0.0/16"], None, 0, 0], [["10.2.0.7"], None, 0, 0]]


def test_elements_of_a_map():
    """The elements of a map are read with their values, concatenations in parts, and their counters."""
    (found,) = answers(["elements", "inet t", "map", "m"], before=TABLE)
    assert found == [[["tcp", "80"], ["10.0.0.2", "8080"], 0, 0]]


def test_has_elements():
    """Whether a set holds anything is told, also of sets and tables that do not exist or are empty."""
    filled, absent, no_table = answers(
        ["has_elements", "inet t", "s"],
        ["has_elements", "inet t", "empty"],
        ["has_elements", "inet absent", "s"],
        before=TABLE + "; add set inet t empty { type ipv4_addr; }",
    )
    assert (filled, absent, no_table) == (True, False, False)


def test_listing_does_not_change_how_transactions_run():
    """After a listing, which is JSON, commands are text still."""
    listed, result, has = answers(
        ["json", "list tables", "table"],
        ["run", ["add table ip u", "add chain ip u c"], "set up"],
        ["has_table", "ip u"],
        before=TABLE,
    )
    assert [table["name"] for table in listed] == ["t"]
    assert (result, has) == (None, True)
