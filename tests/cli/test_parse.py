"""Command lines as a process without any privilege gives them: bad input, exit codes and sentences."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import shlex
import sqlite3
import subprocess

import pytest

import dnet
from dnet import cli, errors
from tests.support import samples
from tests.support.unprivileged_cli import COMMANDS, DNET, EXIT_CODES, PREFIX

BAD_COMMANDS = {
    "unknown command": ("frobnicate", "no such command 'frobnicate'"),
    "unknown network command": ("network frobnicate", "no such command 'frobnicate'"),
    "unknown option": ("ps --frobnicate", "--frobnicate"),
    "unknown global option": ("--frobnicate ps", "--frobnicate"),
    "option without its value": ("create --ip", "--ip"),
    "too many arguments": ("create a b", "b"),
    "two names": ("create --name a b", "two names"),
    "inspect of nothing": ("inspect", "NAME"),
    "rm of nothing": ("rm", "NAME"),
    "network create without a name": ("network create", "NAME"),
    "count 0": ("bulk-create --count 0", "0"),
    "count -1": ("bulk-create --count -1", "-1"),
    "count x": ("bulk-create --count x", "'x'"),
    "count 1.5": ("bulk-create --count 1.5", "'1.5'"),
    "count 1e3": ("bulk-create --count 1e3", "'1e3'"),
    "empty count": ("bulk-create --count ''", "''"),
    "neither count nor file": ("bulk-create", "--count and --file"),
    "both count and file": ("bulk-create --count 2 --file /dev/null", "--count and --file"),
    "start -1": ("bulk-create --count 2 --start -1", "-1"),
    "bad prefix": ("bulk-create --count 2 --prefix -x", "name"),
    "prefix with a space": ("bulk-create --count 2 --prefix 'a b'", "'a b-1'"),
    "file that is missing": ("bulk-create --file /nowhere/x.json", "/nowhere/x.json"),
    "file that is a directory": ("bulk-create --file /", "/"),
    "bulk-delete of nothing": ("bulk-delete", "--all"),
    "bulk-delete of two kinds": ("bulk-delete --all web", "--all"),
    "bulk-delete of three kinds": ("bulk-delete --all --prefix c web", "--all"),
    "bad name": ("create -- -web", "-web"),
    "name with a slash": ("create a/b", "'a/b'"),
    "bad network name": ("create --network 'a b' web", "'a b'"),
    "bad address": ("create --ip 10.1.0 web", "'10.1.0'"),
    "bad MAC": ("create --mac-address 02:42 web", "'02:42'"),
    "multicast MAC": ("create --mac-address 01:00:5e:00:00:01 web", "multicast"),
    "bad MTU": ("create --mtu 12 web", "12"),
    "MTU that is no number": ("create --mtu large web", "'large'"),
    "label without a key": ("create --label =x web", "'=x'"),
    "bad host name": ("create --hostname -web web", "'-web'"),
    "host name with a space": ("create -h 'a b' web", "'a b'"),
    "host name too long": (f"create -h {'a' * 65} web", "'aaa"),
    "bad domain": ("create --domainname example. web", "'example.'"),
    "bad name server": ("create --dns ns1 web", "'ns1'"),
    "name server with a port": ("create --dns 192.0.2.53:53 web", "'192.0.2.53:53'"),
    "bad search domain": ("create --dns-search 'a b' web", "'a b'"),
    "host without an address": ("create --add-host db web", "'db'"),
    "host with half an address": ("create --add-host db:10.1 web", "'10.1'"),
    "host without a name": ("create --add-host :10.1.0.2 web", "':10.1.0.2'"),
    "host with a bad name": ("create --add-host 'a b:10.1.0.2' web", "'a b'"),
    "rename without a new name": ("rename web", "NEW"),
    "rename of three": ("rename a b c", "c"),
    "watch of something": ("watch web", "web"),
    "network joined twice": ("create --network blue --network blue web", "given twice"),
    "mode beside a network": ("create --network host --network blue web", "beside others"),
    "long form of nothing": ("create --network ip=10.1.0.2 web", "names no network"),
    "unknown field of the long form": ("create --network name=blue,color=red web", "'color'"),
    "priority that is no number": ("create --network name=blue,gw-priority=x web", "'x'"),
    "alias on the default network": ("create --network-alias x web", "no aliases"),
    "sharer of nobody": ("create --network container: web", "container name"),
    "sharer with ports": ("create --network container:web -p 80 x", "conflicting options: -p"),
    "link to nobody": ("create --link :x web", "':x'"),
    "link without its alias": ("create --link db: web", "'db:'"),
    "link alias with a space": ("create --link 'db:a b' web", "'a b'"),
    "link to itself": ("create --link web web", "itself"),
    "link alias given twice": ("create --link db:x --link cache:x web", "x is given twice"),
    "connect of nobody": ("network connect blue", "NAME"),
    "connect to an address that is none": ("network connect --ip 10.1 blue web", "'10.1'"),
    "connect with a bad interface": ("network connect -i a/b blue web", "'a/b'"),
    "connect with a priority that is none": ("network connect --gw-priority x blue web", "'x'"),
    "disconnect of nobody": ("network disconnect blue", "NAME"),
    "disconnect of two": ("network disconnect blue web db", "db"),
    "address in mode none": ("create --network none --ip 10.1.0.2 web", "none"),
    "bad subnet": ("network create --subnet 10.1.0.1/16 blue", "'10.1.0.1/16'"),
    "subnet without a length": ("network create --subnet 10.1.0.0 blue", "'10.1.0.0'"),
    "gateway without a subnet": ("network create --gateway 10.1.0.1 blue", "subnet"),
    "bad gateway": ("network create --subnet 10.1.0.0/16 --gateway x blue", "'x'"),
    "bad range": ("network create --subnet 10.1.0.0/16 --ip-range x blue", "'x'"),
    "bad auxiliary address": ("network create --subnet 10.1.0.0/16 --aux-address r=x blue", "'x'"),
    "auxiliary address without a key": (
        "network create --subnet 10.1.0.0/16 --aux-address =10.1.0.9 blue",
        "'=10.1.0.9'",
    ),
    "network called like a mode": ("network create host", "host"),
    "unknown driver option": ("network create -o a.b=c blue", "'a.b'"),
    "masquerade that is neither": ("network create --masquerade=perhaps blue", "'perhaps'"),
    "format that is not closed": ("inspect -f '{{ .Name' web", "'{{ .Name'"),
    "format of nothing": ("inspect -f '{{ }}' web", "'{{ }}'"),
    "bad format of a network": ("network inspect -f '{{ Name }}' blue", "'{{ Name }}'"),
    "shell that is none": ("completion tcsh", "'tcsh'"),
    "plan of nothing": ("plan", "COMMAND"),
    "plan of what has none": ("plan ps", "ps"),
    "plan of a bad count": ("plan bulk-create --count 0", "0"),
}


@pytest.mark.parametrize(("line", "words"), BAD_COMMANDS.values(), ids=BAD_COMMANDS.keys())
def test_bad_input(inline, line, words):
    """Input that makes no sense exits 2 with a sentence that quotes it, before privilege or state are asked for."""
    sentence = inline.refused(*shlex.split(line), code=2)
    assert words.lower() in sentence.lower()
    assert "unexpected failure" not in sentence


@pytest.mark.parametrize(
    "case",
    [
        "unknown command",
        "unknown option",
        "count 0",
        "count -1",
        "count x",
        "both count and file",
        "bad address",
        "bad subnet",
        "format that is not closed",
    ],
)
def test_bad_input_for_real(terminal, case):
    """The installed program refuses such input just so, and leaves nothing."""
    line, words = BAD_COMMANDS[case]
    assert words.lower() in terminal.refused(*shlex.split(line), code=2).lower()
    assert not terminal.state.exists()


@pytest.mark.parametrize("line", ["", "network", "nat"])
def test_no_command(terminal, line):
    """A group without a command exits 2 and shows its help on stderr, as help and not as an error."""
    done = terminal.run(*shlex.split(line))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: dnet")
    assert "Commands:" in done.stderr
    assert not [text for text in done.stderr.splitlines() if text.startswith("dnet: ")]


BAD_SPECS = {
    "neither JSON": ("x.json", "containers: many", "not JSON"),
    "empty": ("x.json", "", "not JSON"),
    "nor UTF-8": ("x.json", b'[{"name": "\xff"}]', "not JSON"),
    "nor YAML": ("x.yaml", "[{name: web", "not YAML"),
    "YAML that is not UTF-8": ("x.yaml", b"- name: \xff\xfe", "not"),
    "binary YAML": ("x.yml", b"\x00\x01\x02", "not YAML"),
    "object, not a list": ("x.json", '{"name": "web"}', "list"),
    "list of text": ("x.json", '["web", "db"]', "list"),
    "null": ("x.json", "null", "list"),
    "empty YAML": ("x.yaml", "", "list"),
    "YAML text": ("x.yaml", "just words", "list"),
    "no containers": ("x.json", "[]", "no containers"),
    "unknown key": ("x.json", '[{"name": "a"}, {"name": "b", "color": "red"}]', "entry 2: there is no option 'color'"),
    "key of another spelling": ("x.json", '[{"Name": "a"}]', "'Name'"),
    "key that is a number": ("x.yaml", "- {1: web}", "1"),
    "bad name": ("x.json", '[{"name": "a b"}]', "entry 1"),
    "name that is a number": ("x.json", '[{"name": 5}]', "entry 1"),
    "name that is null": ("x.json", '[{"name": null}]', "entry 1"),
    "bad address": ("x.json", '[{"name": "a", "ip": "10.1.0"}]', "'10.1.0'"),
    "address that is a number": ("x.json", '[{"name": "a", "ip": 5}]', "entry 1"),
    "bad MAC": ("x.yaml", "- {name: a, mac-address: '02:42'}", "'02:42'"),
    "MTU that is text": ("x.json", '[{"name": "a", "mtu": "1400"}]', "'1400'"),
    "MTU that is true": ("x.json", '[{"name": "a", "mtu": true}]', "True"),
    "MTU with a fraction": ("x.json", '[{"name": "a", "mtu": 1400.5}]', "1400.5"),
    "MTU out of range": ("x.json", '[{"name": "a", "mtu": 12}]', "12"),
    "labels as a list": ("x.json", '[{"name": "a", "label": ["x=y"]}]', "label"),
    "bad network": ("x.json", '[{"name": "a", "network": "-"}]', "'-'"),
    "YAML tag": ("x.yaml", "- !!python/object/apply:os.system ['true']", "a list of containers"),
    "nested too deep": ("x.json", "[" * 100_000, "nested too deeply"),
    "YAML nested too deep": ("x.yaml", "[" * 20_000, "nested too deeply"),
    "host name as a list": ("x.json", '[{"hostname": ["a"]}]', "entry 1: hostname is not text"),
    "bad host name": ("x.json", '[{"hostname": "-a"}]', "'-a'"),
    "name server as text": ("x.json", '[{"dns": "192.0.2.53"}]', "entry 1: dns is not a list of texts"),
    "name server that is null": ("x.json", '[{"dns": [null]}]', "entry 1: dns is not a list of texts"),
    "bad name server": ("x.json", '[{"dns": ["ns1"]}]', "'ns1'"),
    "host without an address": ("x.yaml", "- add-host: [db]", "'db'"),
    "network as a number": ("x.json", '[{"network": 5}]', "entry 1: network is not text"),
    "network as numbers": ("x.json", '[{"network": [5]}]', "entry 1: network is not text"),
    "no network in the list": ("x.json", '[{"network": []}]', "entry 1: network is not text"),
    "network twice": ("x.json", '[{"network": ["a", "a"]}]', "given twice"),
    "link as text": ("x.json", '[{"link": "db"}]', "entry 1: link is not a list of texts"),
    "link to itself": ("x.yaml", "- {name: db, link: [db]}", "itself"),
    "alias as text": ("x.json", '[{"network": "a", "network-alias": "x"}]', "entry 1: network-alias is not a list"),
}


@pytest.mark.parametrize(("name", "text", "words"), BAD_SPECS.values(), ids=BAD_SPECS.keys())
def test_bad_specification_file(inline, name, text, words):
    """A file that does not list containers exits 2, and the sentence says which file, which entry and why."""
    path = inline.write(name, text)
    sentence = inline.refused("bulk-create", "--file", path, code=2)
    assert path in sentence
    assert words in sentence


GOOD_SPECS = {
    "x.json": '[{"name": "a", "network": "blue", "ip": "10.99.0.9", "label": {"tier": "front"}}, {"network": "none"}]',
    "x.yaml": "- name: a\n  network: blue\n  ip: 10.99.0.9\n  label: {tier: front}\n- network: none\n",
    "x.yml": "[{name: a, network: blue, ip: 10.99.0.9, label: {tier: front}}, {network: none}]",
}


@pytest.mark.parametrize("name", GOOD_SPECS)
def test_good_specification_file(furnished, name):
    """JSON and YAML of the same list mean the same containers."""
    done = furnished.run("plan", "bulk-create", "--file", furnished.write(name, GOOD_SPECS[name]))
    assert done.returncode == 0, done.stderr
    assert "address 10.99.0.9/24 on eth0 in sandbox a" in done.stdout
    assert "file " in done.stdout
    assert len(re.findall(r"^sandbox ", done.stdout, flags=re.MULTILINE)) == 2


def test_every_option_in_a_specification_file(furnished):
    """An entry takes every option that create has, by its long name, and no option is missing there."""
    entry = {
        "name": "a",
        "network": "blue",
        "ip": "10.99.0.9",
        "mac-address": "02:00:00:00:00:09",
        "mtu": 1400,
        "publish": ["8080:80", 81],
        "publish-all": True,
        "expose": [7, "53/udp"],
        "hostname": "a.example.org",
        "domainname": "example.org",
        "dns": ["192.0.2.53"],
        "dns-search": ["example.org"],
        "dns-option": ["ndots:2"],
        "add-host": ["db:10.0.0.5"],
        "link": ["web:db"],
        "network-alias": ["front"],
        "trunk": "100,200-210",
        "native": "200",
        "label": {"tier": "front"},
    }
    options = {item.opts[-1].lstrip("-") for item in COMMANDS["dnet create"].command.params if item.opts[0][0] == "-"}
    other = {"name": "b", "network": "blue", "vlan": 100}
    assert {*entry, *other, "ip6", "json", "help"} == options | {"help"}
    path = furnished.write("x.json", json.dumps([entry, other]))
    done = furnished.run("plan", "bulk-create", "--file", path)
    assert done.returncode == 0, done.stderr
    assert "address 10.99.0.9/24 on eth0 in sandbox a" in done.stdout


@pytest.mark.parametrize(
    "line",
    [
        "create web",
        "create --network none",
        "bulk-create --count 2",
        "bulk-create --count 2 --json",
        "bulk-delete --all",
        "rm web",
        "network create blue",
        "network rm blue",
        "network prune",
        "rename web db",
        "watch",
        "create --network host",
        "network connect blue web",
        "network disconnect blue web",
    ],
)
def test_without_privilege(terminal, line):
    """What touches the kernel exits 13 without root, with one sentence that says so, and leaves nothing."""
    assert "root" in terminal.refused(*shlex.split(line), code=13)
    assert terminal.rows() == []
    assert not (terminal.directory / "run").exists()


@pytest.mark.parametrize("line", ["ps", "network ls", "inspect web", "create web"])
def test_state_directory_of_somebody_else(terminal, line):
    """A state directory that may not be written to exits 13 and names it, whatever the command."""
    owned = terminal.directory / "owned"
    owned.mkdir()
    owned.chmod(0o555)
    state = owned / "state"
    assert str(state) in terminal.refused(*shlex.split(line), code=13, environment={"DNET_STATE_DIR": str(state)})
    assert not state.exists()


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("inspect nope", 3, "nope"),
        ("inspect ''", 3, "container"),
        ("network inspect nope", 3, "nope"),
        ("network inspect ''", 3, "network"),
        ("plan create --network nope db", 3, "nope"),
        ("plan create web", 4, "web"),
        ("plan create --network blue --ip 10.99.0.2 db", 4, "web"),
        ("plan create --network blue --ip 10.99.0.1 db", 4, "gateway"),
        ("plan create --network blue --ip 10.98.0.2 db", 2, "10.98.0.2"),
        ("plan create --network blue --ip 10.99.0.255 db", 2, "10.99.0.255"),
        ("plan bulk-create --network blue --count 253", 5, "252 fit"),
        ("plan bulk-create --network blue --count 2000", 5, "blue"),
        ("plan create --network container:nope db", 3, "nope"),
        ("plan create --network blue --link nope db", 3, "nope"),
        ("plan create --network none --network blue db", 2, "none"),
        ("rename web 'a b'", 2, "'a b'"),
        ("rename web ''", 2, "''"),
        ("plan network create blue", 4, "blue"),
        ("plan network create --subnet 10.99.0.128/25 red", 4, "blue"),
        ("plan network create --subnet 203.0.113.0/31 red", 2, "too small"),
        ("plan network create --subnet 224.0.0.0/8 red", 2, "224.0.0.0/8"),
        ("plan network create --subnet 203.0.113.0/24 --gateway 10.1.0.1 red", 2, "10.1.0.1"),
        ("plan network create --subnet 203.0.113.0/24 --ip-range 10.1.0.0/24 red", 2, "10.1.0.0/24"),
        ("plan network create -d macvlan red", 6, "macvlan"),
        ("inspect -f '{{ .Nope }}' web", 2, "Nope"),
        ("network inspect -f '{{ .Nope }}' blue", 2, "Nope"),
    ],
)
def test_exit_codes(furnished, line, code, words):
    """Each kind of failure has its code and its sentence, and nothing is left in the database."""
    before = furnished.rows()
    assert words in furnished.refused(*shlex.split(line), code=code)
    assert furnished.rows() == before


@pytest.mark.parametrize("name", EXIT_CODES)
def test_code_of_every_error(name):
    """Every error that there is has the contract's exit code."""
    kind = getattr(errors, name)
    error = kind("create x", 17) if name == "KernelRefused" else kind("sentence")
    assert cli.exit_code(error) == EXIT_CODES[name]


