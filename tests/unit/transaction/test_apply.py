"""Creating and deleting groups of objects, and undoing what a failure left, against a host that is only remembered."""

from __future__ import annotations

import errno
from ipaddress import IPv4Address

import pytest

from dnet.drivers import bridge, sandbox
from dnet.errors import Conflict, KernelRefused, Unsupported
from dnet.model.vlan import PortVlans
from dnet.objects.host import Directory, File, Flows, Forwarding, NatElement, NftTable, Symlink
from dnet.objects.links import Bridge, Veth
from dnet.objects.object import Absent, Object
from dnet.objects.vlans import (
    BridgeVlanFiltering,
    BridgeVlans,
    ClsactHooks,
    MacEntry,
    VlanMapEntry,
    VlanProgram,
)
from dnet.transaction import apply, apply_vlans
from tests.support import samples
from tests.support.bare_context import bare_context, undo
from tests.support.fakes import FakeBpf, FakeKernel, FakeNft, refusal, snapshot

NET = samples.network("blue", "10.1.0.0/16")
NETWORK: tuple[Object, ...] = (NftTable(), *bridge.network(NET))


def group(number: int) -> tuple[Object, ...]:
    """Return the objects of container number so and so, with a published port."""
    end = samples.endpoint(NET, f"10.1.0.{number + 1}", index=0x5630_0000 + number)
    box = samples.container(f"c-{number}", [end])
    element = NatElement("publish4", f"tcp . {8000 + number}", f"{end.address.ip} . 80")
    flows = Flows((end.address.ip,), ((IPv4Address("0.0.0.0"), 5300 + number),))
    return (flows, element, *sandbox.sandbox(box, f"/run/netns/{box.name}"), *bridge.endpoint(NET, box, end))


GROUPS = [group(1), group(2), group(3)]
OBJECTS = [item for members in GROUPS for item in members]
IN_KERNEL = [item for item in OBJECTS if item.backend == "kernel"]


class Backends:
    """A kernel and an nftables that keep one log between them, with the network there already."""

    def __init__(self) -> None:
        self.log: list[tuple[str, object]] = []
        self.kernel = FakeKernel(self.log)
        self.nft = FakeNft(self.log)
        self.all_rules: list[Object] = [item for item in NETWORK if item.backend == "nft"]
        self.context = bare_context(self.kernel, self.nft, lambda: self.all_rules)  # type: ignore[arg-type]
        apply.create_groups(self.context, [NETWORK])
        self.kernel.sysctls.keep()
        self.before = self.snapshot()
        self.log.clear()

    def snapshot(self) -> tuple:
        return snapshot(self.kernel, self.nft)

    def refuse(self, item: Object) -> None:
        """Refuse an object of the kernel's from now on."""
        self.kernel.refuses = lambda other: other == item

    def fail(self, **options) -> KernelRefused:
        """Create the groups, which has to fail, undo it, and return the error."""
        with pytest.raises(KernelRefused) as caught:
            apply.create_groups(self.context, GROUPS, **options)
        self.undo(caught.value)
        return caught.value

    def undo(self, cause: BaseException) -> None:
        undo(self.context, cause, GROUPS, lambda: self.log.append(("afterwards", None)))

    def events(self) -> list[str]:
        """Return what happened, runs of the same left out."""
        kinds = [kind for kind, _ in self.log]
        return [kind for number, kind in enumerate(kinds) if number == 0 or kinds[number - 1] != kind]


@pytest.fixture
def backends() -> Backends:
    """Return a host with a network on it."""
    return Backends()


def exists(backends: Backends, item: Object) -> bool:
    """Whether an object is there."""
    if isinstance(item, NatElement):
        return (item.set_name, item.key) in backends.nft.elements_by_key
    return item in backends.kernel.objects


def test_everything_is_created(backends):
    """What is asked for exists afterwards, and no group has an error."""
    assert apply.create_groups(backends.context, GROUPS) == [None, None, None]
    assert [item for item in OBJECTS if item.backend != "flows" and not exists(backends, item)] == []


def test_rules_come_first(backends):
    """Rules exist and old flows are gone before the kernel's objects: no sandbox is reachable without them."""
    apply.create_groups(backends.context, GROUPS)
    assert backends.events() == ["prepare nft", "nft", "drop old flows", "create"]


