"""What users and scripts rely on: documents, columns, exit codes, and what goes to which stream."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.hosts import FakeHost, program
from tests.support.plugin import require_root

pytestmark = pytest.mark.kernel

HEX = r"[0-9a-f]"
MAC = r"([0-9a-f]{2}:){5}[0-9a-f]{2}"
TIMESTAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHost]:
    """Yield a host with two containers on `bridge`, one on `blue` and one on none; nothing here changes it."""
    require_root()
    with FakeHost(tmp_path_factory.mktemp("settled")) as host:
        host.dnet("create", "--label", "tier=front", "web")
        host.dnet("create", "db")
        options = ("--subnet", "10.1.0.0/16", "--ip-range", "10.1.7.0/24", "--aux-address", "router=10.1.7.0")
        host.dnet("network", "create", *options, "--label", "a=b", "--internal", "blue")
        host.dnet("create", "--network", "blue", "inner")
        host.dnet("create", "--network", "none", "alone")
        yield host


def inspected(host: FakeHost, name: str) -> dict[str, Any]:
    """Return `inspect`'s document of one container."""
    [document] = host.dnet("inspect", name).json
    return dict(document)


# Containers


def test_create_prints_the_name(host: FakeHost) -> None:
    """`create` prints the name, and nothing else to stdout."""
    assert host.dnet("create", "web").stdout == "web\n"
    assert host.dnet("create", "--name", "db").stdout == "db\n"
    assert re.fullmatch(r"[a-z]+_[a-z]+\d*\n", host.dnet("create").stdout)


def test_create_json(host: FakeHost) -> None:
    """`create --json` prints the document that `inspect` prints."""
    created = host.dnet("create", "--json", "web").json
    assert inspected(host, "web") == created


def test_ps_columns(settled: FakeHost) -> None:
    """`ps` prints a header with the columns of the contract and one line for each container, oldest first."""
    header, *lines = settled.dnet("ps").stdout.splitlines()
    assert re.split(r"\s{2,}", header) == [
        "CONTAINER ID", "NAME", "MODE", "NETWORK", "IP", "PORTS", "STATUS", "LINKS",
    ]  # fmt: skip
    assert [line[header.index("NAME") :].split()[0] for line in lines] == ["web", "db", "inner", "alone"]
    at = header.index("IP")
    assert [line[at:].split()[0] for line in lines[:3]] == ["172.17.0.2", "172.17.0.3", "10.1.7.1"]
    assert all(re.match(rf"{HEX}{{12}} ", line) for line in lines)


def test_ps_json(settled: FakeHost) -> None:
    """`ps --json` is one list with an object for each container."""
    listing = settled.dnet("ps", "--json").json
    assert [item["name"] for item in listing] == ["web", "db", "inner", "alone"]
    web = listing[0]
    assert web["id"] == inspected(settled, "web")["Id"]
    assert (web["mode"], web["networks"], web["ips"], web["ports"]) == ("bridge", ["bridge"], ["172.17.0.2"], [])
    assert web["labels"] == {"tier": "front"}


def test_ps_quiet(settled: FakeHost) -> None:
    """`ps -q` prints short ids only."""
    ids = settled.dnet("ps", "-q").stdout.splitlines()
    assert ids == [item["id"][:12] for item in settled.dnet("ps", "--json").json]


def test_ps_without_containers(host: FakeHost) -> None:
    """Without containers `ps` prints the header, `ps -q` nothing, and `ps --json` an empty list."""
    assert len(host.dnet("ps").stdout.splitlines()) == 1
    assert host.dnet("ps", "-q").stdout == ""
    assert host.dnet("ps", "--json").json == []


def test_inspect(settled: FakeHost) -> None:
    """`inspect` prints a list with Docker's field names."""
    document = inspected(settled, "web")
    assert re.fullmatch(rf"{HEX}{{64}}", document["Id"])
    assert document["Name"] == "web"
    assert re.fullmatch(TIMESTAMP, document["Created"])
    assert document["State"]["Pid"] == 0
    assert document["State"]["Status"] == "created"
    assert {"Hostname", "Domainname", "Env", "ExposedPorts", "Labels"} <= document["Config"].keys()
    assert document["Config"]["Labels"] == {"tier": "front"}
    assert {"NetworkMode", "Links", "PublishAllPorts", "Dns", "DnsSearch"} <= document["HostConfig"].keys()
    assert document["HostConfig"]["NetworkMode"] == "bridge"
    settings = document["NetworkSettings"]
    assert settings["SandboxKey"].startswith(f"{settled.run_dir}/")
    assert (settings["IPAddress"], settings["IPPrefixLen"], settings["Gateway"]) == ("172.17.0.2", 16, "172.17.0.1")
    assert re.fullmatch(MAC, settings["MacAddress"])
    assert settings["Ports"] == {}
    endpoint = settings["Networks"]["bridge"]
    for key in ("IPAddress", "IPPrefixLen", "Gateway", "MacAddress"):
        assert endpoint[key] == settings[key]
    [bridge] = settled.dnet("network", "inspect", "bridge").json
    assert endpoint["NetworkID"] == bridge["Id"]
    assert endpoint["EndpointID"] == bridge["Containers"][document["Id"]]["EndpointID"]
    assert {"Aliases", "HostInterface", "Vlan"} <= endpoint.keys()


