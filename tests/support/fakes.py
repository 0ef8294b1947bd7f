"""A host that is only remembered: stand-ins for Kernel, Nft, Bpf and OpenVSwitch that record what they are told.

They keep the promises of the real ones: netlink creates object by object and leaves what went before a failure,
nftables takes a transaction whole or not at all, a device takes with it all that is on it, a namespace all that is
in it, and deleting what is not there is no failure.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network, ip_address
from typing import Any, NoReturn, Self

from dnet.drivers import nat_table
from dnet.errors import DnetError, KernelRefused, NotFound, OvsError
from dnet.model.vlan import PortVlans
from dnet.objects.host import Flows, Forwarding
from dnet.objects.links import Bridge, NoAutoconf, PortOf, Veth
from dnet.objects.object import Absent, Device, Object
from dnet.objects.observed import Observed
from dnet.objects.openvswitch import OvsBridge, OvsMac, OvsPort
from dnet.objects.routes import Route
from dnet.objects.sandbox import JoinedSandbox, Sandbox
from dnet.objects.vlans import (
    ClsactHooks,
    MacEntry,
    VlanProgram,
)
from dnet.openvswitch.switch import Switch

Event = tuple[str, object]
MACHINE_DIRECTORIES = ("/etc", "/run/netns", "/run/dnet", "/var/lib")


def refusal(what: str, code: int) -> KernelRefused:
    """Return the error that the real ones make of a code that the kernel gives without words."""
    return KernelRefused(what, code, os.strerror(code))


class FakeBuilder:
    """Creates group by group. As with the real one's two threads, one group after a failure is still made."""

    def __init__(self, kernel: FakeKernel, *, keep_going: bool, on_progress: Callable[[int], None] | None) -> None:
        self._kernel = kernel
        self._keep_going = keep_going
        self._on_progress = on_progress
        self._errors: list[DnetError | None] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def has_failed(self) -> bool:
        return any(self._errors) and not self._keep_going

    def put(self, groups: Sequence[Sequence[Object]]) -> None:
        for group in groups:
            is_late = any(self._errors[:-1]) and not self._keep_going
            self._errors.append(None if is_late else self._kernel.create_on_host(group))
            if self._on_progress:
                self._on_progress(len(self._errors))

    def errors(self) -> list[DnetError | None]:
        return self._errors


class FakeSysctls:
    """Settings of a host whose forwarding is on, but for what Forwarding objects switch on."""

    def __init__(self) -> None:
        self.switched: list[Object] = []

    def switch_forwarding(self, version: int) -> None:
        """Forwarding is on here."""

    def of_device(self, device: str, keys: Sequence[str]) -> dict[str, str]:  # noqa: ARG002
        return {}

    def keep(self) -> None:
        self.switched.clear()

    def restore(self) -> None:
        self.switched.clear()


class FakeNamespaceView:
    """What a FakeKernel's host has."""

    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel

    def masters(self) -> dict[int, int]:
        """Return the ports of bridges and the bridges themselves, as they were made."""
        made = {item.index: getattr(item, "master_index", 0) for item in self._kernel.devices()}
        moved = {item.index: item.master_index for item in self._kernel.objects if isinstance(item, PortOf)}
        bridges = {index for index, master in made.items() if not master}
        return {index: master if master in bridges else 0 for index, master in {**made, **moved}.items()}

    def clsact_hooks(self) -> set[tuple[int, int, int]]:
        return {(item.index, *item.blocks) for item in self._kernel.objects if isinstance(item, ClsactHooks)}

    def mac_entries(self) -> set[tuple[int, str]]:
        return {(item.index, item.mac) for item in self._kernel.objects if isinstance(item, MacEntry)}

    def routed_subnets(self) -> list[IPv4Network]:
        return list(self._kernel.routes)

    def local_addresses(self) -> set[object]:
        return {ip_address(text) for text in ("127.0.0.1", "::1", "192.0.2.10", "2001:db8::10")}

    def report(self) -> Observed:
        """Return nothing: what the kernel reports in its own words is not remembered."""
        return Observed((), (), ())

    def links(self) -> NoReturn:
        raise NotImplementedError

    def addresses(self) -> NoReturn:
        raise NotImplementedError

    def routes(self) -> NoReturn:
        raise NotImplementedError