def test_every_error_has_a_code():
    """No public error is without an exit code of its own."""
    kinds = {
        name
        for name in dnet.__all__
        if isinstance(getattr(dnet, name), type) and issubclass(getattr(dnet, name), Exception)
    }
    assert kinds <= set(EXIT_CODES)


def test_newer_database(furnished):
    """A database of a newer dnet exits 9."""
    with contextlib.closing(sqlite3.connect(furnished.state / "state.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    assert "newer" in furnished.refused("ps", code=9)


def test_damaged_database(furnished):
    """A database that is none exits 9 and names the file."""
    (furnished.state / "state.db").write_bytes(b"no database at all " * 500)
    assert str(furnished.state / "state.db") in furnished.refused("ps", code=9)


@pytest.mark.parametrize(("count", "code"), [(100_000, 5), (100_001, 2), (100_000_000, 2)])
def test_absurd_count(furnished, count, code):
    """A count that no network can hold is refused, and one beyond 100,000 without making any of anything."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
        resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))

    options = {} if code == 5 else {"preexec_fn": limit}
    furnished.refused("plan", "bulk-create", "--network", "blue", "--count", str(count), code=code, **options)


def test_network_by_id(furnished):
    """--network takes a network's id, or is refused by it: never an unexpected failure."""
    identity = samples.network("blue").id
    done = furnished.run("plan", "create", "--network", identity, "db")
    assert done.returncode == 0, done.stderr
    assert "10.99.0.3/24" in done.stdout


def test_traceback_only_when_asked_for(furnished):
    """A traceback is printed with -v, and the sentence after it all the same."""
    done = furnished.run("-v", "inspect", "nope")
    assert "Traceback" in done.stderr
    assert "dnet: there is no container nope" in done.stderr
    assert done.returncode == 3
    assert "Traceback" not in furnished.run("inspect", "nope").stderr


@pytest.mark.parametrize(
    "line", ["ps --json", "network ls --json", "version --json", "inspect web", "network inspect blue"]
)
def test_json_is_one_document(furnished, line):
    """JSON output is one document on stdout, and nothing else anywhere."""
    done = furnished.run(*shlex.split(line))
    assert json.loads(done.stdout)
    assert done.stderr == ""
    assert done.returncode == 0


def test_json_of_a_plan(furnished):
    """A plan is a JSON list too."""
    plan = json.loads(furnished.run("plan", "create", "--network", "blue", "--json", "db").stdout)
    assert {"kind": "Address", "object": "address 10.99.0.3/24 on eth0 in sandbox db"} in plan


def test_looking_needs_no_privilege(furnished):
    """Whoever may write to the state directory may look, without root."""
    assert furnished.run("ps").stdout.split("\n")[1].split()[1:5] == ["web", "blue", "blue", "10.99.0.2"]
    assert "10.99.0.0/24" in furnished.run("network", "ls").stdout
    assert furnished.run("inspect", "-f", "{{ .NetworkSettings.IPAddress }}", "web").stdout == "10.99.0.2\n"


def test_quiet(furnished):
    """-q prints ids, one a line, and nothing else."""
    (web,) = json.loads(furnished.run("inspect", "web").stdout)
    assert furnished.run("ps", "-q").stdout == f"{web['Id'][:12]}\n"
    assert re.fullmatch(r"[0-9a-f]{12}\n", furnished.run("network", "ls", "-q").stdout)


def test_plan_touches_nothing(furnished):
    """A plan leaves the database as it was, and is in order, from the sandbox to the host's end."""
    before = furnished.rows()
    lines = furnished.run("plan", "create", "--network", "blue", "db").stdout.splitlines()
    assert furnished.rows() == before
    (sandbox,) = [number for number, line in enumerate(lines) if line.startswith("sandbox db at ")]
    (veth,) = [number for number, line in enumerate(lines) if line.startswith("veth ")]
    assert sandbox < veth
    assert lines[-1].startswith("up veth")


def test_option_before_environment(furnished, tmp_path):
    """--state-dir counts before DNET_STATE_DIR."""
    done = furnished.run("--state-dir", str(tmp_path / "other"), "ps", "-q")
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "other" / "state.db").exists()


def test_closed_pipe(furnished):
    """A reader that goes away is no traceback."""
    command = f"{shlex.join([*PREFIX, DNET])} ps | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, env=furnished.environment)
    assert done.stderr == ""


@pytest.mark.parametrize(("words", "code"), [(("rm", "\udcff"), 2), (("run", "printf", "\udcff"), 125)])
def test_arguments_are_text(inline, words, code):
    """An argument that is not UTF-8 is refused with a sentence, before anything is done."""
    done = inline.run(*words)
    assert done.returncode == code
    assert done.stderr.startswith("dnet: the argument b'\\xff' is not UTF-8\n")
