"""An Open vSwitch of a fake host's own: ovsdb-server and ovs-vswitchd, its datapath in user space.

Where the kernel has the module openvswitch, DNET_TEST_DATAPATH=system tests with that.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from dnet.drivers import nat_table, openvswitch, sandbox
from dnet.errors import DnetError
from dnet.linux.kernel import Kernel
from dnet.linux.nftables import Nft
from dnet.model.published_port import PortMapping
from dnet.objects.host import NftTable
from dnet.objects.object import Object
from dnet.objects.openvswitch import OvsBridge, OvsPort
from dnet.openvswitch.ovsdb import Ovsdb
from dnet.openvswitch.remote import Remote, remote
from dnet.openvswitch.switch import OpenVSwitch
from dnet.transaction import apply
from tests.support import samples
from tests.support.bare_context import bare_context, undo
from tests.support.hosts import FakeHost, Namespace, wait_until

PROGRAMS = ("ovsdb-server", "ovs-vswitchd", "ovsdb-tool", "ovs-vsctl", "ovs-appctl", "ovs-pki", "ethtool")
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
# Of the fake host, whose /run is its own.
DIRECTORY = "/run/openvswitch"
ENVIRONMENT = dict.fromkeys(("OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"), DIRECTORY)
DATAPATH = os.environ.get("DNET_TEST_DATAPATH", "netdev")
MAC = "02:42:0a:01:00:01"


class Ovs:
    """Open vSwitch in a fake host; `server` and `switch` are its two processes."""

    def __init__(self, host: FakeHost, *, tso: bool) -> None:
        self.host = host
        host.run("mkdir", "-p", DIRECTORY)
        host.run("ovsdb-tool", "create", f"{DIRECTORY}/conf.db", SCHEMA)
        self.start_server()
        self.vsctl("--no-wait", "init")
        if tso:
            self.vsctl("--no-wait", "set", "Open_vSwitch", ".", "other_config:userspace-tso-enable=true")
        self.start_switch()

    def _start(self, name: str, *arguments: str, space: Namespace | None = None) -> subprocess.Popen[str]:
        options = (f"--pidfile={DIRECTORY}/{name}.pid", f"--log-file={DIRECTORY}/{name}.log", "-vconsole:off")
        return (space or self.host).start(name, *options, *arguments, env=ENVIRONMENT, stderr=subprocess.DEVNULL)

    def start_server(self, *, is_configured: bool = True) -> None:
        """Start ovsdb-server, listening where its own database says if there is one, and wait until it does."""
        socket = f"{DIRECTORY}/db.sock"
        keys = ("private_key", "certificate", "ca_cert")
        configured = (
            "--remote=db:Open_vSwitch,Open_vSwitch,manager_options",
            *(f"--{name.replace('_', '-')}=db:Open_vSwitch,SSL,{name}" for name in keys),
        )
        options = configured if is_configured else ()
        self.server = self._start("ovsdb-server", f"--remote=punix:{socket}", *options, f"{DIRECTORY}/conf.db")
        wait_until(lambda: os.path.exists(self.host.inside(socket)), "ovsdb-server listens")

    def start_switch(self, space: Namespace | None = None) -> None:
        """Start ovs-vswitchd, in the fake host or in a namespace of its."""
        options = ("--disable-system",) if DATAPATH == "netdev" else ()
        self.switch = self._start("ovs-vswitchd", *options, f"unix:{DIRECTORY}/db.sock", space=space)

    def end_server(self, number: int = signal.SIGTERM) -> None:
        """End ovsdb-server by a signal."""
        self._end(self.server, number)

    def end_switch(self, number: int = signal.SIGTERM) -> None:
        """End ovs-vswitchd by a signal."""
        self._end(self.switch, number)

    def _end(self, process: subprocess.Popen[str], number: int) -> None:
        process.send_signal(number)
        process.wait()

    def vsctl(self, *arguments: str, code: int = 0) -> str:
        """Run ovs-vsctl and return what it prints."""
        return self.host.run("ovs-vsctl", "--timeout=10", *arguments, code=code, env=ENVIRONMENT).stdout.strip()

    def appctl(self, *arguments: str) -> str:
        """Ask ovs-vswitchd itself."""
        return self.host.run("ovs-appctl", "--timeout=10", "-t", "ovs-vswitchd", *arguments, env=ENVIRONMENT).stdout

    def ports(self, bridge: str = "ovs0") -> list[str]:
        """Return the ports of a bridge, as the database has them."""
        return self.vsctl("list-ports", bridge).split()

    def datapath_ports(self) -> list[str]:
        """Return the ports that ovs-vswitchd really has, internal ones included."""
        lines = [line.split() for line in self.appctl("dpif/show").splitlines() if line.startswith("    ")]
        return sorted(words[0] for words in lines)

    def call(
        self, work: Callable[[OpenVSwitch], Any], where: Remote | None = None, space: Namespace | None = None
    ) -> Any:
        """Run a function in a process in the fake host, or in a namespace of it, with an OpenVSwitch of its own."""

        def inside() -> Any:
            switch = OpenVSwitch(Ovsdb(where or remote()))
            try:
                return work(switch)
            finally:
                switch.close()

        return (space or self.host).call(inside)

    def veths(self, *names: str) -> None:
        """Make veth pairs whose ends are called NAME and p-NAME, up."""
        lines = [f"link add {name} type veth peer name p-{name}" for name in names]
        lines += [f"link set {name} up" for pair in names for name in (pair, f"p-{pair}")]
        self.host.run("ip", "-batch", "-", stdin="\n".join(lines))


def bridge(name: str = "ovs0", owner: str = "net-1", **given: Any) -> OvsBridge:
    """Return a bridge."""
    known: dict[str, Any] = {"datapath_type": DATAPATH, "mac": MAC, "mtu": 0, "tag": 0}
    return OvsBridge(name, owner, **(known | given))


def port(name: str, owner: str = "", **given: Any) -> OvsPort:
    """Return a port of ovs0."""
    known: dict[str, Any] = {"bridge": "ovs0", "tag": 0, "trunks": (), "native": 0, "is_protected": False}
    return OvsPort(name, owner=owner or f"end-{name}", **(known | given))


def reaches(space: Namespace, address: str) -> bool:
    """Whether a ping is answered, soon if not at once: ovs-vswitchd may still be busy, and the machine with others."""
    wait_until(lambda: space.can_ping(address), f"{space.name} reaches {address}")
    return True


def require_programs() -> None:
    """Skip where Open vSwitch is not installed; fail where CI=true."""
    missing = [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")]
    obstacle = f"these programs are missing: {', '.join(missing)}" if missing else ""
    if not obstacle and DATAPATH == "netdev" and not os.path.exists("/dev/net/tun"):
        obstacle = "/dev/net/tun, by which Open vSwitch makes its own ports, is missing"
    if obstacle and os.environ.get("CI") == "true":
        pytest.fail(obstacle, pytrace=False)
    if obstacle:
        pytest.skip(obstacle)


# Networks and containers, as the engine would make them


class Lab:
    """A network of driver ovs with containers on it, made as the engine makes them."""

    def __init__(self, ovs: Ovs, **network: Any) -> None:
        self.ovs = ovs
        options = {"datapath_type": DATAPATH}
        known: dict[str, Any] = {"driver": "ovs", "device": "ovs0", "device_index": 0, "options": options}
        self.net = samples.network("blue", "10.1.0.0/22", **(known | network))

    def network(self, **given: Any) -> tuple[Object, ...]:
        """Return the objects of the network."""
        return (NftTable(), *openvswitch.network(replace(self.net, **given)))

    def group(
        self, number: int, ports: Sequence[PortMapping] = (), *, extra: dict[str, Any] | None = None, **vlans: Any
    ) -> tuple[Object, ...]:
        """Return the objects of container c-NUMBER, whose address is that of the number in the subnet."""
        address = str(self.net.subnet[number])
        end = samples.endpoint(self.net, address, index=0x5630_0000 + number, **(extra or {}))
        run = str(self.ovs.host.run_dir)
        box = samples.container(f"c-{number}", [end], run=run, ports=tuple(ports))
        *objects, port = openvswitch.endpoint(self.net, box, end)
        return (
            *nat_table.container_objects(box, {self.net.id: self.net}),
            *sandbox.sandbox(box, f"/run/netns/{box.name}"),
            *objects,
            replace(port, **vlans),
        )

    def create(self, *groups: tuple[Object, ...], keep_going: bool = False) -> list[str]:
        """Create groups in the fake host and return the error of each, or nothing; undone when one is raised."""

        def work(context: Any) -> list[str]:
            try:
                errors = apply.create_groups(context, groups, keep_going=keep_going)
            except DnetError as error:
                undo(context, error, groups, lambda: None)
                raise
            return [str(error or "") for error in errors]

        made: list[str] = self._apply(work)
        return made

    def delete(self, *groups: tuple[Object, ...]) -> list[int]:
        """Delete groups in the fake host and return the progress that was told."""

        def work(context: Any) -> list[int]:
            heard: list[int] = []
            apply.delete_groups(context, groups, on_progress=heard.append)
            return heard

        heard: list[int] = self._apply(work)
        return heard

    def _apply(self, work: Callable[[Any], Any]) -> Any:
        def inside() -> Any:
            kernel = Kernel(lambda _: None)
            kernel.prepare_directory(f"{self.ovs.host.run_dir}/netns")
            kernel.prepare_shared_directory("/run/netns")
            switch = OpenVSwitch(Ovsdb(remote()))
            return work(bare_context(kernel, Nft(), list, switch=lambda: switch))

        return self.ovs.host.call(inside)