def test_inspect_of_an_internal_network(settled: FakeHost) -> None:
    """On an internal network the gateway is empty, as with Docker."""
    assert inspected(settled, "inner")["NetworkSettings"]["Gateway"] == ""


def test_inspect_several(settled: FakeHost) -> None:
    """`inspect` takes several names and keeps their order; one that is missing fails all of it."""
    assert [item["Name"] for item in settled.dnet("inspect", "db", "web").json] == ["db", "web"]
    refused = settled.dnet("inspect", "web", "absent", code=3)
    assert refused.stdout == ""


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ .Name }}", "web"),
        ("{{.Name}}", "web"),
        ("{{ .NetworkSettings.IPAddress }}", "172.17.0.2"),
        ("{{ .NetworkSettings.IPAddress }}/{{ .NetworkSettings.IPPrefixLen }}", "172.17.0.2/16"),
        ("{{ json .NetworkSettings.Ports }}", "{}"),
        ("{{ json .Config.Labels }}", '{"tier": "front"}'),
        ("{{ .Config.Labels }}", "map[tier:front]"),
        ("{{ .HostConfig.PublishAllPorts }}", "false"),
        ("{{ .HostConfig.Dns }}", "[]"),
        ("plain", "plain"),
    ],
)
def test_inspect_format(settled: FakeHost, template: str, text: str) -> None:
    """`inspect -f` fills Docker's dotted form, one line for each container."""
    assert settled.dnet("inspect", "-f", template, "web").stdout == f"{text}\n"


def test_rm_prints_what_it_removed(host: FakeHost) -> None:
    """`rm` prints the names of what it removed."""
    host.dnet("create", "web")
    host.dnet("create", "db")
    assert host.dnet("rm", "web", "db").stdout == "web\ndb\n"


# Bulk


def test_bulk_create_text(host: FakeHost) -> None:
    """The text ends with one summary line: how many, how long, how long each, and where."""
    done = host.dnet("bulk-create", "--count", "12")
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"created 12 containers in \d+\.\d\d s \(\d+\.\d ms each\) on bridge 172\.17\.0\.0/16", last), (
        last
    )


def test_bulk_create_json(host: FakeHost) -> None:
    """`bulk-create --json` is one document with the fields of the contract, also when forwarding is announced."""
    done = host.dnet("bulk-create", "--count", "3", "--prefix", "n", "--start", "7", "--json")
    document = done.json
    assert document["created"] == 3
    assert document["failed"] == []
    assert 0 < document["seconds"] < 10
    assert document["network"]["name"] == "bridge"
    assert document["network"]["subnet"] == "172.17.0.0/16"
    assert {"plan", "sandboxes"} <= document["phases"].keys()
    assert sum(document["phases"].values()) <= document["seconds"] + 0.01
    assert [item["name"] for item in document["containers"]] == ["n-7", "n-8", "n-9"]
    for item in document["containers"]:
        shown = inspected(host, item["name"])
        settings = shown["NetworkSettings"]
        assert item["ports"] == []
        assert (item["id"], item["sandbox"]) == (shown["Id"], settings["SandboxKey"])
        assert (item["ip"], item["mac"]) == (settings["IPAddress"], settings["MacAddress"])
        assert item["gateway"] == settings["Gateway"]
        assert item["host_interface"] == settings["Networks"]["bridge"]["HostInterface"]
    assert "forwarding" in done.stderr


def test_bulk_create_quiet(host: FakeHost) -> None:
    """`bulk-create -q` prints names only."""
    assert host.dnet("bulk-create", "--count", "3", "-q").stdout == "c-1\nc-2\nc-3\n"


