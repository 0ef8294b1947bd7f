"""Creating and deleting groups with objects of Open vSwitch, against a host that is only remembered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dnet.drivers import bridge, openvswitch
from dnet.drivers import sandbox as interfaces
from dnet.errors import DnetError, KernelRefused, OvsError
from dnet.model.vlan import PortVlans
from dnet.objects.links import Veth
from dnet.objects.object import Object
from dnet.objects.openvswitch import OvsBridge, OvsPort
from dnet.objects.sandbox import JoinedSandbox, Sandbox
from dnet.transaction import apply
from tests.support import samples
from tests.support.bare_context import bare_context, roll_back, undo
from tests.support.fakes import FakeKernel, FakeNft, FakeSwitch, snapshot

NET = samples.network("blue", "10.1.0.0/16", driver="ovs", device="ovs0", icc=True)
PLAIN = samples.network("red", "10.2.0.0/16")
NETWORK = openvswitch.network(NET)


def group(number: int) -> tuple[Object, ...]:
    """Return the objects of container number so and so: one endpoint on Open vSwitch, one on a Linux bridge."""
    first = samples.endpoint(NET, f"10.1.0.{number + 1}", index=0x5630_0000 + number)
    second = samples.endpoint(PLAIN, f"10.2.0.{number + 1}", interface="eth1", index=0x5640_0000 + number, gateway=None)
    box = samples.container(f"c-{number}", [first, second])
    ends = (*openvswitch.endpoint(NET, box, first), *bridge.endpoint(PLAIN, box, second))
    return (*interfaces.sandbox(box, f"/run/netns/{box.name}"), *ends)


GROUPS = [group(1), group(2), group(3)]
PORTS = [item for members in GROUPS for item in members if isinstance(item, OvsPort)]


class Host:
    """A kernel, nftables and Open vSwitch with one log between them, with the networks there already."""

    def __init__(self) -> None:
        self.kernel = FakeKernel()
        self.nft = FakeNft(self.kernel.log)
        self.switch = FakeSwitch(self.kernel)
        self.context = bare_context(self.kernel, self.nft, list, switch=lambda: self.switch)
        self.nft.has_made_table = True
        apply.create_groups(self.context, [NETWORK, bridge.network(PLAIN)])
        self.kernel.sysctls.keep()
        self.before = self.everything()

    def everything(self) -> tuple:
        return snapshot(self.kernel, self.nft), sorted(map(str, self.switch.objects))

    def kinds(self) -> list[str]:
        """Return the kinds of what happened, runs of the same left out."""
        kinds = [kind for kind, _ in self.kernel.log]
        return [kind for number, kind in enumerate(kinds) if number == 0 or kinds[number - 1] != kind]


@pytest.fixture
def made() -> Host:
    """Return a host with an empty log."""
    found = Host()
    found.kernel.log.clear()
    return found


def test_bridge_before_what_is_on_its_device():
    """A bridge of Open vSwitch exists before the kernel is told of what is on its device."""
    made = Host()
    kinds = [kind for kind, _ in made.kernel.log if kind in {"create bridges", "create"}]
    assert kinds[0] == "create bridges"
    assert "create" in kinds
    assert [item for item in NETWORK if isinstance(item, OvsBridge)] == made.switch.objects


def test_ports_are_one_transaction_after_the_kernel(made):
    """The ports of all groups are one transaction, when their devices exist and are up."""
    assert apply.create_groups(made.context, GROUPS) == [None, None, None]
    assert made.kinds()[-2:] == ["create", "create ports"]
    assert [event for event in made.kernel.log if event[0] == "create ports"] == [("create ports", PORTS)]


def test_deletion_goes_the_other_way(made):
    """Ports go before their devices, and a bridge after everything else of its network."""
    apply.create_groups(made.context, GROUPS)
    made.kernel.log.clear()
    apply.delete_groups(made.context, GROUPS)
    assert made.kinds()[:2] == ["delete ports", "delete from kernel"]
    assert made.everything() == made.before
    made.kernel.log.clear()
    apply.delete_groups(made.context, [NETWORK])
    assert made.kinds()[:2] == ["delete from kernel", "delete bridges"]
    assert made.switch.objects == []


def test_progress_of_a_deletion(made):
    """The progress that is told is that of the ports, and it ends at the number of groups."""
    apply.create_groups(made.context, GROUPS)
    heard: list[int] = []
    apply.delete_groups(made.context, GROUPS, on_progress=heard.append)
    assert heard == [1, 2, 3]


def test_refused_port_is_undone(made):
    """When one port is refused, undoing leaves nothing of any group, and the error names the port."""
    made.switch.refuses = lambda item: item == PORTS[1]
    with pytest.raises(OvsError, match=f"cannot create port {PORTS[1].port} on Open vSwitch bridge ovs0: no") as caught:
        apply.create_groups(made.context, GROUPS)
    undo(made.context, caught.value, GROUPS, lambda: None)
    assert made.everything() == made.before
    assert not getattr(caught.value, "__notes__", [])


def test_ports_are_not_made_after_a_failure(made):
    """When the kernel refuses an object, no port is made."""
    made.kernel.refuses = lambda item: isinstance(item, Veth) and item.device == PORTS[2].port
    with pytest.raises(KernelRefused) as caught:
        apply.create_groups(made.context, GROUPS)
    assert "create ports" not in made.kinds()
    undo(made.context, caught.value, GROUPS, lambda: None)
    assert made.everything() == made.before


def test_keep_going(made):
    """With keep_going, what failed in the kernel is no port, whose port is refused is removed, and the third stays."""
    made.kernel.refuses = lambda item: isinstance(item, Veth) and item.device == PORTS[0].port
    made.switch.refuses = lambda item: item == PORTS[1]
    errors = apply.create_groups(made.context, GROUPS, keep_going=True)
    assert [type(error) for error in errors] == [KernelRefused, OvsError, type(None)]
    assert ("create ports", PORTS[1:]) in made.kernel.log
    assert [item for item in made.switch.objects if isinstance(item, OvsPort)] == PORTS[2:]
    assert [item.sandbox for item in made.kernel.objects if isinstance(item, Sandbox)] == ["c-3"]


def test_failed_undoing_is_a_note(made):
    """What Open vSwitch refuses while something is undone is a note on the first error; the kernel's objects go."""
    made.switch.refuses = lambda item: item == PORTS[1]
    made.switch.refuses_deletion = OvsError("cannot delete 3 ports: gone")
    with pytest.raises(DnetError) as caught:
        apply.create_groups(made.context, GROUPS)
    undo(made.context, caught.value, GROUPS, lambda: made.kernel.log.append(("afterwards", None)))
    assert [note for note in caught.value.__notes__ if "cannot delete 3 ports" in note]
    assert made.everything() == made.before
    assert "afterwards" not in made.kinds()