class FakeKernel:
    """Objects that exist, in the order of their creation. `refuses` tells which ones cannot be created.

    It plays the part of a Sender as well.
    """

    def __init__(self, log: list[Event] | None = None) -> None:
        self.objects: list[Object] = []
        self.log: list[Event] = [] if log is None else log
        self.refuses: Callable[[Object], bool] = lambda _: False
        self.refuses_deletion: BaseException | None = None
        self.routes: list[IPv4Network] = []
        self.resolver_changes = 0
        self.programs: dict[str, int] = {}
        self.refuses_replacing: BaseException | None = None
        self.sysctls = FakeSysctls()
        self.sender = self

    # What an Engine asks

    def close(self) -> None: ...

    def require_privilege(self) -> None: ...

    def prepare_directory(self, path: str) -> None:
        """Make a directory; one that is not a test's own is a mistake of the test."""
        assert not path.startswith(MACHINE_DIRECTORIES), f"{path} is the machine's"
        os.makedirs(path, exist_ok=True)

    def prepare_shared_directory(self, path: str) -> None:
        """Make a directory, as above."""
        self.prepare_directory(path)

    def changes_of(
        self,
        paths: Sequence[str],
        others: Callable[[], Sequence[int]] = tuple,  # noqa: ARG002
        pause_s: Callable[[], float | None] | None = None,  # noqa: ARG002
    ) -> Iterator[None]:
        """Yield once at the start, and as many times again as `resolver_changes` says; then the watching ends."""
        self.log.append(("watch", list(paths)))
        for _ in range(1 + self.resolver_changes):
            yield

    def dump_sockets(self, kind: int, body: bytes) -> Iterator[bytes]:  # noqa: ARG002
        return iter(())

    def has_offloads(self, device: str) -> bool:  # noqa: ARG002
        return False

    def receive_offloads(self, device: str) -> int:  # noqa: ARG002
        return 0

    def has_bridge_vlans(self) -> bool:
        return False

    def device_index(self, name: str) -> int | None:
        return next((item.index for item in self.devices() if item.device == name), None)

    def device_name(self, index: int) -> str:
        return next((item.device for item in self.devices() if item.index == index), "")

    def is_device(self, index: int, name: str) -> bool:
        return any((item.index, item.device) == (index, name) for item in self.devices())

    def devices(self) -> Iterator[Device]:
        return (item for item in self.objects if isinstance(item, (Bridge, Veth)))

    def encode(self, item: Object, batch: object) -> NoReturn:
        raise NotImplementedError("there are no messages to a kernel that is only remembered")

    # What `dnet.transaction.apply` asks

    def look(self) -> FakeNamespaceView:
        return FakeNamespaceView(self)

    def create(
        self,
        groups: Sequence[Sequence[Object]],
        *,
        keep_going: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[DnetError | None]:
        builder = self.builder(keep_going=keep_going, on_progress=on_progress)
        builder.put(groups)
        return builder.errors()

    def builder(self, *, keep_going: bool = False, on_progress: Callable[[int], None] | None = None) -> FakeBuilder:
        return FakeBuilder(self, keep_going=keep_going, on_progress=on_progress)

    def create_on_host(self, group: Sequence[Object]) -> DnetError | None:
        """Create objects until one is refused."""
        for item in group:
            code = errno.ENOMEM if self.refuses(item) else self._create(item)
            if code:
                return refusal(f"create {item}", code)
        return None

    def _create(self, item: Object) -> int:
        """Create one object, and return 0 or the code of the kernel's refusal."""
        self.log.append(("create", item))
        match item:
            case JoinedSandbox():
                pins = {other.path for other in self.objects if isinstance(other, Sandbox)}
                return 0 if item.path in pins else errno.ENOENT
            case Absent(item=Route() as gone):
                left = [other for other in self.objects if not _is_same_route(other, gone)]
                is_missing = len(left) == len(self.objects)
                self.objects = left
                return errno.ESRCH if is_missing else 0
            case Absent(item=gone):
                self.objects.remove(gone)
                return 0
            case Route() if any(_is_same_route(other, item) for other in self._since(item.sandbox)):
                return errno.EEXIST
            case Forwarding():
                if item not in self.objects:
                    self.objects.append(item)
                    self.sysctls.switched.append(item)
                return 0
            case NoAutoconf():  # a setting: what was set before is gone
                self.objects = [other for other in self.objects if not _is_setting_of(other, item)]
        self.objects.append(item)
        return 0

    def _since(self, sandbox: str) -> list[Object]:
        """Return what came after the last sandbox of a name, which an older one had before it was renamed."""
        names = [item.sandbox if isinstance(item, Sandbox) else "" for item in self.objects]
        return self.objects[len(names) - names[::-1].index(sandbox) if sandbox in names else 0 :]

    def ruleset_generation(self, epoch: str) -> int:  # noqa: ARG002
        return 0

    def boot_id(self) -> str:
        return "00000000-0000-4000-8000-000000000000"

    def perform(self, item: Object) -> NoReturn:
        raise NotImplementedError("there is no /proc/sys of a kernel that is only remembered")

    def put_back(self, items: Sequence[Object]) -> None:
        self.create_on_host(items)

    # What no test on a host that is only remembered needs: tests/kernel asks the real one.

    def link(self, name: str) -> NoReturn:
        raise NotImplementedError

    def looking_into(self, sandbox: Sandbox) -> NoReturn:
        raise NotImplementedError

    def is_wireless(self, name: str) -> NoReturn:
        raise NotImplementedError

    def restore(self, devices: Sequence[Object]) -> None:
        assert not devices

    def remove_inside(self, groups: Sequence[Sequence[Object]]) -> None:
        """Make absences inside sandboxes, object by object; what is missing already is no failure."""
        for group in groups:
            for number, item in enumerate(group if len(group) > 1 else ()):
                error = self.create_on_host([item])
                if error and (number == 0 or getattr(error, "errno", 0) not in {errno.ESRCH, errno.ENODEV}):
                    raise error

    def use_programs(self, programs: Mapping[str, int]) -> None:
        self.programs = dict(programs)

    def replace_programs(self, items: Sequence[VlanProgram]) -> None:
        self.log.append(("replace programs", list(items)))
        if self.refuses_replacing:
            raise self.refuses_replacing

    def drop_flows(self, items: Iterable[Flows], *, is_new: bool) -> None:
        self.log.append(("drop old flows" if is_new else "drop flows", list(items)))

    def delete(
        self,
        groups: Sequence[Sequence[Object]],
        *,
        is_rollback: bool = False,
        on_progress: Callable[[int], None] | None = None,  # noqa: ARG002
    ) -> None:
        items = [item for group in groups for item in group]
        self.log.append(("delete from kernel", items))
        if self.refuses_deletion:
            raise self.refuses_deletion
        for item in items:
            if isinstance(item, (Bridge, Veth, Sandbox)) and not item.owned:
                self.objects = [other for other in self.objects if not _goes_with(other, item)]
        if is_rollback and any(isinstance(item, Forwarding) for item in items):
            self.objects = [item for item in self.objects if item not in self.sysctls.switched]
            self.sysctls.restore()


def _is_same_route(other: Object, item: Route) -> bool:
    """Whether two routes are to the same place in the same sandbox, of which the kernel takes one."""
    return isinstance(other, Route) and (other.sandbox, other.destination) == (item.sandbox, item.destination)


def _is_setting_of(other: Object, item: NoAutoconf) -> bool:
    return isinstance(other, NoAutoconf) and (other.index, other.sandbox) == (item.index, item.sandbox)


def _goes_with(other: Object, item: Object) -> bool:
    """Whether the kernel removes `other` together with `item`."""
    if other == item:
        return True
    if isinstance(item, Sandbox):
        inside = isinstance(other, Device) and other.sandbox == item.sandbox
        return inside or (isinstance(other, Veth) and other.peer_sandbox == item.sandbox)
    if not isinstance(other, Device) or not isinstance(item, Device):
        return False
    here = (other.device, other.index, other.sandbox)
    ends = [(item.device, item.index, item.sandbox)]
    if isinstance(item, Veth):
        ends.append((item.peer, item.peer_index, item.peer_sandbox))
    return here in ends


class FakeNft:
    """The table `inet dnet`: elements by set and key. Reads only what nat.commands writes of them."""

    def __init__(self, log: list[Event] | None = None) -> None:
        self.has_made_table = False
        self.elements_by_key: dict[tuple[str, str], str] = {}
        self.log: list[Event] = [] if log is None else log
        self.transactions = 0
        self.refuses: Callable[[str], BaseException | None] = lambda _: None

    def close(self) -> None:
        """Forget nothing: what was set up stays."""

    def prepare(self) -> None:
        self.log.append(("prepare nft", None))

    def has_table(self, table: str) -> bool:
        return self.has_made_table and table == "inet dnet"

    def chains(self, table: str) -> set[str]:
        return set(nat_table.CHAINS) if self.has_table(table) else set()

    def has_elements(self, table: str, name: str) -> bool:
        return self.has_table(table) and any(set_name == name for set_name, _ in self.elements_by_key)

    def json(self, command: str, kind: str) -> list[Any]:  # noqa: ARG002
        return []

    def all_chains(self) -> list[Any]:
        """Return nothing: this host has no other firewalls."""
        return []

    def elements(self, table: str, kind: str, name: str) -> list[Any]:  # noqa: ARG002
        return []

    def flush_ruleset(self) -> None:
        """Do what somebody else does who knows nothing of dnet."""
        self.has_made_table = False
        self.elements_by_key = {}

    def run(self, commands: Sequence[str], what: str) -> None:
        """Run one transaction: refused whole when an element to be deleted, or the table, does not exist."""
        if not commands:
            return
        text = "\n".join(commands)
        problem = self.refuses(text)
        if problem:
            raise problem
        elements, has_table = dict(self.elements_by_key), self.has_made_table
        for line in text.splitlines():
            has_table = _run_line(line.strip(), elements, what, has_table=has_table)
        self.elements_by_key, self.has_made_table = elements, has_table
        self.log.append(("nft", text))


class FakeBpf:
    """The VLAN map, and whether the programs of this version are pinned, which says that they are in place."""

    def __init__(self, log: list[Event] | None = None) -> None:
        self.entries: dict[int, PortVlans] | None = None
        self.is_pinned = False
        self.programs: dict[str, int] = {}
        self.log: list[Event] = [] if log is None else log

    def close(self) -> None:
        """Forget nothing: what is pinned stays."""

    def prepare(self, all_ports: Callable[[], Mapping[int, PortVlans]]) -> bool:
        if self.entries is None:
            self.entries = dict(all_ports())
            self.is_pinned = False
        self.programs = {"into": 5, "out": 6}
        return self.is_pinned

    def keep(self) -> None:
        self.log.append(("keep programs", None))
        self.is_pinned = True

    def remove(self) -> None:
        self.log.append(("remove programs", None))
        self.entries, self.is_pinned = None, False

    def set_ports(self, ports: Mapping[int, PortVlans]) -> None:
        self.log.append(("set VLANs", dict(ports)))
        assert self.entries is not None
        self.entries.update(ports)

    def delete_ports(self, indexes: Iterable[int]) -> None:
        for index in indexes:
            (self.entries or {}).pop(index, None)

    def ports(self) -> dict[int, PortVlans]:
        return dict(self.entries or {})


def _run_line(line: str, elements: dict[tuple[str, str], str], what: str, *, has_table: bool) -> bool:
    """Apply one command to the elements; return whether the table exists afterwards."""
    found = re.fullmatch(r"(add|delete) element inet dnet (\S+) \{ (.*) \}", line)
    if found:
        verb, set_name, items = found.groups()
        for item in items.split(", "):
            text, _, value = item.partition(" : ")
            key = nat_table.key_of(set_name, text.split(" . "))
            held = elements.get((set_name, key))
            if not has_table or (verb == "delete" and held is None):
                raise refusal(what, errno.ENOENT)
            if verb == "delete":
                del elements[set_name, key]
            elif held not in {None, value}:
                raise refusal(what, errno.EEXIST)
            else:
                elements[set_name, key] = value
    elif line.startswith("delete table"):
        if not has_table:
            raise refusal(what, errno.ENOENT)
        elements.clear()
        return False
    return has_table or line.startswith("add table")


class FakeSwitch:
    """Open vSwitch: bridges, and ports whose devices a FakeKernel has. `refuses` tells which ports it does not take."""

    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel
        self.objects: list[OvsBridge | OvsPort] = []
        self.is_absent = False
        self.refuses: Callable[[OvsPort], bool] = lambda _: False
        self.refuses_deletion: BaseException | None = None

    def close(self) -> None: ...

    def prepare(self) -> None:
        """Be there, or not."""
        self._kernel.log.append(("prepare switch", None))
        if self.is_absent:
            raise OvsError("cannot reach Open vSwitch: it is not running")

    def reach(self) -> None:
        """Be there, or not."""
        if self.is_absent:
            raise OvsError("cannot reach Open vSwitch: it is not running")

    def port_names(self, bridge: str) -> list[str]:
        return [item.port for item in self.objects if isinstance(item, OvsPort) and item.bridge == bridge]

    def disown_bridge(self, item: OvsBridge) -> None:
        """Forget a bridge, which is others' now."""
        self.objects.remove(item)

    def switch(self) -> Switch:
        return Switch("3.1.0", ("netdev",), wants_tso=False)

    def datapath_type(self) -> str:
        return "netdev"

    def observed(self) -> list[OvsBridge | OvsPort]:
        return list(self.objects)

    def bridge(self, name: str) -> None:
        """Return what there is of a bridge that the engine has not made: nothing."""

    def bridge_names(self) -> dict[str, str]:
        return {item.bridge: item.datapath_type for item in self.objects if isinstance(item, OvsBridge)}

    def set_vlans(self, ports: Sequence[OvsPort]) -> None:
        """Put ports in the place of those that have their names."""
        self._kernel.log.append(("set vlans", list(ports)))
        given = {item.port: item for item in ports}
        for name in set(given) - {item.port for item in self.objects if isinstance(item, OvsPort)}:
            raise NotFound(f"there is no port {name}")
        self.objects = [given.get(item.port, item) if isinstance(item, OvsPort) else item for item in self.objects]

    def create_bridges(self, bridges: Sequence[OvsBridge]) -> dict[str, int]:
        """Create bridges."""
        self._kernel.log.append(("create bridges", list(bridges)))
        names = {item.bridge for item in bridges}
        kept = [item for item in self.objects if isinstance(item, OvsPort) or item.bridge not in names]
        self.objects = [*kept, *bridges]
        return {item.bridge: 7 for item in bridges}

    def delete_bridges(self, bridges: Sequence[OvsBridge]) -> None:
        """Delete bridges."""
        self._kernel.log.append(("delete bridges", list(bridges)))
        self.objects = [item for item in self.objects if item not in bridges]

    def create_ports(
        self,
        ports: Sequence[OvsPort],
        *,
        keep_going: bool = False,
        macs: Sequence[OvsMac] = (),  # noqa: ARG002
    ) -> list[DnetError | None]:
        """Create ports as one transaction, or, with keep_going, those that are not refused."""
        self._kernel.log.append(("create ports", list(ports)))
        errors: list[DnetError | None] = [
            OvsError(f"cannot create {item}: no") if self.refuses(item) or not self._has_device(item) else None
            for item in ports
        ]
        first = next(filter(None, errors), None)
        if first and not keep_going:
            raise first
        made = [item for item, error in zip(ports, errors, strict=True) if not error]
        names = {item.port for item in made}
        self.objects = [item for item in self.objects if not (isinstance(item, OvsPort) and item.port in names)] + made
        return errors

    def _has_device(self, item: OvsPort) -> bool:
        return any(isinstance(other, Veth) and other.device == item.port for other in self._kernel.objects)

    def delete_ports(self, ports: Sequence[OvsPort], on_progress: Callable[[int], None] | None = None) -> None:
        """Delete ports one by one."""
        self._kernel.log.append(("delete ports", list(ports)))
        if self.refuses_deletion:
            raise self.refuses_deletion
        for number, item in enumerate(ports, 1):
            self.objects = [
                other for other in self.objects if not (isinstance(other, OvsPort) and other.port == item.port)
            ]
            if on_progress:
                on_progress(number)

    # What no test on a host that is only remembered needs: tests/openvswitch asks the real one.

    def holder(self, port: str) -> NoReturn:
        raise NotImplementedError

    def release_ports(self, ports: Sequence[OvsPort], macs: Sequence[OvsMac]) -> NoReturn:
        raise NotImplementedError


def snapshot(kernel: FakeKernel, nft: FakeNft) -> tuple[Any, ...]:
    """Return all that exists on the host, to compare."""
    return (sorted(map(str, kernel.objects)), sorted(nft.elements_by_key.items()), nft.has_made_table)