def test_rules_of_all_groups_are_one_transaction(backends):
    """However many groups there are, their elements are one transaction of nftables."""
    apply.create_groups(backends.context, GROUPS)
    assert [kind for kind, _ in backends.log].count("nft") == 1


def test_flows_of_all_groups_are_one_pass(backends):
    """However many groups there are, connection tracking is gone through once."""
    apply.create_groups(backends.context, GROUPS)
    apply.delete_groups(backends.context, GROUPS)
    expected = [item for item in OBJECTS if isinstance(item, Flows)]
    assert [event for event in backends.log if "flows" in event[0]] == [
        ("drop old flows", expected),
        ("drop flows", expected),
    ]


def test_everything_is_deleted(backends):
    """What was created is gone after deleting the same groups: from the kernel, then the rules, the flows last."""
    apply.create_groups(backends.context, GROUPS)
    backends.log.clear()
    apply.delete_groups(backends.context, GROUPS)
    assert backends.snapshot() == backends.before
    assert backends.events() == ["delete from kernel", "nft", "drop flows"]


def test_deleting_the_network(backends):
    """Deleting the network with the table leaves nothing but what only a failed create undoes: forwarding."""
    apply.delete_groups(backends.context, [NETWORK])
    assert {type(item) for item in backends.kernel.objects} == {Forwarding}
    assert (backends.nft.elements_by_key, backends.nft.has_made_table) == ({}, False)


def test_what_is_missing_already_is_no_failure(backends):
    """Deleting what somebody else has removed before is no failure, and the rest goes nevertheless."""
    apply.create_groups(backends.context, GROUPS)
    backends.kernel.objects = [item for item in backends.kernel.objects if item not in GROUPS[0]]
    first = next(item for item in GROUPS[0] if isinstance(item, NatElement))
    del backends.nft.elements_by_key[first.set_name, first.key]
    apply.delete_groups(backends.context, GROUPS)
    assert backends.snapshot() == backends.before


def test_deleting_after_a_flush_is_no_failure(backends):
    """Deleting is no failure when somebody has flushed the whole ruleset."""
    apply.create_groups(backends.context, GROUPS)
    backends.nft.flush_ruleset()
    apply.delete_groups(backends.context, GROUPS)
    apply.delete_groups(backends.context, [NETWORK])
    assert {type(item) for item in backends.kernel.objects} == {Forwarding}


@pytest.mark.parametrize("index", range(len(IN_KERNEL)))
def test_failure_at_any_object(backends, index):
    """Whichever object the kernel refuses, the error names it, and undoing leaves nothing of any group."""
    backends.refuse(IN_KERNEL[index])
    error = backends.fail()
    assert backends.snapshot() == backends.before
    assert str(error) == f"cannot create {IN_KERNEL[index]}: Cannot allocate memory"
    assert not getattr(error, "__notes__", [])