@pytest.mark.parametrize("suffix", ["json", "yaml", "yml"])
def test_bulk_create_from_a_file(host: FakeHost, suffix: str) -> None:
    """`--file` takes a JSON or YAML list with create's long options."""
    host.dnet("network", "create", "--subnet", "10.1.0.0/16", "blue")
    entries = [
        {"name": "web", "network": "blue", "ip": "10.1.0.9", "mac-address": "02:00:00:00:00:09", "label": {"a": "b"}},
        {"name": "db", "mtu": 1400},
        {"network": "none"},
    ]
    text = json.dumps(entries)
    if suffix != "json":
        text = (
            "- {name: web, network: blue, ip: 10.1.0.9, mac-address: '02:00:00:00:00:09', label: {a: b}}\n"
            "- name: db\n  mtu: 1400\n- network: none\n"
        )
    path = host.directory / f"spec.{suffix}"
    path.write_text(text, encoding="utf-8")
    made = host.dnet("bulk-create", "--file", str(path), "--json").json
    assert made["created"] == 3
    web = inspected(host, "web")
    assert web["NetworkSettings"]["IPAddress"] == "10.1.0.9"
    assert web["NetworkSettings"]["MacAddress"] == "02:00:00:00:00:09"
    assert web["Config"]["Labels"] == {"a": "b"}
    assert host.sandbox("db").json("ip -j link show dev eth0")[0]["mtu"] == 1400
    removed = host.dnet("bulk-delete", "--all", "--json").json
    assert removed["deleted"] == 3


def test_bulk_create_keeps_going(host: FakeHost) -> None:
    """With --keep-going, what cannot be made is listed, the rest stays, and the exit code is 10."""
    host.dnet("create", "first")
    [[index]] = host.rows("SELECT max(host_index) FROM endpoint")
    host.run("ip", "link", "add", "theirs", "index", str(index + 3), "type", "bridge")
    done = host.dnet("bulk-create", "--count", "5", "--keep-going", "--json", code=10)
    assert done.json["created"] == 4
    [failed] = done.json["failed"]
    assert failed["name"] == "c-3"
    assert failed["error"] in done.stderr
    assert [item["name"] for item in host.dnet("ps", "--json").json] == ["first", "c-1", "c-2", "c-4", "c-5"]
    host.run("ip link show theirs")


def test_bulk_delete_output(host: FakeHost) -> None:
    """`bulk-delete` ends with a summary line; -q prints names, --json one document."""
    host.dnet("bulk-create", "--count", "6")
    assert re.fullmatch(r"removed 2 containers in \d+\.\d\d s\n", host.dnet("bulk-delete", "c-1", "c-2").stdout)
    assert host.dnet("bulk-delete", "-q", "c-3", "c-4").stdout == "c-3\nc-4\n"
    document = host.dnet("bulk-delete", "--all", "--json").json
    assert (document["deleted"], document["containers"]) == (2, ["c-5", "c-6"])


def test_bulk_delete_of_nothing(host: FakeHost) -> None:
    """Removing all of none succeeds; a prefix that nobody has does too."""
    assert host.dnet("bulk-delete", "--all", "--json").json["deleted"] == 0
    assert host.dnet("bulk-delete", "--prefix", "nobody", "--json").json["deleted"] == 0


# Networks


def test_network_create_prints_the_id(host: FakeHost) -> None:
    """`network create` prints the id; with --json the document that `network inspect` prints."""
    assert re.fullmatch(rf"{HEX}{{64}}\n", host.dnet("network", "create", "blue").stdout)
    document = host.dnet("network", "create", "--json", "green").json
    assert host.dnet("network", "inspect", "green").json == [document]


def test_network_ls(settled: FakeHost) -> None:
    """`network ls` prints a table, -q short ids, --json a list; all by name."""
    header, *lines = settled.dnet("network", "ls").stdout.splitlines()
    assert header.split()[:3] == ["NETWORK", "ID", "NAME"]
    assert [line.split()[1] for line in lines] == ["blue", "bridge"]
    listing = settled.dnet("network", "ls", "--json").json
    assert [item["name"] for item in listing] == ["blue", "bridge"]
    assert listing[0]["subnet"] == "10.1.0.0/16"
    ids = settled.dnet("network", "ls", "-q").stdout.splitlines()
    assert ids == [item["id"][:12] for item in listing]