def test_failed_deletion_touches_nothing_else(made):
    """A deletion that Open vSwitch refuses stops there: what exists is still whole."""
    apply.create_groups(made.context, GROUPS)
    after = made.everything()
    made.switch.refuses_deletion = OvsError("cannot delete 3 ports: gone")
    with pytest.raises(OvsError):
        apply.delete_groups(made.context, GROUPS)
    assert made.everything() == after


def test_absent_switch_touches_nothing(made):
    """Where Open vSwitch does not run nothing is made, and undoing neither asks for it nor finds anything to do."""
    made.switch.is_absent = True
    made.switch.refuses_deletion = OvsError("cannot delete 3 ports: gone")
    other = samples.network("green", "10.3.0.0/16", driver="ovs", device="ovs1")
    for groups in (GROUPS, [openvswitch.network(other)]):
        made.kernel.log.clear()
        with pytest.raises(OvsError, match="not running") as caught:
            apply.create_groups(made.context, groups)
        has_rules = any(item.backend == "nft" for group in groups for item in group)
        assert made.kinds() == [*(["prepare nft"] if has_rules else []), "prepare switch"]
        undo(made.context, caught.value, groups, lambda: made.kernel.log.append(("afterwards", None)))
        assert made.everything() == made.before
        assert (made.kinds()[-1], getattr(caught.value, "__notes__", [])) == ("afterwards", [])


def test_without_anything_of_its():
    """Where nothing is of Open vSwitch's, it is not even looked for."""

    def switch() -> FakeSwitch:
        raise AssertionError

    kernel, nft = FakeKernel(), FakeNft()
    nft.has_made_table = True
    context = bare_context(kernel, nft, list, switch=switch)  # type: ignore[arg-type]
    apply.create_groups(context, [bridge.network(PLAIN)])
    apply.delete_groups(context, [bridge.network(PLAIN)])


# Changes


def vlan_group(vlan: int | None, *, is_aware: bool = True) -> tuple[Object, ...]:
    """Return the objects of one container on a network that keeps VLANs apart."""
    net = replace(NET, vlan=1, vlan_backend="ovs") if is_aware else NET
    end = samples.endpoint(net, "10.1.0.9", vlans=PortVlans(access=vlan) if vlan else None)
    box = samples.container("v-1", [end])
    return (*interfaces.sandbox(box, "/run/netns/v-1"), *openvswitch.endpoint(net, box, end))


def events(made: Host, since: int) -> list[str]:
    """Return what was done, sandboxes that were entered apart."""
    return [name for name, item in made.kernel.log[since:] if not isinstance(item, JoinedSandbox)]