@pytest.mark.parametrize("index", [0, len(IN_KERNEL) // 2, len(IN_KERNEL) - 1])
def test_undoing_goes_the_other_way(backends, index):
    """What was created is deleted in reverse: the kernel's objects first, while their rules still exist."""
    backends.refuse(IN_KERNEL[index])
    backends.fail()
    after = backends.events()[backends.events().index("delete from kernel") :]
    assert after == ["delete from kernel", "nft", "drop flows", "afterwards"]


def test_failed_network_leaves_an_empty_host():
    """A network that fails at its last object leaves neither bridge, elements nor the forwarding it had switched on."""
    kernel, nft = FakeKernel(), FakeNft()
    kernel.refuses = lambda item: item == NETWORK[-1]
    context = bare_context(kernel, nft, list)  # type: ignore[arg-type]
    with pytest.raises(KernelRefused) as caught:
        apply.create_groups(context, [NETWORK])
    undo(context, caught.value, [NETWORK], lambda: None)
    assert snapshot(kernel, nft) == ([], [], False)


def test_undoing_leaves_what_was_there(backends):
    """Undoing a second network leaves the forwarding that the first one needs."""
    other = bridge.network(samples.network("red", "10.2.0.0/16"))
    backends.kernel.refuses = lambda item: item == other[-1]
    with pytest.raises(KernelRefused) as caught:
        apply.create_groups(backends.context, [other])
    undo(backends.context, caught.value, [other], lambda: None)
    assert backends.snapshot() == backends.before


def test_flushed_ruleset_is_made_again(backends):
    """When somebody has flushed the ruleset, creating makes the table again with all that belongs into it."""
    apply.create_groups(backends.context, GROUPS[:1])
    backends.all_rules += [item for item in GROUPS[0] if item.backend == "nft"]
    rules = dict(backends.nft.elements_by_key)
    backends.nft.flush_ruleset()
    assert apply.create_groups(backends.context, GROUPS[1:]) == [None, None]
    assert rules.items() < backends.nft.elements_by_key.items()
    apply.delete_groups(backends.context, GROUPS)
    assert backends.snapshot() == backends.before


def test_refused_rules_touch_nothing(backends):
    """When nftables refuses, no object of the kernel's is made."""
    problem = refusal("set up nftables", errno.ENOBUFS)
    backends.nft.refuses = lambda _: problem
    with pytest.raises(KernelRefused) as caught:
        apply.create_groups(backends.context, GROUPS)
    assert caught.value is problem
    assert backends.snapshot() == backends.before
    assert "create" not in backends.events()


def test_missing_nftables_touches_nothing(backends):
    """Without nftables nothing is made."""

    def prepare() -> None:
        raise Unsupported("the Python binding of nftables is not installed")

    backends.nft.prepare = prepare
    with pytest.raises(Unsupported):
        apply.create_groups(backends.context, GROUPS)
    assert backends.snapshot() == backends.before


@pytest.mark.parametrize("problem", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("after", [1, 2, 3])
def test_exception_from_outside(backends, problem, after):
    """Ctrl-C, or an exception from the caller's progress callback, reaches the caller and can be undone."""

    def on_progress(done: int) -> None:
        if done == after:
            raise problem("stop")

    with pytest.raises(problem, match="stop") as caught:
        apply.create_groups(backends.context, GROUPS, on_progress=on_progress)
    backends.undo(caught.value)
    assert backends.snapshot() == backends.before


def test_progress_is_reported(backends):
    """The callback hears of every group."""
    heard: list[int] = []
    apply.create_groups(backends.context, GROUPS, on_progress=heard.append)
    assert heard[-1] == len(GROUPS)
    assert heard == sorted(heard)


def test_keep_going_keeps_what_worked(backends):
    """With keep_going, a group that fails is removed, the others stay, and each has its own result."""
    failing = next(item for item in GROUPS[1] if isinstance(item, Veth))
    backends.refuse(failing)
    errors = apply.create_groups(backends.context, GROUPS, keep_going=True)
    sentence = f"cannot create {failing}: Cannot allocate memory"
    assert [str(error) if error else None for error in errors] == [None, sentence, None]
    assert [item for item in (*GROUPS[0], *GROUPS[2]) if item.backend != "flows" and not exists(backends, item)] == []
    assert [item for item in GROUPS[1] if exists(backends, item)] == []


@pytest.mark.parametrize("item", [item for item in GROUPS[1] if item.backend == "kernel"], ids=str)
def test_keep_going_at_any_object(backends, item):
    """With keep_going, whichever object of a group fails, all of that group is removed and nothing of the others."""
    backends.refuse(item)
    apply.create_groups(backends.context, GROUPS, keep_going=True)
    kept = backends.snapshot()
    fresh = Backends()
    apply.create_groups(fresh.context, [GROUPS[0], GROUPS[2]])
    assert kept == fresh.snapshot()


def test_keep_going_without_a_failure_deletes_nothing(backends):
    """With keep_going, when nothing fails nothing is deleted."""
    assert apply.create_groups(backends.context, GROUPS, keep_going=True) == [None, None, None]
    assert "delete from kernel" not in backends.events()


def test_failed_undoing_is_a_note(backends):
    """A failure while undoing is a note on the first error, which is raised; what is left stays on record."""
    backends.refuse(IN_KERNEL[-1])
    backends.kernel.refuses_deletion = refusal("delete veth1", errno.EBUSY)
    error = backends.fail()
    assert str(error).startswith(f"cannot create {IN_KERNEL[-1]}")
    assert [note for note in error.__notes__ if "cannot delete veth1: Device or resource busy" in note]
    assert "afterwards" not in backends.events()


def test_failure_after_an_undoing_is_noted(backends):
    """When everything is removed, but forgetting it fails, that is a note on the first error too."""
    backends.refuse(IN_KERNEL[-1])
    with pytest.raises(KernelRefused) as caught:
        apply.create_groups(backends.context, GROUPS)

    def afterwards() -> None:
        raise refusal("forget it", errno.ENOSPC)

    undo(backends.context, caught.value, GROUPS, afterwards)
    assert backends.snapshot() == backends.before
    assert [note for note in caught.value.__notes__ if "forget it" in note]


def test_unexpected_failure_of_an_undoing_is_told(backends):
    """An undoing that breaks on something nobody foresaw is a note too, and what is left stays on record."""
    backends.refuse(IN_KERNEL[-1])
    backends.kernel.refuses_deletion = OSError(errno.EIO, "Input/output error")
    error = backends.fail()
    assert [note for note in getattr(error, "__notes__", []) if "Input/output error" in note]
    assert "afterwards" not in backends.events()


def test_keep_going_with_a_failed_removal(backends):
    """With keep_going, a group that can neither be made nor removed does not hide the error that it had first."""
    failing = next(item for item in GROUPS[1] if isinstance(item, Veth))
    backends.refuse(failing)
    backends.kernel.refuses_deletion = refusal("delete veth1", errno.EBUSY)
    try:
        errors = apply.create_groups(backends.context, GROUPS, keep_going=True)
    except KernelRefused as error:
        errors = [error]
    (error,) = [error for error in errors if error]
    assert str(error).startswith(f"cannot create {failing}")
    assert [note for note in error.__notes__ if "delete veth1" in note]


def test_failed_deletion_leaves_the_rules(backends):
    """When the kernel refuses a deletion the rules stay: what exists is still protected, and can be tried again."""
    apply.create_groups(backends.context, GROUPS)
    backends.kernel.refuses_deletion = refusal("delete veth1", errno.EBUSY)
    with pytest.raises(KernelRefused, match="delete veth1"):
        apply.delete_groups(backends.context, GROUPS)
    assert [item for item in OBJECTS if isinstance(item, NatElement) and not exists(backends, item)] == []
    backends.kernel.refuses_deletion = None
    apply.delete_groups(backends.context, GROUPS)
    assert backends.snapshot() == backends.before


def test_rule_that_cannot_be_removed(backends):
    """A rule that nftables refuses to remove, for another reason than that it is missing, is told."""
    apply.create_groups(backends.context, GROUPS)
    problem = refusal("remove element", errno.EPERM)
    backends.nft.refuses = lambda text: problem if "delete" in text else None
    with pytest.raises(KernelRefused) as caught:
        apply.delete_groups(backends.context, GROUPS)
    assert caught.value is problem


# Files


@pytest.fixture
def filed(tmp_path) -> list[tuple[Object, ...]]:
    """Return the groups with a directory, a file in it and a link to it each."""
    return [
        (
            Directory(f"{tmp_path}/{number}"),
            File(f"{tmp_path}/{number}/hosts", f"host {number}\n"),
            Symlink(f"{tmp_path}/link-{number}", f"{tmp_path}/{number}"),
            *members,
        )
        for number, members in enumerate(GROUPS, 1)
    ]


def test_files_come_first_and_go_last(backends, filed, tmp_path):
    """Files exist before the rules are made, and until everything else is gone."""
    seen: list[int] = []
    backends.nft.refuses = lambda _: seen.append(len(list(tmp_path.iterdir())))
    apply.create_groups(backends.context, filed)
    assert (tmp_path / "link-2" / "hosts").read_text() == "host 2\n"
    apply.delete_groups(backends.context, filed)
    assert seen == [6, 6]
    assert list(tmp_path.iterdir()) == []


def test_failure_removes_the_files(backends, filed, tmp_path):
    """Undoing a creation that the kernel refused removes the files, too."""
    backends.refuse(IN_KERNEL[-1])
    with pytest.raises(KernelRefused) as caught:
        apply.create_groups(backends.context, filed)
    undo(backends.context, caught.value, filed, lambda: None)
    assert list(tmp_path.iterdir()) == []
    assert backends.snapshot() == backends.before


def test_taken_link_touches_nothing_else(backends, filed, tmp_path):
    """A link whose place is somebody else's is a Conflict; neither rules nor sandboxes are made, and theirs stays."""
    theirs = tmp_path / "link-2"
    theirs.mkdir()
    with pytest.raises(Conflict, match="link-2") as caught:
        apply.create_groups(backends.context, filed)
    assert "create" not in backends.events()
    assert "nft" not in backends.events()
    undo(backends.context, caught.value, filed, lambda: None)
    assert list(tmp_path.iterdir()) == [theirs]


def test_keep_going_removes_the_files_of_what_failed(backends, filed, tmp_path):
    """With keep_going, the files of a group that failed go, those of the others stay."""
    backends.refuse(next(item for item in GROUPS[1] if isinstance(item, Veth)))
    apply.create_groups(backends.context, filed, keep_going=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "3", "link-1", "link-3"]


def test_no_groups(backends):
    """No groups are no work."""
    assert apply.create_groups(backends.context, []) == []
    apply.delete_groups(backends.context, [])
    assert backends.snapshot() == backends.before


# VLANs


def filtered_bridge(index: int) -> tuple[Object, ...]:
    """Return what a bridge has besides itself when tc filters its VLANs."""
    own = (f"br{index}", index, "")
    programs = (VlanProgram(*own, direction="into"), VlanProgram(*own, direction="out"))
    return (VlanMapEntry(own[0], index, PortVlans()), ClsactHooks(*own, bridge_index=index), *programs)


def filtered_port(index: int, vid: int) -> tuple[Object, ...]:
    """Return what a port of bridge 5 has besides itself."""
    name = f"veth{index}"
    mac = MacEntry(name, index, "", mac=f"02:00:00:00:00:{index % 256:02x}")
    return (VlanMapEntry(name, index, PortVlans(access=vid)), ClsactHooks(name, index, "", bridge_index=5), mac)


class Filtering:
    """A host with bridge 5, which filters VLANs, and what the store knows of that."""

    def __init__(self) -> None:
        self.log: list[tuple[str, object]] = []
        self.kernel, self.bpf = FakeKernel(self.log), FakeBpf(self.log)
        self.all_vlans: list[Object] = list(filtered_bridge(5))
        self.context = bare_context(self.kernel, FakeNft(), tuple, self.bpf, lambda: self.all_vlans)  # type: ignore[arg-type]
        apply.create_groups(self.context, [filtered_bridge(5)])
        self.log.clear()

    def events(self) -> list[str]:
        return [kind for kind, _ in self.log if "flows" not in kind]


@pytest.fixture
def filtering() -> Filtering:
    """Return a host on which VLANs are filtered."""
    return Filtering()


def test_vlans_come_before_ports(filtering):
    """What all ports pass is said in one go, before the first of them exists."""
    apply.create_groups(filtering.context, [filtered_port(7, 100), filtered_port(8, 200)])
    assert filtering.log[:3] == [
        ("drop old flows", []),
        ("set VLANs", {7: PortVlans(access=100), 8: PortVlans(access=200)}),
        ("create", filtered_port(7, 100)[1]),
    ]
    assert filtering.kernel.programs == {"into": 5, "out": 6}


def test_vlans_go_with_their_ports(filtering):
    """A port's entry goes after the port, and with the undoing of a port that could not be made."""
    apply.create_groups(filtering.context, [filtered_port(7, 100)])
    apply.delete_groups(filtering.context, [filtered_port(7, 100)])
    assert filtering.bpf.ports() == {5: PortVlans()}
    filtering.kernel.refuses = lambda item: item == filtered_port(8, 200)[1]
    with pytest.raises(KernelRefused) as caught:
        apply.create_groups(filtering.context, [filtered_port(7, 100), filtered_port(8, 200)])
    undo(filtering.context, caught.value, [filtered_port(7, 100), filtered_port(8, 200)], lambda: None)
    assert filtering.bpf.ports() == {5: PortVlans()}
    assert not getattr(caught.value, "__notes__", [])


def test_vlans_change(filtering):
    """Other VLANs of a port are one entry; nothing else is touched."""
    apply.create_groups(filtering.context, [filtered_port(7, 100)])
    filtering.log.clear()
    apply_vlans.set_vlan_entries(filtering.context, [VlanMapEntry("veth7", 7, PortVlans(access=200))])
    assert filtering.log == [("set VLANs", {7: PortVlans(access=200)})]


@pytest.mark.parametrize("is_undoing", [False, True])
def test_bridge_that_filters_no_longer(filtering, is_undoing):
    """A bridge that is to keep no VLANs apart loses its hooks, its ports' MACs, then its entries; the ports go on."""
    plain = (Bridge("br5", 5, "", mac="", mtu=0),)
    port = (next(item for item in GROUPS[0] if isinstance(item, Veth)),)
    hooks = filtered_port(port[0].index, 100)
    apply.create_groups(filtering.context, [plain, (*port, *hooks)])
    filtering.log.clear()
    before = [(*plain, *filtering.all_vlans), (*port, *hooks)]
    apply.change_groups(filtering.context, before, [plain, port], is_undoing=is_undoing)
    gone = [item for kind, item in filtering.log if kind == "create"]
    assert gone[:2] == [Absent(filtering.all_vlans[1]), Absent(hooks[1])]
    assert gone[2:] == [Absent(hooks[2])]
    assert filtering.events()[-1] == "remove programs"
    assert filtering.kernel.look().clsact_hooks() == set()
    assert {*plain, *port} <= set(filtering.kernel.objects)


def test_hooks_of_others_stay(filtering):
    """Hooks that lead to other blocks are somebody else's, and stay when a change is taken back."""
    port = (next(item for item in GROUPS[0] if isinstance(item, Veth)),)
    hooks = filtered_port(port[0].index, 100)
    filtering.log.clear()
    apply.change_groups(filtering.context, [(*port, *hooks)], [port], is_undoing=True)
    assert not [item for kind, item in filtering.log if kind == "create"]


def test_bridge_filtering_ends(filtering):
    """The bridge's own filtering ends after its ports and its own device are in no VLAN any more."""
    plain = (Bridge("br9", 9, "", mac="", mtu=0),)
    own = BridgeVlans.of("br9", 9, PortVlans(access=1), is_bridge=True)
    aware = (*plain, BridgeVlanFiltering("br9", 9, ""), *own)
    apply.create_groups(filtering.context, [aware])
    filtering.log.clear()
    apply.change_groups(filtering.context, [aware], [plain])
    assert [item for kind, item in filtering.log if kind == "create"] == [
        *map(Absent, own),
        Absent(BridgeVlanFiltering("br9", 9, "")),
    ]


def test_programs_of_another_version_are_replaced(filtering):
    """Programs of another version are replaced on every bridge before anything else changes; the map stays."""
    filtering.all_vlans += filtered_bridge(6)
    filtering.bpf.is_pinned = False
    apply.create_groups(filtering.context, [filtered_port(7, 100)])
    assert filtering.events()[:4] == ["replace programs", "keep programs", "set VLANs", "create"]
    assert filtering.log[1][1] == [item for item in filtering.all_vlans if isinstance(item, VlanProgram)]
    assert filtering.bpf.ports() == {5: PortVlans(), 7: PortVlans(access=100)}


def test_lost_map_is_filled(filtering):
    """When the map is gone, a new one holds all that the store knows before it is used."""
    filtering.all_vlans += [*filtered_port(7, 100), *filtered_port(8, 200)]
    filtering.bpf.remove()
    apply.create_groups(filtering.context, [filtered_port(9, 300)])
    assert filtering.bpf.ports().keys() == {5, 7, 8, 9}
    assert filtering.events()[1:5] == ["replace programs", "keep programs", "set VLANs", "create"]


def test_programs_that_cannot_be_replaced(filtering):
    """When the kernel refuses to replace programs the new ones are not kept, and no port changes."""
    filtering.bpf.is_pinned = False
    filtering.kernel.refuses_replacing = refusal("create VLAN program into of br5", errno.ENOMEM)
    with pytest.raises(KernelRefused, match="VLAN program into of br5"):
        apply.create_groups(filtering.context, [filtered_port(7, 100)])
    assert filtering.events() == ["replace programs"]


def test_programs_go_with_the_last_bridge(filtering):
    """The pins of programs and map go with the last bridge that filters VLANs, and not before."""
    filtering.all_vlans += filtered_bridge(6)
    apply.delete_groups(filtering.context, [filtered_bridge(6)])
    assert "remove programs" not in filtering.events()
    del filtering.all_vlans[-len(filtered_bridge(6)) :]
    apply.delete_groups(filtering.context, [filtered_bridge(5)])
    assert filtering.events()[-1] == "remove programs"


def test_deleting_without_vlans_touches_no_pins(filtering):
    """What has to do with VLANs is left alone by a deletion of other things."""
    filtering.all_vlans.clear()
    apply.delete_groups(filtering.context, [GROUPS[0]])
    assert "remove programs" not in filtering.events()