def test_network_inspect(settled: FakeHost) -> None:
    """`network inspect` prints a list with Docker's field names, and Segments."""
    [document] = settled.dnet("network", "inspect", "blue").json
    assert (document["Name"], document["Driver"]) == ("blue", "bridge")
    assert (document["Internal"], document["EnableIPv6"]) == (True, False)
    assert document["Labels"] == {"a": "b"}
    [config] = document["IPAM"]["Config"]
    assert (config["Subnet"], config["Gateway"], config["IPRange"]) == ("10.1.0.0/16", "10.1.0.1", "10.1.7.0/24")
    [(identity, member)] = document["Containers"].items()
    inner = inspected(settled, "inner")
    assert identity == inner["Id"]
    assert member["Name"] == "inner"
    assert member["IPv4Address"] == "10.1.7.1/16"
    assert member["MacAddress"] == inner["NetworkSettings"]["MacAddress"]
    assert {"EndpointID", "IPv6Address"} <= member.keys()
    [segment] = document["Segments"]
    assert segment["Device"] in [link["ifname"] for link in settled.json("ip -j link")]


def test_network_inspect_format(settled: FakeHost) -> None:
    """`network inspect -f` fills templates as `inspect -f` does."""
    assert settled.dnet("network", "inspect", "-f", "{{ .Driver }}", "blue", "bridge").stdout == "bridge\nbridge\n"


def test_network_rm_prints_what_it_removed(host: FakeHost) -> None:
    """`network rm` and `network prune` print the names of what they removed."""
    for name in ("blue", "green", "red"):
        host.dnet("network", "create", name)
    assert host.dnet("network", "rm", "blue", "green").stdout == "blue\ngreen\n"
    assert host.dnet("network", "prune", "-f").stdout == "red\n"


# Plan and version


def test_plan(host: FakeHost) -> None:
    """`plan` prints what a command would create, object by object, and touches nothing."""
    host.dnet("network", "prune")
    before = host.snapshot()
    lines = host.dnet("plan", "bulk-create", "--count", "2").stdout.splitlines()
    planned = host.dnet("plan", "create", "--json", "web").json
    assert host.changes(before) == ""
    assert any("dnet0" in line for line in lines)
    assert any("sandbox c-2" in line for line in lines)
    assert {"Sandbox", "Veth", "Bridge", "Address", "Route", "Up"} <= {item["kind"] for item in planned}
    assert all(item["object"] for item in planned)


def test_plan_of_what_cannot_be(settled: FakeHost) -> None:
    """`plan` refuses what the command would refuse, with the same exit code."""
    settled.dnet("plan", "create", "web", code=4)
    settled.dnet("plan", "create", "--network", "absent", "x", code=3)
    settled.dnet("plan", "network", "create", "--subnet", "10.1.0.0/24", "x", code=4)
    settled.dnet("plan", "rm", "web", code=2)
    assert "web" in [item["name"] for item in settled.dnet("ps", "--json").json]


def test_version(settled: FakeHost) -> None:
    """`version` tells dnet's own version; with --json as a document."""
    document = settled.dnet("version", "--json").json
    assert settled.dnet("version").stdout.startswith(f"dnet {document['version']}")


# Streams, errors, environment


def test_error_is_a_sentence_and_a_hint(settled: FakeHost) -> None:
    """An error is one line that begins with `dnet: `, then a hint, on stderr; a traceback comes with -v only."""
    refused = settled.dnet("rm", "absent", code=3)
    assert refused.stdout == ""
    sentence, hint = refused.stderr.splitlines()
    assert sentence == "dnet: there is no container absent"
    assert hint.startswith("  ")
    verbose = settled.dnet("-v", "rm", "absent", code=3)
    assert "Traceback" in verbose.stderr
    assert sentence in verbose.stderr


def test_directories_by_option_and_environment(host: FakeHost) -> None:
    """--state-dir and --run-dir come before DNET_STATE_DIR and DNET_RUN_DIR."""
    other = ("--state-dir", f"{host.directory}/other", "--run-dir", f"{host.directory}/pins")
    document = host.dnet(*other, "create", "--network", "none", "--json", "web").json
    assert document["NetworkSettings"]["SandboxKey"].startswith(f"{host.directory}/pins/")
    assert host.dnet("ps", "--json").json == []
    elsewhere = {"DNET_STATE_DIR": f"{host.directory}/other", "DNET_RUN_DIR": f"{host.directory}/pins"}
    assert [item["name"] for item in host.dnet("ps", "--json", env=elsewhere).json] == ["web"]


def test_closed_pipe(settled: FakeHost) -> None:
    """A reader that goes away early ends the command without a traceback."""
    shown = settled.run("sh", "-c", '"$0" inspect web db | head -1', program(), code=None)
    assert shown.stdout == "[\n"
    assert "Traceback" not in shown.stderr
    assert "Exception" not in shown.stderr


