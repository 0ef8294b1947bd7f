"""VLANs on a Linux bridge that does not filter them, by the tc programs; what tc and the pins show of that."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dnet.linux.bpf import MAP_NAME, Bpf
from dnet.linux.kernel import Kernel
from dnet.linux.nftables import Nft
from dnet.model.vlan import PortVlans
from dnet.objects.links import BridgePort
from dnet.objects.object import Object
from dnet.objects.vlans import ClsactHooks, MacEntry, VlanMapEntry, VlanProgram, vlan_block
from dnet.transaction import apply, apply_vlans
from tests.support.bare_context import bare_context
from tests.support.hosts import FakeHost, Raised, wait_until
from tests.support.vlan_semantics import VlanSemantics, access, trunk
from tests.support.vlan_switch import (
    BROADCAST,
    ETHERTYPE,
    NOBODY,
    LinuxBridge,
    on_one_processor,
    packet_sockets,
    received,
    tags_of,
    transfer,
)

DIRECTORY = "/run/dnet/bpf"


class FilteredBridge(LinuxBridge):
    """A Linux bridge with the tc programs at every port."""

    def filtering(self) -> Sequence[Object]:
        return filtered(self.device, self.index, PortVlans())

    def membership(self, name: str, vlans: PortVlans) -> Sequence[Object]:
        entry = VlanMapEntry(name, self.indexes[name], vlans)
        if name == self.device:
            return [entry]
        macs = [MacEntry(name, entry.index, "", mac=self.mac(name))] if name in self.numbers else []
        return [entry, ClsactHooks(name, entry.index, "", bridge_index=self.index), *macs]

    def apply(self, name: str, vlans: PortVlans) -> None:
        self.create(VlanMapEntry(name, self.indexes[name], vlans))

    def create(self, *objects: Object) -> None:
        create(self.host, *objects)

    @property
    def entries(self) -> list[VlanMapEntry]:
        """What the map holds when all is well."""
        return [VlanMapEntry(name, self.indexes[name], vlans) for name, vlans in self.vlans.items()]

    @property
    def programs(self) -> list[VlanProgram]:
        """The programs."""
        return [item for item in filtered(self.device, self.index, PortVlans()) if isinstance(item, VlanProgram)]


def filtered(device: str, index: int, vlans: PortVlans) -> list[Object]:
    """Return what makes a bridge filter VLANs."""
    programs = [VlanProgram(device, index, "", direction="into"), VlanProgram(device, index, "", direction="out")]
    return [VlanMapEntry(device, index, vlans), ClsactHooks(device, index, "", bridge_index=index), *programs]


def create(host: FakeHost, *objects: Object, known: Sequence[Object] = ()) -> None:
    """Create objects by a process of its own; `known` are those of VLANs that the store knows."""
    host.call(_create, objects, known)


def _create(objects: Sequence[Object], known: Sequence[Object]) -> None:
    apply.create_groups(_context(known), [objects])


def _context(known: Sequence[Object]) -> Any:
    return bare_context(Kernel(print), Nft(), tuple, Bpf(DIRECTORY), lambda: known)


def in_map(host: FakeHost) -> dict[int, PortVlans]:
    """Return what a process finds in the map."""
    found: dict[str, list[Any]] = host.call(_in_map)
    return {
        int(index): PortVlans(access=access, trunk=tuple((first, last) for first, last in ranges), native=native)
        for index, (access, ranges, native) in found.items()
    }


def _in_map() -> dict[int, list[Any]]:
    return {index: [item.access, item.trunk, item.native] for index, item in Bpf(DIRECTORY).ports().items()}


def pins(host: FakeHost) -> list[str]:
    """Return the names of what dnet has pinned."""
    names = host.run("ls", DIRECTORY).stdout.split()
    return [name for name in names if not name.endswith(".debug")]


def program_ids(host: FakeHost, index: int) -> list[int]:
    """Return the ids of the programs in a bridge's two blocks, by tc."""
    found = []
    for block in (vlan_block(index, "into"), vlan_block(index, "out")):
        filters = host.json("tc", "-j", "filter", "show", "block", str(block))
        [program] = [item["options"]["prog"] for item in filters if "options" in item]
        found.append(int(program["id"]))
    return found


@pytest.fixture
def switch(host: FakeHost) -> FilteredBridge:
    """Return a bridge."""
    return FilteredBridge(host)


