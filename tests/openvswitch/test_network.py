"""Networks on Open vSwitch, as ping, TCP connections and ethtool see them."""

from __future__ import annotations

import hashlib
import signal
import socket
import sys
from ipaddress import IPv4Address, IPv6Address, IPv6Interface, IPv6Network

import pytest

from dnet.linux.kernel import Kernel
from dnet.model.published_port import PortMapping
from tests.support.hosts import Namespace, Neighbour, NoAnswer, Raised, wait_until
from tests.support.openvswitch import DATAPATH, Lab, Ovs, reaches
from tests.support.traffic import ping_all

EVERY = IPv4Address("0.0.0.0")
TRANSFER_BYTES = 20_000_000
SINK = """
import hashlib, socket, sys
listener = socket.socket()
listener.bind(("0.0.0.0", 5001))
listener.listen()
print(flush=True)
connection, _ = listener.accept()
seen = hashlib.sha256()
while data := connection.recv(1 << 20):
    seen.update(data)
print(seen.hexdigest())
"""


def features(space: Namespace, device: str) -> dict[str, bool]:
    """Return the offloads of a device, as ethtool tells them."""
    lines = space.run("ethtool", "-k", device).stdout.splitlines()[1:]
    return {name.strip(): value.split()[0] == "on" for name, _, value in (line.partition(":") for line in lines)}


