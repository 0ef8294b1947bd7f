"""Bad input: each has its sentence and its exit code, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.support.hosts import FakeHost, Result, program
from tests.support.plugin import require_root


def check(result: Result, code: int, words: str) -> None:
    """Check an error: its exit code, one sentence with these words, then at most hints; no traceback, no output."""
    assert result.code == code, result.stderr
    assert result.stdout == ""
    first, *rest = result.stderr.splitlines()
    assert re.match(r"dnet: \S.*[^.]$", first), first
    assert re.search(words, first), first
    assert all(line.startswith("  ") for line in rest)
    assert "Traceback" not in result.stderr


# (exit code, words of the sentence, arguments); there are network bridge with `web` at 172.17.0.9, and network
# small, 10.2.0.0/29 with 5 free addresses of 6.
BAD = [
    (3, "no network absent", "create --network absent x"),
    (3, "no network absent", "bulk-create --count 2 --network absent"),
    (3, "no network absent", "network rm absent"),
    (3, "no network absent", "network inspect absent"),
    (3, "no container absent", "rm absent"),
    (3, "no container absent", "inspect absent"),
    (3, "no container absent", "bulk-delete absent"),
    (2, "name '-x'|no such option", "create -- -x"),
    (2, "name 'a/b'", "create a/b"),
    (2, "name 'a b'", ["create", "a b"]),
    (2, "name '\\.\\.'", "create .."),
    (2, "name 'café'", "create café"),
    (2, "name 'x{129}'", f"create {'x' * 129}"),
    (2, "name 'a/b'", "network create a/b"),
    (2, "name '_b-1'", "bulk-create --count 1 --prefix _b"),
    (2, "none", "network create none"),
    (2, "host", "network create host"),
    (4, "web", "create web"),
    (4, "web", "create --network none web"),
    (4, "web-1", "bulk-create --count 3 --prefix web --start 0"),
    (4, "network bridge", "network create bridge"),
    (4, "172.17.0.9.*web", "create --ip 172.17.0.9 x"),
    (4, "gateway", "create --ip 172.17.0.1 x"),
    (2, "10.9.9.9.*outside", "create --ip 10.9.9.9 x"),
    (2, "172.17.0.0.*network", "create --ip 172.17.0.0 x"),
    (2, "172.17.255.255.*broadcast", "create --ip 172.17.255.255 x"),
    (2, "'172.17.0.300'", "create --ip 172.17.0.300 x"),
    (2, "'nonsense'", "create --ip nonsense x"),
    (2, "mode none", "create --network none --ip 10.0.0.1 x"),
    (4, "172.17.0.0/24.*bridge", "network create --subnet 172.17.0.0/24 x"),
    (4, "10.0.0.0/8.*small", "network create --subnet 10.0.0.0/8 x"),
    (4, "192.0.2.0/24", "network create --subnet 192.0.2.0/25 x"),
    (4, "203.0.113.0/24", "network create --subnet 203.0.113.128/25 x"),
    (5, "3 more fit|3", "bulk-create --count 6 --network small"),
    (2, "too small", "network create --subnet 10.3.0.0/31 x"),
    (2, "too small", "network create --subnet 10.3.0.0/32 x"),
    (2, "'10.3.0.1/24'", "network create --subnet 10.3.0.1/24 x"),
    (2, "'10.3.0.0/33'", "network create --subnet 10.3.0.0/33 x"),
    (2, "'10.3.0/24'", "network create --subnet 10.3.0/24 x"),
    (2, "prefix length", "network create --subnet 10.3.0.0 x"),
    (2, "224.0.0.0/16", "network create --subnet 224.0.0.0/16 x"),
    (2, "127.5.0.0/16", "network create --subnet 127.5.0.0/16 x"),
    (2, "gateway 10.4.0.1", "network create --subnet 10.3.0.0/24 --gateway 10.4.0.1 x"),
    (2, "gateway 10.3.0.255", "network create --subnet 10.3.0.0/24 --gateway 10.3.0.255 x"),
    (2, "need a subnet", "network create --gateway 10.3.0.1 x"),
    (2, "ip-range", "network create --subnet 10.3.0.0/24 --ip-range 10.4.0.0/25 x"),
    (2, "aux", "network create --subnet 10.3.0.0/24 --aux-address r=10.4.0.2 x"),
    (2, "aux", "network create --subnet 10.3.0.0/24 --aux-address r=10.3.0.1 x"),
    (6, "driver 'fancy'", "network create --driver fancy x"),
    (2, "no network option", "network create -o com.docker.nonsense=1 x"),
    (2, "count|range", "bulk-create --count 0"),
    (2, "count|range", "bulk-create --count -1"),
    (2, "'many'", "bulk-create --count many"),
    (2, "--count and --file", "bulk-create"),
    (2, "NAME", "bulk-delete"),
    (2, "'02:42:zz:00:00:01'", "create --mac-address 02:42:zz:00:00:01 x"),
    (2, "'02:42'", "create --mac-address 02:42 x"),
    (2, "multicast", "create --mac-address 01:00:5e:00:00:01 x"),
    (2, "multicast|zero", "create --mac-address 00:00:00:00:00:00 x"),
    (2, "MTU 20", "create --mtu 20 x"),
    (2, "MTU 70000", "network create --mtu 70000 x"),
    (2, "not closed", ["inspect", "-f", "{{ .Name", "web"]),
    (2, "cannot read", ["inspect", "-f", "{{ Name }}", "web"]),
    (2, "'Nome'", ["inspect", "-f", "{{ .Nome }}", "web"]),
    (2, "no such option", "create --nonsense x"),
    (2, "no such command", "nonsense"),
    (2, "missing argument", "rm"),
    (2, "two names", "create --name a b"),
]


def words_of(arguments: str | list[str]) -> list[str]:
    """Return arguments as a list."""
    return arguments.split() if isinstance(arguments, str) else arguments


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHost]:
    """Yield a host on which much is taken; nothing below changes it."""
    require_root()
    with FakeHost(tmp_path_factory.mktemp("crowded")) as host:
        host.neighbour("lan", "192.0.2.0/24")
        host.run("ip route add 203.0.113.0/24 via 192.0.2.2")
        host.dnet("create", "--ip", "172.17.0.9", "web")
        host.dnet("create", "--ip", "172.17.0.10", "web-1")
        host.dnet("network", "create", "--subnet", "10.2.0.0/29", "small")
        host.dnet("bulk-create", "--count", "2", "--network", "small", "--prefix", "s")
        yield host


@pytest.mark.kernel
@pytest.mark.parametrize(("code", "words", "arguments"), BAD, ids=[" ".join(words_of(item[2]))[:50] for item in BAD])
def test_bad_input(crowded: FakeHost, code: int, words: str, arguments: str | list[str]) -> None:
    """Bad input has its sentence and its exit code, and changes nothing."""
    before = light(crowded)
    check(crowded.dnet(*words_of(arguments), code=None), code, words)
    assert light(crowded) == before


@pytest.mark.kernel
def test_crowded_host_is_unchanged(crowded: FakeHost) -> None:
    """All of that bad input together has changed nothing that any program could see."""
    before = crowded.snapshot()
    for code, _, arguments in BAD[::5]:
        crowded.dnet(*words_of(arguments), code=code)
    assert crowded.changes(before) == ""
    assert [item["name"] for item in crowded.dnet("ps", "--json").json] == ["web", "web-1", "s-1", "s-2"]


def light(host: FakeHost) -> list[object]:
    """Return what tells quickly whether anything has changed."""
    rows = [host.rows(f"SELECT * FROM {table}") for table in ("container", "endpoint", "network")]
    operations = sorted(os.listdir(host.state_dir / "operations"))
    return [rows, operations, host.pins(), host.run("ip -br link").stdout]


def test_unready_host_is_unchanged(host: FakeHost) -> None:
    """On a host that has never seen dnet, bad input makes neither network nor rules."""
    before = host.snapshot()
    for arguments in ("create --network absent x", "create --ip 10.9.9.9 x", "rm absent", "network rm absent"):
        assert host.dnet(*arguments.split(), code=None).code in {2, 3}
    after = host.snapshot()
    for key in ("links", "addresses", "routes", "nftables", "forwarding"):
        assert after[key] == before[key], key


def test_prefix_too_small(host: FakeHost) -> None:
    """A bulk that does not fit into a subnet is told how many do, before anything is made; so many then fit."""
    host.dnet("network", "create", "--subnet", "10.2.0.0/28", "small")
    before = host.snapshot()
    refused = host.dnet("bulk-create", "--count", "14", "--network", "small", code=None)
    check(refused, 5, "13 .*fit")
    assert host.changes(before) == ""
    host.dnet("bulk-create", "--count", "13", "--network", "small")
    check(host.dnet("create", "--network", "small", "x", code=None), 5, "none is left")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not json", "not JSON"),
        ("{}", "list"),
        ("[]", "no containers"),
        ('[{"nome": "x"}]', "'nome'"),
        ('[{"name": "a/b"}]', "entry 1.*a/b"),
        ('[{"name": "x"}, {"name": "x"}]', "twice"),
        ('[{"name": 5}]', "name"),
        ('[{"name": "x", "mtu": "big"}]', "mtu"),
    ],
)
def test_bad_file(host: FakeHost, text: str, words: str) -> None:
    """A file for bulk-create that is wrong anywhere makes nothing at all."""
    path = host.directory / "spec.json"
    path.write_text(text, encoding="utf-8")
    check(host.dnet("bulk-create", "--file", str(path), code=None), 2, words)
    assert host.pins() == []
    assert [link["ifname"] for link in host.json("ip -j link")] == ["lo"]


def test_absent_file(host: FakeHost) -> None:
    """A file for bulk-create that does not exist is an invalid request."""
    check(host.dnet("bulk-create", "--file", "/absent.json", code=None), 2, "absent.json")


def test_not_root(host: FakeHost) -> None:
    """Without root every command that touches the kernel or the state says so and exits 13."""
    for arguments in ("create x", "bulk-create --count 2", "network create x", "ps"):
        refused = host.run(
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            program_of(host),
            *arguments.split(),
            code=None,
        )
        check(refused, 13, "root is needed")
    assert [link["ifname"] for link in host.json("ip -j link")] == ["lo"]


def test_without_capabilities(host: FakeHost) -> None:
    """Root without CAP_NET_ADMIN is told so and exits 13, and no directory gets a mount."""
    drop = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-all")
    for arguments in ("create x", "network create x", "rm x", "network rm x"):
        check(host.run(*drop, program_of(host), *arguments.split(), code=None), 13, "root is needed")
    assert host.run("findmnt --noheadings --output TARGET --type tmpfs").stdout.count("netns") == 0


def program_of(host: FakeHost) -> str:
    """Return a path of the command line that everybody may execute."""
    host.directory.chmod(0o755)
    return program()


def test_damaged_database(host: FakeHost) -> None:
    """A database that is none exits 9 with its path, and is left as it is."""
    host.state_dir.mkdir()
    path = host.state_dir / "state.db"
    path.write_bytes(b"this is no database, whatever else it may be" * 100)
    for arguments in ("ps", "create x", "network ls"):
        check(host.dnet(*arguments.split(), code=None), 9, "state.db")
    assert path.read_bytes().startswith(b"this is no database")
    assert [link["ifname"] for link in host.json("ip -j link")] == ["lo"]


def test_torn_database(host: FakeHost) -> None:
    """A database with garbage in its middle exits 9, and nothing in the kernel changes."""
    host.dnet("bulk-create", "--count", "40")
    path = host.state_dir / "state.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    pages = path.stat().st_size // 4096
    with path.open("r+b") as file:
        for page in range(1, pages):
            file.seek(page * 4096)
            file.write(b"\xa5" * 4096)
    links = host.json("ip -j link")
    for arguments in ("ps", "create x", "rm c-1"):
        check(host.dnet(*arguments.split(), code=None), 9, "damaged|state.db")
    assert host.json("ip -j link") == links


def test_newer_database(host: FakeHost) -> None:
    """A database of a newer dnet exits 9, says so, and is left as it is."""
    host.dnet("create", "web")
    with closing(sqlite3.connect(host.state_dir / "state.db")) as connection:
        connection.execute("PRAGMA user_version = 4711")
    for arguments in ("ps", "create x", "rm web"):
        check(host.dnet(*arguments.split(), code=None), 9, "newer")
    assert len(host.pins()) == 1


def test_state_directory_is_a_file(host: FakeHost) -> None:
    """A state directory that is a file exits 9 with its path."""
    host.state_dir.write_text("a file", encoding="ascii")
    check(host.dnet("ps", code=None), 9, "state directory")


def test_run_directory_cannot_be_made(host: FakeHost) -> None:
    """A run directory that cannot be made is told in a sentence, not as a bug."""
    host.run_dir.write_text("a file", encoding="ascii")
    refused = host.dnet("create", "x", code=None)
    assert refused.code not in {0, 1}
    check(refused, refused.code, str(host.run_dir))
    assert [link["ifname"] for link in host.json("ip -j link")] == ["lo"]


def test_forwarding_cannot_be_switched(host: FakeHost) -> None:
    """Where /proc/sys is read-only, as in many containers, the refusal names forwarding, and nothing is left."""
    host.dnet("network", "prune")
    host.run("mount -o bind /proc/sys /proc/sys")
    host.run("mount -o remount,bind,ro /proc/sys")
    before = host.snapshot()
    check(host.dnet("create", "x", code=None), 7, "forward")
    assert host.changes(before) == ""


def test_kernel_without_nftables(host: FakeHost) -> None:
    """Where the nftables library is missing, the error is Unsupported and names the packages; nothing is left."""
    host.dnet("network", "prune")
    before = host.snapshot()
    hidden = host.python(WITHOUT_NFTABLES, exit_code=None)
    check(hidden, 6, "nftables")
    assert "python3-nftables" in hidden.stderr
    assert host.changes(before) == ""


WITHOUT_NFTABLES = """
import sys
from dnet import cli
from dnet.linux import nftables
sys.modules["nftables"] = None
nftables.DISTRIBUTION_PATHS = ()
cli.main(["create", "x"])
"""


def test_kernel_without_veth(host: FakeHost) -> None:
    """Where the kernel refuses a kind of device as not supported, the error is Unsupported and nothing is left."""
    host.dnet("create", "first")
    before = host.snapshot()
    check(host.python(WITHOUT_VETH, exit_code=None), 6, "veth")
    assert host.changes(before) == ""


# The kind "veth" becomes "vetx", of which no kernel knows.
WITHOUT_VETH = """
from dnet import cli
from dnet.linux import send
from dnet._core import ffi
encode = send.Sender.encode
def spoiled(self, item, batch):
    start = batch.length
    encode(self, item, batch)
    memory = ffi.buffer(batch.data + start, batch.length - start)
    memory[:] = bytes(memory).replace(b"veth\\0", b"vetx\\0")
send.Sender.encode = spoiled
cli.main(["create", "x"])
"""