@pytest.fixture
def other(host: FakeHost) -> FilteredBridge:
    """Return another one."""
    return FilteredBridge(host, 1)


class TestVlanFilter(VlanSemantics):
    """All that VLANs mean."""


# What the programs do besides


def test_device_without_an_entry(switch: FilteredBridge) -> None:
    """A port with the programs and no entry in the map passes nothing, either way: neither does the bridge's end."""
    switch.add(a=access(100), b=access(100), t=trunk("1-4094", native=1))
    switch.change(switch.device, access(100))
    switch.host.call(_delete_entries, [switch.indexes["b"], switch.index])
    assert switch.send(("b", ""), ("b", "100"), (switch.device, ""), ("a", ""), ("t", "100")) == [
        {},
        {},
        {},
        {"t": "100"},
        {"a": ""},
    ]


def _delete_entries(indexes: Sequence[int]) -> None:
    Bpf(DIRECTORY).delete_ports(indexes)


def test_foreign_port(switch: FilteredBridge) -> None:
    """A port that somebody else has added, without programs, is like a trunk of all VLANs: untagged it is in none."""
    switch.add(a=access(100), t=trunk("100"), u=trunk("200", native=100), silent=PortVlans())
    switch.host.run("ip netns add foreign")
    switch.host.run("ip link add name foreign master sw0 index 2000 type veth peer name eth0 netns foreign")
    switch.host.run("ip link set dev foreign addrgenmode none up")
    switch.host.run("ip -n foreign link set dev eth0 addrgenmode none up")
    switch.numbers["foreign"] = 9
    wait_until(lambda: switch.host.json("ip -j link show foreign")[0]["operstate"] == "UP", "the port is up")
    words = ["100", "", "0", "0p5", "s100", "s0", "300"]
    assert switch.send(*(("foreign", tags) for tags in words)) == [{"a": "", "t": "100", "u": ""}, *[{}] * 6]
    assert switch.send(("a", "")) == [{"foreign": "100", "t": "100", "u": ""}]


def test_what_tc_shows(switch: FilteredBridge, other: FilteredBridge) -> None:
    """One program for each direction in a block that a bridge's ports share, whatever their number."""
    switch.add(a=access(100), b=trunk("100-200"))
    join_and_check(switch)
    into, out = program_ids(switch.host, switch.index)
    assert program_ids(switch.host, other.index) == [into, out]
    for name, ways in {"a": ("ingress", "egress"), switch.device: ("egress", "ingress")}.items():
        for way, program, word in zip(ways, (into, out), ("into", "out"), strict=True):
            shown = switch.host.run("tc", "-s", "filter", "show", "dev", name, way).stdout
            assert f"dnet_vlan_{word} direct-action not_in_hw id {program} name dnet_vlan_{word}" in shown


def join_and_check(switch: FilteredBridge) -> None:
    """Check that every device's hooks lead to its bridge's blocks."""
    for name in ("a", "b", switch.device):
        shown = switch.host.run("tc", "qdisc", "show", "dev", name, "clsact").stdout
        blocks = [vlan_block(switch.index, "into"), vlan_block(switch.index, "out")]
        ingress, egress = blocks[::-1] if name == switch.device else blocks
        assert f"ingress_block {ingress} egress_block {egress}" in shown


def test_what_the_map_holds(switch: FilteredBridge) -> None:
    """The map can be listed, and holds for every device what it was given last."""
    kinds = {"a": access(1), "b": access(4094), "t": trunk("1-4094"), "u": trunk("1,8,9,4094", native=8)}
    switch.add(**kinds, silent=PortVlans())
    wanted = {switch.indexes[name]: vlans for name, vlans in switch.vlans.items()}
    assert in_map(switch.host) == wanted
    switch.change("a", trunk("7,9-10"))
    assert in_map(switch.host) == wanted | {switch.indexes["a"]: trunk("7,9-10")}


def test_deleting(host: FakeHost) -> None:
    """A port's entry goes with the port; with the last bridge that filters, the pins go; deleting again is nothing."""
    switch, other = FilteredBridge(host), FilteredBridge(host, 1)
    switch.add(a=access(100), b=access(200))
    both = [*switch.programs, *other.programs]
    host.call(_delete, [switch.entries[1]], both)
    assert switch.indexes["a"] not in in_map(host)
    assert switch.indexes["b"] in in_map(host)
    host.call(_delete, [*switch.entries, *switch.programs], both)
    assert in_map(host) == {other.index: PortVlans()}
    assert MAP_NAME in pins(host)
    for _ in range(2):
        host.call(_delete, [*other.entries, *other.programs], other.programs)
        assert pins(host) == []
    assert in_map(host) == {}


