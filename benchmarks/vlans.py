"""What VLANs cost: a bulk spread over ten of them beside one without, Open vSwitch, and traffic within a VLAN.

    python -m benchmarks.vlans [--quick] [--repeat K] [--output DIR]

Everything is measured in one run, in turns, each on a fake host of its own. Open vSwitch takes part where it is
installed, with its datapath in user space: dnet's driver, and beside it `ovs-vsctl add-port`, one port at a time. A
bulk is the whole command, from exec to exit.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

from benchmarks import build_programs, hosts, machine, report, traffic_lan
from benchmarks.peers import Setting
from benchmarks.timed_process import ContestantFailedError, run

COUNT, QUICK_COUNT = 500, 20
TURNS = 5
VLANS = 10
PORT = 5201
LOAD_S, QUICK_LOAD_S = 3.0, 0.1
TARGET_BRIDGE, TARGET_OVS, TARGET_VSCTL, TARGET_TRAFFIC = 1.15, 2.5, 20.0, 0.95
DNET = Path(sys.executable).parent / "dnet"
OVS_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
OVS_PROGRAMS = ("ovsdb-server", "ovs-vswitchd", "ovsdb-tool", "ovs-vsctl")
START_TIMEOUT_S = 10.0
Values = dict[str, list[float]]


def measure(*, is_quick: bool, turns: int) -> Values:
    """Return the seconds, rates and ratios of every turn, by name."""
    values: Values = {}
    kinds = ["plain", "vlans", *(["ovs"] if _has_ovs() else [])]
    for _ in range(turns):
        for kind in kinds:
            for name, value in _on_new_host(["bulk", kind], is_quick=is_quick).items():
                values.setdefault(name, []).extend(value)
    if _has_ovs():
        values |= _on_new_host(["vsctl", "ovs"], is_quick=is_quick)
    for _ in range(turns):
        for kind in kinds:
            for load, rates in _on_new_host(["traffic", kind], is_quick=is_quick).items():
                values.setdefault(f"{kind}_{load}_per_s", []).append(statistics.median(rates))
    return values


def _has_ovs() -> bool:
    return all(shutil.which(program) for program in OVS_PROGRAMS)


def _on_new_host(task: list[str], *, is_quick: bool) -> Values:
    """Do a task on a new host and return what it measured."""
    with tempfile.TemporaryDirectory(prefix="dnet-bench-") as directory:
        request = ["--task", *task, "--directory", directory, *(["--quick"] if is_quick else [])]
        try:
            measured: Values = json.loads(hosts.run_module("vlans", request))
        except ContestantFailedError as error:
            raise ContestantFailedError(f"{' '.join(task)}: {error}") from error
    return measured


# On the new host


def _specifications(kind: str, count: int, path: Path) -> None:
    entries: list[dict[str, object]] = []
    for number in range(count):
        entry: dict[str, object] = {"name": f"c-{number + 1}", "network": "net"}
        entries.append(entry | ({} if kind == "plain" else {"vlan": 100 + number % VLANS}))
    path.write_text(json.dumps(entries), encoding="ascii")


def _make_network(kind: str, setting: Setting) -> None:
    options = {"plain": [], "vlans": ["--vlan", "100"], "ovs": ["-d", "ovs", "--vlan", "100"]}[kind]
    run([str(setting.dnet), "network", "create", "--subnet", "10.99.0.0/16", *options, "net"], setting.directory)


def _bulk(kind: str, setting: Setting) -> Values:
    count = QUICK_COUNT if setting.is_quick else COUNT
    path = setting.directory / "specs.json"
    _specifications(kind, count, path)
    _make_network(kind, setting)
    finished = run([str(setting.dnet), "bulk-create", "--file", str(path), "-q"], setting.directory)
    _require_apart(kind, count)
    return {f"{kind}_s": [finished.seconds]}


def _require_apart(kind: str, count: int) -> None:
    """Raise unless ping says that the first container reaches the last of its VLAN, and no other VLAN's."""
    same = count - (count - 1) % VLANS
    wanted = {same: True, 2: kind == "plain"}
    for number, is_reached in wanted.items():
        address = str(IPv4Address("10.99.0.1") + number)
        command = ["ip", "netns", "exec", "c-1", "ping", "-n", "-c", "1", "-W", "2", address]
        done = subprocess.run(command, capture_output=True, check=False)
        if (done.returncode == 0) != is_reached:
            raise ContestantFailedError(f"{kind}: c-1 {'does not reach' if is_reached else 'reaches'} c-{number}")


def _traffic(kind: str, setting: Setting) -> Values:
    """Bytes and connections a second from one container to another of its VLAN."""
    load_s = QUICK_LOAD_S if setting.is_quick else LOAD_S
    path = setting.directory / "specs.json"
    _specifications(kind, VLANS + 1, path)
    _make_network(kind, setting)
    run([str(setting.dnet), "bulk-create", "--file", str(path), "-q"], setting.directory)
    server, client = Path("/run/netns/c-1"), Path(f"/run/netns/c-{VLANS + 1}")
    rates: Values = {}
    with traffic_lan.server(setting.traffic, server, PORT):
        for load in ("bytes", "connections"):
            [rates[load]] = traffic_lan.rates(setting, load, IPv4Address("10.99.0.2"), PORT, load_s, [client])
    return rates