def test_full_disk_for_output(settled: FakeHost) -> None:
    """When stdout cannot be written, the exit code tells it."""
    done = settled.run("sh", "-c", '"$0" ps >/dev/full', program(), code=None)
    assert done.code != 0
    assert "Traceback" not in done.stderr


# Progress


def on_a_terminal(host: FakeHost, *arguments: str) -> tuple[int, str, str]:
    """Run dnet with stderr on a pseudo-terminal; return exit code, stdout and what the terminal showed."""
    code = (
        "import os, pty, subprocess, sys\n"
        "master, slave = pty.openpty()\n"
        "process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stderr=slave, text=True)\n"
        "os.close(slave)\n"
        "shown = b''\n"
        "try:\n"
        "    while block := os.read(master, 65536): shown += block\n"
        "except OSError: pass\n"
        "stdout = process.communicate()[0]\n"
        "import json; print(json.dumps([process.returncode, stdout, shown.decode()]))\n"
    )
    status, stdout, shown = host.python(code, program(), *arguments).json
    return status, stdout, shown


def test_progress_bar(host: FakeHost) -> None:
    """On a terminal a bulk draws a bar up to its total; stdout stays one document."""
    status, stdout, shown = on_a_terminal(host, "bulk-create", "--count", "150", "--json")
    assert status == 0
    assert json.loads(stdout)["created"] == 150
    assert "\r" in shown
    assert "150/150" in shown
    status, stdout, shown = on_a_terminal(host, "bulk-delete", "--all")
    assert status == 0
    assert stdout.startswith("removed 150 containers")
    assert "150/150" in shown


@pytest.mark.parametrize("option", ["--no-progress", "--quiet"])
def test_no_progress_bar(host: FakeHost, option: str) -> None:
    """With --no-progress or -q no bar is drawn on a terminal."""
    host.dnet("create", "first")
    status, _, shown = on_a_terminal(host, "bulk-create", "--count", "50", option)
    assert (status, shown) == (0, "")


def test_no_progress_bar_without_a_terminal(host: FakeHost) -> None:
    """Where stderr is no terminal, nothing is drawn and nothing is written."""
    host.dnet("create", "first")
    assert host.dnet("bulk-create", "--count", "50").stderr == ""


def test_interrupted_bar(host: FakeHost) -> None:
    """Ctrl-C in a bulk with a bar leaves the message on a line of its own."""
    host.dnet("create", "first")
    code = (
        "import json, os, pty, signal, subprocess, sys\n"
        "master, slave = pty.openpty()\n"
        "process = subprocess.Popen(sys.argv[1:], stderr=slave)\n"
        "os.close(slave)\n"
        "shown = b''\n"
        "try:\n"
        "    while block := os.read(master, 65536):\n"
        "        shown += block\n"
        "        if b'/400' in shown and process.poll() is None: process.send_signal(signal.SIGINT)\n"
        "except OSError: pass\n"
        "print(json.dumps([process.wait(), shown.decode()]))\n"
    )
    status, shown = host.python(code, program(), "bulk-create", "--count", "400", "--json").json
    assert status == 130
    assert shown.splitlines()[-1].startswith("dnet: interrupted")
    assert len(host.pins()) == 1


def test_help_is_shown_without_root_or_state(settled: FakeHost) -> None:
    """`--help` of every command has an example, and makes nothing."""
    nowhere = {"DNET_STATE_DIR": "/absent/state", "DNET_RUN_DIR": "/absent/run"}
    commands = ["", "create", "rm", "ps", "inspect", "bulk-create", "bulk-delete", "network", "network create", "plan"]
    for words in commands:
        shown = settled.dnet(*words.split(), "--help", env=nowhere).stdout
        assert "Example:" in shown, words


def test_waiting_for_a_lock_is_interrupted(host: FakeHost) -> None:
    """A command that waits for somebody else's lock is ended by Ctrl-C."""
    host.dnet("create", "first")
    lock = host.start(
        "flock", f"{host.state_dir}/network.lock", "sh", "-c", "echo held; exec cat",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert lock.stdout is not None
    assert lock.stdout.readline() == "held\n"
    waiting = host.start_dnet("network", "create", "blue")
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(timeout=0.5)
    waiting.send_signal(signal.SIGINT)
    _, stderr = waiting.communicate(timeout=5)
    assert waiting.returncode == 130, stderr
    assert host.rows("SELECT name FROM network") == [["bridge"]]