def _delete(objects: Sequence[Object], known: Sequence[Object]) -> None:
    apply.delete_groups(_context(known), [objects])


def test_foreign_hooks(switch: FilteredBridge) -> None:
    """A device on which somebody else has tc hooks is refused, with the way to remove them; theirs stay."""
    switch.host.run("ip link add theirs type veth peer name peer")
    switch.host.run("tc qdisc add dev theirs clsact")
    with pytest.raises(Raised) as caught:
        switch.connect(theirs=access(100))
    assert caught.value.kind == "Conflict"
    assert caught.value.sentence.startswith("cannot create VLAN filter on theirs: ")
    assert "tc qdisc del dev theirs clsact" in caught.value.hint
    assert "block" not in switch.host.run("tc qdisc show dev theirs clsact").stdout


@pytest.mark.parametrize("isolated", [("a", "b"), ("a",), ()])
def test_isolated_ports(switch: FilteredBridge, isolated: tuple[str, ...]) -> None:
    """Isolated ports of one VLAN exchange no frames with each other, but with the bridge and with other ports."""
    switch.add(a=access(100), b=access(100), c=access(100))
    switch.change(switch.device, access(100))
    ports = [BridgePort(name, switch.indexes[name], "", hairpin=False, isolated=True) for name in isolated]
    create(switch.host, *ports)
    everybody = {"a", "b", "c", switch.device}
    for source, heard in zip("abc", switch.send(("a", ""), ("b", ""), ("c", "")), strict=True):
        assert set(heard) == everybody - {source} - (set(isolated) if source in isolated else set())


def test_hairpin(switch: FilteredBridge) -> None:
    """A port in hairpin mode gets back what it has sent to its VLAN, as it would be sent to it."""
    switch.add(a=access(100), t=trunk("100"))
    create(switch.host, *(BridgePort(name, switch.indexes[name], "", hairpin=True, isolated=False) for name in "at"))
    assert switch.send(("a", ""), ("t", "100")) == [{"a": "", "t": "100"}, {"a": "", "t": "100"}]


def test_claimed_macs(switch: FilteredBridge) -> None:
    """The MAC of each port stays at it, whoever sends from it; one that nobody knows is at whoever sends from it last.

    That is the one table of all VLANs: the filtering of a bridge's own, and Open vSwitch, have one for each.
    """
    switch.add(a=access(100), b=access(100), c=access(200))
    [entry] = [item for item in switch.host.json("bridge -j fdb show dev b") if item["mac"] == switch.mac("b")]
    assert (entry["master"], entry["state"], entry["flags"]) == (switch.device, "static", ["sticky"])
    for source in ("a", "c"):
        switch.send((source, "", BROADCAST, switch.mac("b")))
        assert switch.send(("a", "", "b")) == [{"b": ""}]
    frames = [("b", "", BROADCAST, NOBODY), ("a", "", NOBODY), ("c", "", BROADCAST, NOBODY), ("a", "", NOBODY)]
    assert switch.send(*frames) == [{"a": ""}, {"b": ""}, {}, {}]


def test_segments_pass_whole(switch: FilteredBridge) -> None:
    """What TCP leaves to the device to cut passes the programs uncut, tagged and untagged, and is delivered whole."""
    switch.add(a=access(100), b=access(100))
    switch.change(switch.device, access(100))
    switch.add_addresses()
    a, b, size = switch.inside("a"), switch.inside("b"), 8 << 20
    for source, target, address in ((a, b, "b"), (switch.host, b, "b"), (b, switch.host, switch.device)):
        before = packets(switch.host, "b")
        assert transfer(source, target, switch.address(address), size) == size
        assert packets(switch.host, "b") - before < size / 1500 / 2


def packets(host: FakeHost, name: str) -> int:
    """Return how many packets a device has sent and received."""
    [link] = host.json("ip", "-j", "-s", "link", "show", "dev", name)
    return sum(link["stats64"][way]["packets"] for way in ("rx", "tx"))