def _vsctl(setting: Setting) -> Values:
    """Add as many ports one at a time by ovs-vsctl, with none there before."""
    count = QUICK_COUNT if setting.is_quick else COUNT
    run(["ovs-vsctl", "add-br", "one", "--", "set", "bridge", "one", "datapath_type=netdev"], setting.directory)
    for number in range(count):
        run(f"ip link add v{number} type veth peer name w{number}".split(), setting.directory)
        run(f"ip link set v{number} up".split(), setting.directory)
    started = time.perf_counter()
    for number in range(count):
        run(["ovs-vsctl", "add-port", "one", f"v{number}", "tag=100"], setting.directory)
    return {"vsctl_s": [time.perf_counter() - started]}


@contextmanager
def _open_vswitch(directory: Path) -> Iterator[None]:
    """Run an ovsdb-server and an ovs-vswitchd of this host's own for the length of the block."""
    place = Path("/run/openvswitch")
    place.mkdir(exist_ok=True)
    run(["mount", "-t", "tmpfs", "ovs", str(place)], directory)
    os.environ |= dict.fromkeys(("OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"), str(place))
    run(["ovsdb-tool", "create", str(place / "conf.db"), OVS_SCHEMA], directory)
    server = _start("ovsdb-server", f"--remote=punix:{place}/db.sock", str(place / "conf.db"))
    deadline = time.monotonic() + START_TIMEOUT_S
    while not (place / "db.sock").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    run(["ovs-vsctl", "--no-wait", "init"], directory)
    run(["ovs-vsctl", "--no-wait", "set", "Open_vSwitch", ".", "other_config:userspace-tso-enable=true"], directory)
    switch = _start("ovs-vswitchd", "--disable-system", f"unix:{place}/db.sock")
    try:
        yield
    finally:
        for process in (switch, server):
            process.terminate()
            process.wait()


def _start(*command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _do(task: str, kind: str, setting: Setting) -> Values:
    if task == "bulk":
        return _bulk(kind, setting)
    if task == "traffic":
        return _traffic(kind, setting)
    return _vsctl(setting)


def _do_on_this_host(task: str, kind: str, directory: Path, *, is_quick: bool) -> int:
    built = directory / "programs"
    built.mkdir()
    build_programs.build(built)
    setting = Setting(directory, built, DNET, is_quick=is_quick)
    try:
        hosts.furnish(setting)
        run(["ip", "link", "set", "lo", "up"], directory)
        if kind == "ovs":
            with _open_vswitch(directory):
                values = _do(task, kind, setting)
        else:
            values = _do(task, kind, setting)
    except ContestantFailedError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(values))
    return 0


# The report


def findings(values: Values) -> list[report.Finding]:
    """Return the ratios with their targets."""
    bulks = _ratios(values, "vlans_s", "plain_s")
    found = [report.Finding("bulk over 10 VLANs / without", bulks, at_most=TARGET_BRIDGE)]
    loads = {"bytes": "throughput", "connections": "connections"}
    for load, word in loads.items():
        rates = _ratios(values, f"vlans_{load}_per_s", f"plain_{load}_per_s")
        found.append(report.Finding(f"{word} in a VLAN / on the plain bridge", rates, at_least=TARGET_TRAFFIC))
    if "ovs_s" in values:
        bulks = _ratios(values, "ovs_s", "plain_s")
        found.append(report.Finding("bulk on Open vSwitch / on the bridge", bulks, at_most=TARGET_OVS))
        one_by_one = values["vsctl_s"][0]
        ratios = [one_by_one / seconds for seconds in values["ovs_s"]]
        found.append(report.Finding("`ovs-vsctl add-port` one at a time / the whole bulk on Open vSwitch", ratios))
        # What Open vSwitch adds to a bulk are its ports.
        ports = [one_by_one / (one - other) for one, other in zip(values["ovs_s"], values["plain_s"], strict=True)]
        sentence = "`ovs-vsctl add-port` one at a time / what ports on Open vSwitch add to a bulk"
        found.append(report.Finding(sentence, ports, at_least=TARGET_VSCTL))
        for load, word in loads.items():
            rates = _ratios(values, f"ovs_{load}_per_s", f"plain_{load}_per_s")
            found.append(report.Finding(f"{word} on Open vSwitch / on the plain bridge", rates))
    return found


def _ratios(values: Values, above: str, below: str) -> list[float]:
    return [one / other for one, other in zip(values[above], values[below], strict=True)]


def main() -> int:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vlans", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one turn")
    parser.add_argument("--repeat", type=int, default=TURNS, metavar="K", help="turns (5)")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results", metavar="DIR")
    parser.add_argument("--task", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        return _do_on_this_host(options.task[0], options.task[1], options.directory, is_quick=options.quick)
    measured_on = machine.describe(DNET)
    try:
        values = measure(is_quick=options.quick, turns=1 if options.quick else options.repeat)
    except ContestantFailedError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    print(report.finding_table(findings(values)))
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "vlans.json"
    document = {"machine": measured_on, "values": values}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="ascii")
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