def test_vlan_that_changes_is_one_update(made):
    """A port that differs in its VLAN only is updated: neither removed nor added; the kernel makes nothing."""
    before, after = vlan_group(100), vlan_group(200)
    apply.create_groups(made.context, [before])
    start = len(made.kernel.log)
    apply.change_groups(made.context, [before], [after])
    done = events(made, start)
    assert done.count("set vlans") == 1
    assert {"create", "create ports", "delete ports"}.isdisjoint(done)
    assert after[-1] in made.switch.objects


def test_port_that_somebody_removed_is_made(made):
    """A port that is to be in another VLAN, and is gone, is made."""
    before, after = vlan_group(100), vlan_group(200)
    apply.create_groups(made.context, [before])
    made.switch.objects = [item for item in made.switch.objects if not isinstance(item, OvsPort)]
    apply.change_groups(made.context, [before], [after])
    assert after[-1] in made.switch.objects


def test_network_that_begins_to_keep_vlans_apart(made):
    """The bridge gets its tag before its ports get theirs, and stays."""
    aware = openvswitch.network(replace(NET, vlan=1, vlan_backend="ovs"))
    apply.create_groups(made.context, [vlan_group(None, is_aware=False)])
    start = len(made.kernel.log)
    apply.change_groups(made.context, [NETWORK, vlan_group(None, is_aware=False)], [aware, vlan_group(None)])
    done = events(made, start)
    assert done.index("create bridges") < done.index("set vlans")
    assert {"delete ports", "delete bridges"}.isdisjoint(done)
    assert [item.tag for item in made.switch.objects] == [1, 1]


def joined_and_left() -> tuple[tuple[Object, ...], tuple[Object, ...]]:
    """Return the objects of a container that is on a Linux bridge, and then also on Open vSwitch."""
    first = samples.endpoint(PLAIN, "10.2.0.2", index=0x5640_0001)
    second = samples.endpoint(NET, "10.1.0.2", interface="eth1", index=0x5630_0001, gateway=None)
    alone, both = (samples.container("c-1", ends) for ends in ([first], [first, second]))
    sandbox = interfaces.sandbox(alone, "/run/netns/c-1")
    before = (*sandbox, *bridge.endpoint(PLAIN, alone, first))
    return before, (*sandbox, *bridge.endpoint(PLAIN, both, first), *openvswitch.endpoint(NET, both, second))


def test_joining_and_leaving(made):
    """A container that joins gets its port after its veth, and one that leaves loses it before that."""
    before, after = joined_and_left()
    apply.create_groups(made.context, [before])
    whole = made.everything()
    start = len(made.kernel.log)
    apply.change_groups(made.context, [before], [after])
    assert events(made, start)[-1] == "create ports"
    start = len(made.kernel.log)
    apply.change_groups(made.context, [after], [before])
    assert events(made, start).index("delete ports") < events(made, start).index("delete from kernel")
    assert made.everything() == whole


def test_refused_port_of_a_change_is_undone(made):
    """When Open vSwitch refuses the port of a container that joins, all of the change is taken back."""
    before, after = joined_and_left()
    apply.create_groups(made.context, [before])
    whole = made.everything()
    made.switch.refuses = lambda _: True
    with pytest.raises(OvsError, match="no") as caught:
        apply.change_groups(made.context, [before], [after])
    done: list[str] = []
    back = lambda: apply.change_groups(made.context, [after], [before], is_undoing=True)  # noqa: E731
    roll_back(caught.value, back, lambda: done.append("settled"))
    assert done == ["settled"]
    assert made.everything() == whole


def test_change_without_a_switch_touches_nothing(made):
    """A change that needs Open vSwitch begins with a look whether it is there."""
    before, after = joined_and_left()
    apply.create_groups(made.context, [before])
    whole = made.everything()
    made.switch.is_absent = True
    with pytest.raises(OvsError, match="not running"):
        apply.change_groups(made.context, [before], [after])
    assert made.everything() == whole


def test_undoing_a_change_without_a_switch(made):
    """When Open vSwitch goes in the middle, the kernel's part is taken back, and the rest stays on record."""
    before, after = joined_and_left()
    apply.create_groups(made.context, [before])
    apply.change_groups(made.context, [before], [after])
    made.switch.refuses_deletion = OvsError("gone")
    cause = OvsError("first")
    settled: list[str] = []
    back = lambda: apply.change_groups(made.context, [after], [before], is_undoing=True)  # noqa: E731
    roll_back(cause, back, lambda: settled.append("settled"))
    assert settled == []
    assert cause.__notes__ == ["and while undoing it: gone"]
    assert not [item for item in made.kernel.objects if isinstance(item, Veth) and item.peer == "eth1"]
