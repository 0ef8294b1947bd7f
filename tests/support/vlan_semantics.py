"""What VLANs mean on a bridge: the tests that every realisation passes. A realisation's module makes a class of them.

class TestOpenVSwitch(VlanSemantics):
    @pytest.fixture
    def switch(self, host): ...
    @pytest.fixture
    def other(self, host, switch): ...
"""

from __future__ import annotations

import random
from typing import ClassVar

from dnet.model.vlan import PortVlans, read_vlans
from tests.support.traffic import answering
from tests.support.vlan_switch import BROADCAST, ETHERTYPE, NOBODY, Switch, expected

SILENT = PortVlans()


def access(vid: int) -> PortVlans:
    """Return a port in one VLAN."""
    return PortVlans(access=vid)


def trunk(text: str, native: int | None = None) -> PortVlans:
    """Return a trunk."""
    found = read_vlans(trunk=text, native=native)
    assert found
    return found


class VlanSemantics:
    """The facts. `switch` and `other` are two bridges on one fake host."""

    # Whether an access port refuses its own VLAN's tag, every port S-tags, and a frame with a tag behind the outer one
    # is refused where it would leave without that. The kernel's own VLAN filtering does nothing of it.
    is_strict: ClassVar[bool] = True

    def test_access_ports(self, switch: Switch) -> None:
        """Broadcast, known and unknown unicast between access ports stay in their VLAN, untagged on the wire."""
        switch.add(a=access(100), b=access(100), c=access(200), d=access(200))
        switch.send(("a", ""), ("b", ""), ("c", ""), ("d", ""))
        heard = switch.send(("a", ""), ("a", "", NOBODY), ("a", "", "b"), ("c", ""), ("c", "", NOBODY), ("c", "", "d"))
        assert heard == [{"b": ""}, {"b": ""}, {"b": ""}, {"d": ""}, {"d": ""}, {"d": ""}]
        # Whether a MAC of another VLAN counts as known is the bridge's affair.
        from_a, from_d = switch.send(("a", "", "c"), ("d", "", "b"))
        assert set(from_a) <= {"b"}
        assert set(from_d) <= {"c"}

    def test_access_ports_refuse_tags(self, switch: Switch) -> None:
        """An access port takes no tagged frame: of another VLAN, of its own, with two tags."""
        switch.add(a=access(100), b=access(100), c=access(200), t=trunk("100-300"))
        tags = ["200", "4095", "200+100", "200+200"]
        if self.is_strict:
            tags += ["100", "100p7", "100+200", "0+200", "0p3+100"]
        assert switch.send(*(("a", text) for text in tags)) == [{}] * len(tags)

    def test_priority_tags(self, switch: Switch) -> None:
        """A frame with a tag of VID 0 is in the port's VLAN as an untagged one is, and keeps its priority there."""
        switch.add(a=access(100), b=access(100), c=access(200), t=trunk("100,200", native=200), u=trunk("300"))
        assert switch.send(("a", "0"), ("a", "0p5"), ("t", "0p7"), ("u", "0p5"), ("t", "100p3"), ("t", "200p6")) == [
            {"b": "", "t": "100"},
            {"b": "", "t": "100p5"},
            {"c": ""},
            {},
            {"a": "", "b": ""},
            {"c": ""},
        ]

    def test_service_tags(self, switch: Switch) -> None:
        """A frame with an 802.1ad tag is in no VLAN by that, whichever port it comes by."""
        switch.add(a=access(100), b=access(100), c=access(200), t=trunk("100,200"), u=trunk("100,200"))
        heard = switch.send(("a", "s200"), ("a", "s100"), ("t", "s200"), ("t", "s100"), ("a", "s0"), ("a", "s200+200"))
        if self.is_strict:
            assert heard == [{}] * 6
        assert not [name for places in heard for name in places if name == "c"]
        assert not [tags for places in heard for tags in places.values() if tags.startswith(("2", "s200+1"))]

    def test_trunk(self, switch: Switch) -> None:
        """A trunk passes the VLANs that it is in, tagged, and nothing else; without a native VLAN nothing untagged."""
        switch.add(a=access(100), b=access(205), c=access(300), t=trunk("100,200-210"), u=trunk("100,300"))
        tags = ["100", "205", "300", "210", "211", "199", "1", "4094", "4095", "", "0"]
        assert switch.send(*(("t", text) for text in tags)) == [
            {"a": "", "u": "100"},
            {"b": ""},
            *([{}] * (len(tags) - 2)),
        ]
        assert switch.send(("a", ""), ("b", ""), ("c", ""), ("u", "300")) == [
            {"t": "100", "u": "100"},
            {"t": "205"},
            {"u": "300"},
            {"c": ""},
        ]

    def test_native(self, switch: Switch) -> None:
        """Frames of a trunk's native VLAN leave untagged, and come untagged or tagged."""
        ports = {"a": access(1), "b": access(100), "t": trunk("100", native=1), "u": trunk("1,100"), "v": SILENT}
        switch.add(**ports)
        assert switch.send(("t", ""), ("t", "1"), ("t", "100"), ("a", ""), ("u", "1"), ("u", ""), ("v", "")) == [
            {"a": "", "u": "1"},
            {"a": "", "u": "1"},
            {"b": "", "u": "100"},
            {"t": "", "u": "1"},
            {"a": "", "t": ""},
            {},
            {},
        ]

    def test_inner_tags_are_payload(self, switch: Switch) -> None:
        """Of two tags the outer one counts; behind it the inner one passes from trunk to trunk as it is."""
        switch.add(a=access(100), b=access(200), t=trunk("100"), u=trunk("100,200"))
        [heard] = switch.send(("t", "100p2+200"))
        assert heard["u"] == "100p2+200"
        assert "b" not in heard

    def test_no_hopping(self, switch: Switch, other: Switch) -> None:
        """A frame with the native VLAN's tag in front of another's does not arrive in that behind the next bridge."""
        assert not [frame for frame, places in self.hopping(switch, other).items() if "victim" in places]

    def hopping(self, switch: Switch, other: Switch) -> dict[tuple[str, str], dict[str, str]]:
        """Send frames that an attacker would, in VLAN 1 and meant for a `victim` in 200; return who got which."""
        join(switch, other, trunk("200", native=1))
        switch.add(a=access(1), t=trunk("1,200"))
        other.add(victim=access(200), mate=access(1))
        frames = [("t", "1+200"), ("a", "1+200"), ("a", "0+200"), ("a", "200")]
        heard = dict(zip(frames, switch.send(*frames, others=["victim", "mate"]), strict=True))
        [reached] = switch.send(("a", ""), others=["victim", "mate"])
        assert reached["mate"] == ""
        return heard

    def test_cut_off_tags(self, switch: Switch) -> None:
        """A frame that ends within its tag goes nowhere."""
        switch.add(a=access(100), b=access(100), t=trunk("100"))
        head = f"ffffffffffff{switch.mac('t').replace(':', '')}"
        runts = [f"{head}8100", f"{head}810000", f"{head}81000064", f"{head}8100006488", f"{head}88a80064"]
        heard = switch.exchange([(port, frame) for port in ("t", "a") for frame in runts])
        assert not any(heard.values())

    def test_short_frames(self, switch: Switch) -> None:
        """A frame without a payload is a frame: nothing in front of it is taken for a tag, or cut off."""
        switch.add(a=access(100), b=access(100), c=access(200))
        head = f"ffffffffffff{switch.mac('a').replace(':', '')}{ETHERTYPE:04x}"
        heard = switch.exchange([("a", head), ("a", f"{head}01")])
        assert [packet.hex()[:30] for packet in heard["b"]] == [head, f"{head}01"]
        assert not heard["c"]

    def test_one_mac_in_two_vlans(self, switch: Switch) -> None:
        """A MAC that is in two VLANs, or pretended there, gets no frame of one in the other."""
        switch.add(a=access(100), b=access(100), c=access(200), d=access(200))
        mac = switch.mac("b")
        heard = switch.send(("b", ""), ("c", "", BROADCAST, mac), ("a", "", mac), ("b", ""), ("d", "", mac))
        assert heard[1] == {"d": ""}
        assert set(heard[2]) <= {"b"}
        assert set(heard[4]) <= {"c"}

    def test_claimed_mac(self, switch: Switch) -> None:
        """Who sends from the MAC of a container in another VLAN, or of the host, gets none of its frames there or here.

        Nor does the owner lose any.
        """
        switch.add(a=access(100), b=access(100), c=access(200), d=access(200), t=trunk("200"))
        switch.change(switch.device, access(100))
        for owner in ("b", switch.device):
            switch.send((owner, ""))
            for claim in (("c", ""), ("t", "200")):
                # In goes of their own: a switch may take frames of several ports in another order, and learn late.
                [heard] = switch.send((*claim, BROADCAST, switch.mac(owner)))
                assert set(heard) <= {"c", "d", "t"} - {claim[0]}
                assert switch.send(("a", "", owner)) == [{owner: ""}]

    def test_every_kind_of_port(self, switch: Switch) -> None:
        """Broadcasts with all kinds of tags on ports of all kinds go where IEEE 802.1Q says, and nowhere else."""
        draw = random.Random(802)
        vids = (1, 2, 100, 101, 4094)
        ports = {f"a{vid}": access(vid) for vid in vids[:3]}
        for number in range(5):
            text = ",".join(str(vid) for vid in vids if draw.random() < 0.5) or "2"
            ports[f"t{number}"] = trunk(text, native=draw.choice([None, *vids]))
        switch.add(**ports, silent=SILENT)
        switch.change(switch.device, access(100))
        words = ["", "0", "0p6", "4095", *(f"{vid}{suffix}" for vid in vids for suffix in ("", "p1"))]
        if self.is_strict:
            words += ["s100", "s0", "0+100", "100+1", "1+100", "100+s1", "4094p7+4094"]
        frames = [(port, draw.choice(words)) for port in (*ports, "silent", switch.device) for _ in range(20)]
        if not self.is_strict:
            frames = [(port, tags) for port, tags in frames if tags.partition("p")[0] != str(switch.vlans[port].access)]
        wanted = [expected(switch.vlans, port, tags) for port, tags in frames]
        found = switch.send(*frames)
        assert list(zip(frames, found, strict=True)) == list(zip(frames, wanted, strict=True))

    def test_two_bridges(self, switch: Switch, other: Switch) -> None:
        """Two bridges joined by a trunk carry VLANs 101 and 102 apart, tagged on the wire between them."""
        join(switch, other, trunk("101,102"))
        switch.add(a=access(101), b=access(102), c=access(103), t=trunk("101-103"))
        other.add(x=access(101), y=access(102), z=access(103))
        names = ["x", "y", "z"]
        heard = switch.send(("a", ""), ("b", ""), ("c", ""), ("t", "103"), ("a", "102"), others=names)
        assert heard == [{"x": "", "t": "101"}, {"y": "", "t": "102"}, {"t": "103"}, {"c": ""}, {}]
        back = other.send(("x", ""), ("y", ""), ("z", ""), others=["a", "b", "c", "t"])
        assert back == [{"a": "", "t": "101"}, {"b": "", "t": "102"}, {}]
        switch.inside("a").run("ip address add 10.8.0.1/24 dev eth0")
        other.inside("x").run("ip address add 10.8.0.2/24 dev eth0")
        other.inside("y").run("ip address add 10.8.0.2/24 dev eth0")
        assert switch.inside("a").can_ping("10.8.0.2")
        assert not answering(switch.inside("b"), "10.8.0.2")

    def test_own_end(self, switch: Switch) -> None:
        """The host, by the bridge's own end, is in one VLAN as any port is: what it sends and gets is untagged."""
        switch.add(a=access(100), b=access(200), t=trunk("100,200"))
        own = switch.device
        assert switch.send((own, ""), ("a", "")) == [{}, {"t": "100"}]
        switch.change(own, access(100))
        # In two goes, since a switch may take frames of several ports in another order, and learn late.
        heard = switch.send((own, ""), ("a", ""), ("b", ""), ("t", "100"), ("t", ""))
        assert heard == [{"a": "", "t": "100"}, {own: "", "t": "100"}, {"t": "200"}, {own: "", "a": ""}, {}]
        heard = switch.send(("a", "", own), ("b", "", own))
        assert heard[0] == {own: ""}
        # Whether its MAC counts as known in another VLAN is the bridge's affair.
        assert heard[-1] in ({}, {"t": "200"})
        assert switch.send((own, "200"), (own, "0p4"), (own, "200+100")) == [{}, {"a": "", "t": "100p4"}, {}]
        if self.is_strict:
            assert switch.send((own, "100"), (own, "100+200")) == [{}, {}]

    def test_traffic(self, switch: Switch) -> None:
        """Neighbours are found over both families and packets of the full MTU pass, to ports and to the host."""
        switch.add(a=access(100), b=access(100), c=access(200))
        switch.change(switch.device, access(100))
        switch.add_addresses()
        for family in (4, 6):
            size = str(1500 - (28 if family == 4 else 48))
            for target in (switch.address("b", family), switch.address(switch.device, family)):
                switch.inside("a").run("ping", "-n", "-c1", "-W2", "-M", "do", "-s", size, target)
            for target in (switch.address("a", family), switch.address(switch.device, family)):
                assert not answering(switch.inside("c"), target)
            switch.host.run("ping", "-n", "-c1", "-W2", "-M", "do", "-s", size, switch.address("a", family))

    def test_membership_changes(self, switch: Switch) -> None:
        """A port that is given another VLAN is in that at once, and in the old one no longer."""
        switch.add(a=access(100), b=access(100), c=access(200))
        assert switch.send(("a", "")) == [{"b": ""}]
        switch.change("a", access(200))
        assert switch.send(("a", ""), ("b", ""), ("c", ""), ("b", "", "a")) == [{"c": ""}, {}, {"a": ""}, {}]
        switch.change("a", trunk("100,200"))
        assert switch.send(("a", ""), ("a", "200"), ("b", "")) == [{}, {"c": ""}, {"a": "100"}]
        switch.change("a", SILENT)
        assert switch.send(("a", ""), ("a", "200"), ("b", ""), ("c", "")) == [{}, {}, {}, {}]


def join(switch: Switch, other: Switch, vlans: PortVlans) -> None:
    """Join two bridges of a host by a veth whose ends are trunks."""
    lines = ["link add to-other type veth peer name to-switch"]
    lines += [f"link set dev {name} addrgenmode none" for name in ("to-other", "to-switch")]
    lines += ["link set to-switch up", ""]
    switch.host.run("ip", "-batch", "-", stdin="\n".join(lines))
    switch.connect(**{"to-other": vlans})
    other.connect(**{"to-switch": vlans})