def test_without_privilege(host: FakeHost) -> None:
    """A user without privilege is told that root is needed, and nothing is left."""
    host.run("mkdir", "--parents", "--mode=777", DIRECTORY)
    with pytest.raises(Raised) as caught:
        host.call(_prepare_as_nobody)
    assert caught.value.kind == "NeedsRoot"
    assert caught.value.sentence == f"cannot mount a bpffs on {DIRECTORY}: Operation not permitted"
    assert host.run("ls", DIRECTORY).stdout == ""


def _prepare_as_nobody() -> None:
    os.setuid(65534)
    Bpf(DIRECTORY).prepare(dict)


# Versions of the programs


def test_programs_are_loaded_once(switch: FilteredBridge, other: FilteredBridge) -> None:
    """Every process uses the programs and the map that are pinned."""
    before = program_ids(switch.host, switch.index)
    names = pins(switch.host)
    assert sorted(name.partition("-")[0] for name in names) == ["into", "out", "ports"]
    switch.add(a=access(100))
    assert program_ids(switch.host, switch.index) == program_ids(switch.host, other.index) == before
    assert pins(switch.host) == names


def test_another_version_is_replaced(switch: FilteredBridge, other: FilteredBridge) -> None:
    """Pinned programs of another version are replaced on all bridges, with the map as it is."""
    switch.add(a=access(100), b=access(100), c=access(200))
    before, names = program_ids(switch.host, switch.index), pins(switch.host)
    version = names[0].partition("-")[2]
    for way in ("into", "out"):
        switch.host.run("mv", f"{DIRECTORY}/{way}-{version}", f"{DIRECTORY}/{way}-0123abcd")
    create(switch.host, switch.entries[-1], known=[*switch.programs, *other.programs])
    after = program_ids(switch.host, switch.index)
    assert not set(before) & set(after)
    assert program_ids(switch.host, other.index) == after
    assert pins(switch.host) == names
    assert switch.send(("a", "")) == [{"b": ""}]


@pytest.mark.parametrize("lost", [[MAP_NAME], [MAP_NAME, "into-*", "out-*"], ["into-*"]])
def test_lost_pins(switch: FilteredBridge, lost: list[str]) -> None:
    """Where pins are lost, programs and a map with all that is known take the place of those that still work."""
    switch.add(a=access(100), b=access(100), c=access(200), d=trunk("100,200"))
    names = pins(switch.host)
    switch.host.run("sh", "-c", " ".join(["cd", DIRECTORY, "&&", "rm", *lost]))
    entry = VlanMapEntry("c", switch.indexes["c"], access(100))
    create(switch.host, entry, known=[*switch.entries, *switch.programs])
    assert pins(switch.host) == names
    assert in_map(switch.host) == {item.index: item.vlans for item in [*switch.entries, entry]}
    assert switch.send(("a", "")) == [{"b": "", "c": "", "d": "100"}]


def test_replaced_under_traffic(switch: FilteredBridge) -> None:
    """While programs and map are replaced again and again no frame is lost, and none gets into another VLAN."""
    switch.add(a=access(100), b=access(100), c=access(200), t=trunk("100,200"))
    before = program_ids(switch.host, switch.index)
    sent, rounds, heard = switch.host.call(_replace_under_traffic, [*switch.entries, *switch.programs])
    assert rounds > 3
    assert program_ids(switch.host, switch.index)[0] > before[0]
    assert heard == {"b": {"": sent}, "t": {"100": sent}}


def _replace_under_traffic(known: Sequence[Object]) -> tuple[int, int, dict[str, dict[str, int]]]:
    """Broadcast from port `a` while the programs are replaced; return frames, replacements, and who got how many."""
    frame = bytes.fromhex("ffffffffffff020000000001") + ETHERTYPE.to_bytes(2) + bytes(46)
    sent, rounds = 5000, 0
    heard: dict[str, Counter[str]] = {}
    with contextlib.ExitStack() as stack:
        sockets = packet_sockets(stack, "abct")

        def send() -> None:
            with on_one_processor():
                for _ in range(sent):
                    sockets["a"].send(frame)

        thread = threading.Thread(target=send)
        thread.start()
        while thread.is_alive():
            for path in Path(DIRECTORY).glob("*-*"):
                path.unlink()
            apply_vlans.set_vlan_entries(_context(known), [item for item in known if isinstance(item, VlanMapEntry)])
            rounds += 1
        thread.join()
        for name, packet, _ in received(sockets):
            heard.setdefault(name, Counter())[tags_of(packet)] += 1
    return sent, rounds, dict(heard)