def pour(address: str) -> str:
    """Send bytes over TCP and return their hash; what is sent in one call is longer than any MTU."""
    data = bytes(range(256)) * (TRANSFER_BYTES // 256)
    with socket.create_connection((address, 5001), timeout=20) as connection:
        connection.sendall(data)
    return hashlib.sha256(data).hexdigest()


def transfer(source: Namespace, target: Namespace, address: str) -> bool:
    """Whether much arrives over TCP as it was sent."""
    process = target.start(sys.executable, "-c", SINK, stdout=-1)
    assert process.stdout.readline() == "\n"
    sent = source.call(pour, address)
    return process.communicate()[0].strip() == sent


def test_neighbours_gateway_and_world(ovs: Ovs, outside: Neighbour):
    """Containers reach each other, the gateway on the bridge's own device, and the world under the host's address."""
    lab = Lab(ovs)
    lab.create(lab.network())
    lab.create(lab.group(2), lab.group(3))
    box = ovs.host.sandbox("c-2")
    assert reaches(box, "10.1.0.3")
    assert reaches(box, "10.1.0.1")
    with outside.serve(8000):
        assert box.ask("198.51.100.1", 8000)["peer"] == outside.host_address


def test_ipv6(ovs: Ovs):
    """Containers reach each other and the gateway over IPv6, and a port published on ::1 is reached from the host."""
    lab = Lab(ovs, subnet6=IPv6Network("fd00:1::/64"), gateway6=IPv6Address("fd00:1::1"))
    lab.create(lab.network())
    addresses = {number: IPv6Interface(f"fd00:1::{number}/64") for number in (2, 3)}
    published = [PortMapping(IPv6Address("::1"), 8080, 80, "tcp")]
    for number, address in addresses.items():
        lab.create(lab.group(number, published if number == 2 else (), extra={"address6": address}))
    with ovs.host.sandbox("c-2").serve(80, address="::"):
        assert ovs.host.sandbox("c-3").ask("fd00:1::2", 80)["peer"] == "fd00:1::3"
        assert ovs.host.ask("fd00:1::2", 80)["peer"] == "fd00:1::1"
        assert ovs.host.ask("::1", 8080)["server"] == "c-2"


def test_published_port(ovs: Ovs, outside: Neighbour):
    """A published port is reached from outside, the host, 127.0.0.1, a neighbour and itself; another one is not."""
    lab = Lab(ovs)
    lab.create(lab.network())
    lab.create(lab.group(2, [PortMapping(EVERY, 8080, 80, "tcp")]), lab.group(3))
    box = ovs.host.sandbox("c-2")
    outside.run(f"ip route add 10.1.0.0/22 via {outside.host_address}")
    with box.serve(80), box.serve(81):
        assert outside.ask(outside.host_address, 8080)["peer"] == outside.address
        assert ovs.host.ask("127.0.0.1", 8080)["server"] == "c-2"
        assert ovs.host.sandbox("c-3").ask(outside.host_address, 8080)["server"] == "c-2"
        assert box.ask(outside.host_address, 8080)["server"] == "c-2"
        with pytest.raises(NoAnswer):
            outside.ask("10.1.0.2", 81, timeout_s=0.3)


def test_without_icc(ovs: Ovs, outside: Neighbour):
    """With icc=false containers reach gateway and world, but each other only through a published port."""
    lab = Lab(ovs, icc=False)
    lab.create(lab.network())
    lab.create(lab.group(2, [PortMapping(EVERY, 8080, 80, "tcp")]), lab.group(3))
    two, three = ovs.host.sandbox("c-2"), ovs.host.sandbox("c-3")
    assert reaches(three, "10.1.0.1")
    assert reaches(three, "198.51.100.1")
    assert not three.can_ping("10.1.0.2")
    with two.serve(80):
        assert three.ask(outside.host_address, 8080)["server"] == "c-2"


@pytest.mark.skipif(DATAPATH == "system", reason="the kernel's datapath completes frames itself")
def test_tcp_at_full_mtu(ovs: Ovs):
    """Without segmentation offload in the switch, containers send complete frames, and TCP passes in all directions."""
    lab = Lab(ovs)
    lab.create(lab.network())
    assert not ovs.host.call(lambda: Kernel(print).has_offloads("ovs0"))
    lab.create(lab.group(2), lab.group(3))
    two, three = ovs.host.sandbox("c-2"), ovs.host.sandbox("c-3")
    names = ("tx-checksum-ip-generic", "tx-checksum-sctp", "tx-tcp-segmentation", "tx-tcp6-segmentation")
    assert [name for name in (*names, "tx-udp-segmentation") if features(two, "eth0")[name]] == []
    assert two.json("ip -j link show dev eth0")[0]["mtu"] == 1500
    assert transfer(two, three, "10.1.0.3")
    assert transfer(two, ovs.host, "10.1.0.1")
    assert transfer(ovs.host, two, "10.1.0.2")


@pytest.mark.tso
def test_tcp_with_segmentation_offload(ovs: Ovs):
    """Where the switch does segmentation offload, which its own port shows, frames are left to it, and TCP passes."""
    lab = Lab(ovs)
    lab.create(lab.network())
    assert ovs.host.call(lambda: Kernel(print).has_offloads("ovs0"))
    assert ovs.call(lambda switch: switch.switch().wants_tso)
    lab.create(lab.group(2), lab.group(3))
    two, three = ovs.host.sandbox("c-2"), ovs.host.sandbox("c-3")
    assert features(two, "eth0")["tx-tcp-segmentation"]
    assert transfer(two, three, "10.1.0.3")
    assert transfer(two, ovs.host, "10.1.0.1")
    assert transfer(ovs.host, two, "10.1.0.2")


def test_four_containers_in_two_vlans(ovs: Ovs):
    """Four containers of one subnet, two in each of two VLANs: only members of the same VLAN reach each other."""
    lab = Lab(ovs)
    lab.create(lab.network())
    lab.create(*(lab.group(number, tag=tag) for number, tag in ((2, 100), (3, 100), (4, 200), (5, 200))))
    numbers = (2, 3, 4, 5)
    boxes = {number: ovs.host.sandbox(f"c-{number}") for number in numbers}
    assert all(reaches(boxes[number], f"10.1.0.{other}") for number, other in ((2, 3), (4, 5)))
    found = ping_all(*[(boxes[number], f"10.1.0.{other}") for number in numbers for other in (1, *numbers)])
    same = [[other == number or {number, other} in ({2, 3}, {4, 5}) for other in (1, *numbers)] for number in numbers]
    assert found == [answer for line in same for answer in line]


def test_gateway_in_a_vlan(ovs: Ovs):
    """With a tag the host and the gateway are in that VLAN, and in no other."""
    lab = Lab(ovs)
    lab.create(lab.network(vlan=100))
    lab.create(lab.group(2, tag=100), lab.group(3, tag=200), lab.group(4))
    boxes = [ovs.host.sandbox(f"c-{number}") for number in (2, 3, 4)]
    assert reaches(boxes[0], "10.1.0.1")
    assert ping_all(*[(box, "10.1.0.1") for box in boxes]) == [True, False, False]


def test_crash_of_the_switch(ovs: Ovs):
    """After ovs-vswitchd is killed and started again, containers reach each other and the gateway as before."""
    lab = Lab(ovs)
    lab.create(lab.network())
    lab.create(lab.group(2), lab.group(3, tag=100), lab.group(4, tag=100))
    two, three = ovs.host.sandbox("c-2"), ovs.host.sandbox("c-3")
    ovs.end_switch(signal.SIGKILL)
    assert not three.can_ping("10.1.0.4")
    ovs.start_switch()
    assert reaches(three, "10.1.0.4")
    assert ping_all((two, "10.1.0.1"), (three, "10.1.0.1")) == [True, False]
    lab.create(lab.group(5))
    assert reaches(two, "10.1.0.5")


def test_made_again_after_a_reboot(ovs: Ovs):
    """What a reboot leaves, rows of the database without devices, is made whole by creating the same objects again."""
    lab = Lab(ovs)
    groups = [lab.network(), lab.group(2, tag=100), lab.group(3, tag=100), lab.group(4)]
    lab.create(groups[0])
    lab.create(*groups[1:])
    ovs.end_switch()
    in_kernel = [[item for item in group if item.backend == "kernel"] for group in groups[1:]]
    ovs.host.call(lambda: Kernel(print).delete(in_kernel))
    ovs.host.run("sh", "-c", "ip link delete ovs0; ip link delete ovs-netdev; true")
    ovs.start_switch()
    wait_until(lambda: "veth56300002" in ovs.vsctl("find", "Interface", "ofport=-1"), "a device is missed")
    lab.create(groups[0])
    lab.create(*groups[1:])
    assert reaches(ovs.host.sandbox("c-2"), "10.1.0.3")
    assert reaches(ovs.host.sandbox("c-4"), "10.1.0.1")
    assert len(ovs.ports()) == 3


def test_mtu(ovs: Ovs):
    """A network's MTU is that of the containers' interfaces, both their ends, and the gateway's device."""
    lab = Lab(ovs, mtu=1400)
    lab.create(lab.network())
    lab.create(lab.group(2))
    mtus = {link["ifname"]: link["mtu"] for link in ovs.host.json("ip -j link")}
    assert (mtus["ovs0"], mtus["veth56300002"]) == (1400, 1400)
    assert ovs.host.sandbox("c-2").json("ip -j link show dev eth0")[0]["mtu"] == 1400


def test_everything_goes(ovs: Ovs):
    """After containers and network are deleted the host is as before, and the progress told goes up to their number."""
    before = ovs.host.snapshot()
    lab = Lab(ovs)
    groups = [lab.group(number) for number in range(2, 32)]
    lab.create(lab.network())
    lab.create(*groups)
    assert len(ovs.ports()) == 30
    heard = lab.delete(*groups)
    assert (heard, heard[-1]) == (sorted(heard), 30)
    assert ovs.ports() == []
    lab.delete(lab.network())
    assert ovs.vsctl("list-br") == ""
    wait_until(lambda: [link["ifname"] for link in ovs.host.json("ip -j link")] == ["lo"], "the devices are gone")
    after = ovs.host.snapshot()
    assert [key for key in before if key not in {"files", "mounts", "forwarding"} and before[key] != after[key]] == []


def test_refused_port_leaves_nothing(ovs: Ovs):
    """When Open vSwitch refuses the port of one container, no container is left, and what had its name stays."""
    lab = Lab(ovs)
    lab.create(lab.network())
    ovs.vsctl("--no-wait", "add-port", "ovs0", "veth56300004")
    before = ovs.host.snapshot()
    with pytest.raises(Raised, match="cannot create port veth56300004 on Open vSwitch bridge ovs0: a port") as caught:
        lab.create(*(lab.group(number) for number in (2, 3, 4, 5)))
    assert (caught.value.kind, caught.value.notes) == ("Conflict", [])
    assert ovs.host.changes(before) == ""
    assert ovs.ports() == ["veth56300004"]


def test_keep_going(ovs: Ovs):
    """With keep_going the container whose port is refused is removed, and the others work."""
    lab = Lab(ovs)
    lab.create(lab.network())
    ovs.vsctl("--no-wait", "add-port", "ovs0", "veth56300004")
    errors = lab.create(*(lab.group(number) for number in (2, 3, 4, 5)), keep_going=True)
    assert [bool(error) for error in errors] == [False, False, True, False]
    assert "veth56300004" in errors[2]
    assert sorted(item["name"] for item in ovs.host.json("ip -j netns")) == ["c-2", "c-3", "c-5"]
    assert reaches(ovs.host.sandbox("c-2"), "10.1.0.5")


def test_switch_that_does_not_run(ovs: Ovs):
    """Without ovs-vswitchd nothing is made in the kernel or the database, and the hint says how to start it."""
    lab = Lab(ovs)
    lab.create(lab.network())
    ovs.end_switch()
    before = ovs.host.snapshot()
    with pytest.raises(Raised, match="ovs-vswitchd, which would have to do it, is not running") as caught:
        lab.create(lab.group(2), lab.group(3))
    assert (caught.value.kind, caught.value.notes) == ("SwitchAbsent", [])
    assert "systemctl start" in caught.value.hint
    assert ovs.host.changes(before) == ""
    assert ovs.ports() == []
