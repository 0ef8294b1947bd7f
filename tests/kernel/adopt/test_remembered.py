"""What is remembered of an adopted interface, how it is given back, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import dnet
from tests.support.adopted_lan import FAR, HOST, HOST6, MACHINE, add_container, make_network
from tests.support.dnet_commands import network, run
from tests.support.hosts import FakeHost, Namespace, Raised, wait_until
from tests.support.uplink_lan import (
    Switch,
    addresses,
    adopt_and_die,
    is_adopted,
    link,
    uplink_changes,
    uplink_state,
)


def test_adopted_twice(host: FakeHost, machine: Namespace) -> None:
    """Adopting again what is adopted is success, and changes nothing."""
    make_network(host)
    run(host, "network", "adopt", "lan", "eth1")
    before = uplink_state(host)
    assert run(host, "network", "adopt", "lan", "eth1", "--json").json == {"network": "lan", "uplinks": ["eth1"]}
    assert run(host, "network", "adopt", "--dry-run", "lan", "eth1").stdout == ""
    assert uplink_changes(before, uplink_state(host)) == ""
    assert machine.can_ping(HOST)


def test_network_rm_gives_back(host: FakeHost, machine: Namespace) -> None:
    """Removing the network gives its interfaces back first."""
    run(host, "network", "prune")
    make_network(host)
    run(host, "network", "rm", "lan")
    before = uplink_state(host)
    make_network(host)
    run(host, "network", "adopt", "lan", "eth1")
    run(host, "network", "rm", "lan")
    assert uplink_changes(before, uplink_state(host)) == ""
    assert machine.can_ping(HOST)


def test_killed_in_the_middle(host: FakeHost, rich: str) -> None:  # noqa: ARG001
    """What a command that was killed in the middle has moved, the next one gives back."""
    before = uplink_state(host)
    assert host.call(adopt_and_die, host.directories, lambda group: len(group) * 2 // 3)
    assert "master" in link(host, "eth1")
    said = run(host, "network", "rm", "absent", code=3).stderr
    assert "gave back interface eth1" in said
    assert uplink_changes(before, uplink_state(host)) == ""


def test_after_a_reboot(tmp_path: Path) -> None:
    """After a reboot, `dnet restore` moves what the system has configured on the interface by then to the bridge."""
    directory = tmp_path / "state of both"
    directory.mkdir()
    with FakeHost(directory) as host:
        Switch(host).plug(host, "eth1", f"{HOST}/24")
        host.run(f"ip route add default via {MACHINE}")
        make_network(host)
        run(host, "network", "adopt", "--yes", "lan", "eth1")
    with FakeHost(directory) as host:
        boot = tmp_path / "boot_id"
        boot.write_text("another boot\n", encoding="ascii")
        host.run("mount", "--bind", str(boot), "/proc/sys/kernel/random/boot_id")
        switch = Switch(host)
        switch.plug(host, "eth1", "192.0.2.77/24", f"{HOST6}/64")
        host.run(f"ip route add default via {MACHINE} metric 7")
        wait_until(lambda: host.json(f"ip -6 -j route show table local {HOST6}"), "the link is ready")
        before = {key: value for key, value in uplink_state(host).items() if key in {"addresses", "routes", "routes6"}}
        missing = run(host, "reconcile", "--dry-run", code=10).stdout
        assert "interface eth1 on network lan" in missing
        assert "restored: interface eth1 on network lan" in run(host, "restore").stdout
        bridge = run(host, "network", "inspect", "lan").json[0]["Segments"][0]["Device"]
        assert set(addresses(host, bridge)) == {"10.1.0.1/16", "192.0.2.77/24", f"{HOST6}/64"}
        assert is_adopted(host)
        [default] = host.json("ip -j route show default")
        assert (default["dev"], default["metric"]) == (bridge, 7)
        assert run(host, "reconcile", "--dry-run").stdout == ""
        run(host, "network", "rm", "lan")
        after = {key: value for key, value in uplink_state(host).items() if key in before}
        assert uplink_changes(before, after) == ""


def test_bridge_that_somebody_deleted(host: FakeHost, routed: Namespace) -> None:
    """When somebody deletes the bridge, the addresses that went with it come back with the next reconcile."""
    bridge = make_network(host)
    add_container(host, "web")
    before = uplink_state(host)
    run(host, "network", "adopt", "--yes", "lan", "eth1")
    host.run(f"ip link delete {bridge}")
    assert addresses(host, "eth1") == []
    run(host, "reconcile")
    assert is_adopted(host)
    assert host.can_ping(FAR)
    run(host, "network", "adopt", "--undo", "lan", "eth1")
    after = uplink_state(host)
    for key in ("addresses", "routes", "routes6"):
        assert uplink_changes({key: before[key]}, after) == ""
    assert routed.can_ping(HOST)


def test_interface_that_is_gone(host: FakeHost, switch: Switch) -> None:
    """What was moved from an interface that is gone is taken off the bridge, and it is forgotten."""
    bridge = make_network(host)
    run(host, "network", "adopt", "lan", "eth1")
    host.run("ip link delete eth1")
    run(host, "network", "adopt", "--undo", "lan", "eth1")
    assert addresses(host, bridge) == ["10.1.0.1/16"]
    assert host.rows("SELECT * FROM adoption") == []
    switch.plug(host, "eth1", f"{HOST}/24")
    run(host, "network", "adopt", "lan", "eth1")
    assert is_adopted(host)


# Bad input


PREPARED = """
ip link add br9 type bridge
ip link add port9 type veth peer name port9b; ip link set port9 master br9
ip link add under type veth peer name underb; ip link add link under name mv0 type macvlan
ip link add twin type veth peer name twinb; ip address add 192.0.2.10/24 dev twin
ip tuntap add tun0 mode tun
ip link add hop type veth peer name hopb; ip link set hop addrgenmode none; ip link set hopb addrgenmode none
ip link set hop up; ip link set hopb up; ip address add 10.70.0.1/24 dev hop
ip nexthop add id 9 dev hop; ip route add 10.71.0.0/16 nhid 9
"""
BAD = [
    (3, "there is no interface absent", "lan absent"),
    (3, "no network absent", "absent eth1"),
    (2, "invalid interface name 'sixteen_letters_'", "lan sixteen_letters_"),
    (2, "invalid interface name 'lo'", "lan lo"),
    (4, "port9 is in use by br9", "lan port9"),
    (4, "under is in use by macvlan mv0", "lan under"),
    (4, "address 192.0.2.10 of twin is on eth1 too", "lan twin"),
    (2, "tun0 cannot be adopted: it is no Ethernet device", "lan tun0"),
    (2, "br9 cannot be adopted: it is a bridge", "lan br9"),
    (2, "cannot be adopted: it is the network's bridge itself", "lan BRIDGE"),
    (6, "hop cannot be adopted: .* nexthop object 9", "lan hop"),
    (3, "network lan has not adopted interface eth1", "--undo lan eth1"),
    (4, "interface eth3 is adopted by network blue", "lan eth3"),
    (4, "interface eth3 is adopted by network blue", "--undo lan eth3"),
    (2, "confirm", "--confirm 0 lan eth1"),
]


def test_bad_input(host: FakeHost, switch: Switch) -> None:
    """Each has its sentence and its exit code, and changes nothing."""
    bridge = make_network(host)
    network(host, "blue", "--subnet", "10.2.0.0/16")
    switch.plug(host, "eth3", "203.0.113.9/24")
    run(host, "network", "adopt", "blue", "eth3")
    host.run("sh", "-ec", PREPARED)
    before = uplink_state(host)
    for code, words, arguments in BAD:
        result = run(host, "network", "adopt", *arguments.replace("BRIDGE", bridge).split(), code=code)
        first = result.stderr.splitlines()[0]
        assert re.search(words, first), first
        assert re.match(r"dnet: \S.*[^.]$", first), first
    assert uplink_changes(before, uplink_state(host)) == ""


def test_rules_that_name_the_interface(host: FakeHost, switch: Switch) -> None:  # noqa: ARG001
    """A firewall's rules for the interface do not match any more: that is said, chain by chain."""
    make_network(host)
    rule = "nft add rule inet mine input iifname eth1 accept"
    host.run("sh", "-c", f"nft add table inet mine; nft add chain inet mine input; {rule}")
    said = run(host, "network", "adopt", "lan", "eth1").stderr
    assert "chain inet mine input has rules for eth1" in said


def test_raised_for_callers(host: FakeHost, switch: Switch) -> None:  # noqa: ARG001
    """The library raises what the command line says."""
    make_network(host)
    with pytest.raises(Raised) as caught:
        host.call(lambda directories: dnet.open(*directories).release("lan", "eth1"), host.directories)
    assert caught.value.kind == "NotFound"
