"""A host that is only remembered: stand-ins for dnet.kernel.Kernel and dnet.nft.Nft that record what they are told.

They keep the promises of the real ones: netlink creates object by object and leaves what went before a failure,
nftables takes a transaction whole or not at all, a device takes with it all that is on it, a namespace all that is
in it, and deleting what is not there is no failure.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import IPv4Network, ip_address
from typing import Any, NoReturn

from dnet import nat
from dnet.errors import DnetError, KernelRefused
from dnet.objects import Bridge, Device, Flows, Forwarding, Object, Quiet, Sandbox, Veth

Event = tuple[str, object]
MACHINE_DIRECTORIES = ("/etc", "/run/netns", "/run/dnet", "/var/lib")


def refusal(what: str, code: int) -> KernelRefused:
    """Return the error that the real ones make of a code that the kernel gives without words."""
    return KernelRefused(what, code, os.strerror(code))


class FakeKernel:
    """Objects that exist, in the order of their creation. `refuses` tells which ones cannot be created."""

    def switch_forwarding(self, version: int) -> None:
        """Forwarding is on here."""

    def __init__(self, log: list[Event] | None = None) -> None:
        self.objects: list[Object] = []
        self.log: list[Event] = [] if log is None else log
        self.refuses: Callable[[Object], bool] = lambda _: False
        self.refuses_deletion: BaseException | None = None
        self.routes: list[IPv4Network] = []
        self.resolver_changes = 0
        self._switched: list[Object] = []

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

    def changes_of(self, paths: Sequence[str]) -> Iterator[None]:
        """Yield once at the start, and as many times again as `resolver_changes` says; then the watching ends."""
        self.log.append(("watch", list(paths)))
        for _ in range(1 + self.resolver_changes):
            yield

    def routed_subnets(self) -> list[IPv4Network]:
        return list(self.routes)

    def local_addresses(self) -> set[object]:
        return {ip_address(text) for text in ("127.0.0.1", "::1", "192.0.2.10", "2001:db8::10")}

    def dump_sockets(self, kind: int, body: bytes) -> Iterator[bytes]:  # noqa: ARG002
        return iter(())

    def device_index(self, name: str) -> int | None:
        return next((item.index for item in self._devices() if item.device == name), None)

    def is_device(self, index: int, name: str) -> bool:
        return any((item.index, item.device) == (index, name) for item in self._devices())

    def _devices(self) -> Iterator[Device]:
        return (item for item in self.objects if isinstance(item, (Bridge, Veth)))

    def host_fd(self) -> NoReturn:
        raise NotImplementedError("there is no netlink socket to a kernel that is only remembered")

    def encode(self, item: Object, batch: object) -> NoReturn:
        raise NotImplementedError("there are no messages to a kernel that is only remembered")

    # What an Applier asks

    def create(
        self,
        groups: Sequence[Sequence[Object]],
        *,
        keep_going: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[DnetError | None]:
        """Create group by group. As with the real one's two threads, one group after a failure is still made."""
        errors: list[DnetError | None] = []
        for number, group in enumerate(groups, 1):
            is_late = any(errors[:-1])
            errors.append(None if is_late and not keep_going else self._create_group(group))
            if on_progress:
                on_progress(number)
        return errors

    def _create_group(self, group: Sequence[Object]) -> DnetError | None:
        for item in group:
            if self.refuses(item):
                return refusal(f"create {item}", errno.ENOMEM)
            self.log.append(("create", item))
            if isinstance(item, Quiet):  # a setting: what was set before is gone
                self.objects = [other for other in self.objects if not _is_setting_of(other, item)]
            if not isinstance(item, Forwarding):
                self.objects.append(item)
            elif item not in self.objects:
                self.objects.append(item)
                self._switched.append(item)
        return None

    def keep_switches(self) -> None:
        self._switched.clear()

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
            if isinstance(item, (Bridge, Veth, Sandbox)):
                self.objects = [other for other in self.objects if not _goes_with(other, item)]
        if is_rollback and any(isinstance(item, Forwarding) for item in items):
            self.objects = [item for item in self.objects if item not in self._switched]
            self._switched.clear()


def _is_setting_of(other: Object, item: Quiet) -> bool:
    return isinstance(other, Quiet) and (other.index, other.sandbox) == (item.index, item.sandbox)


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
        self.refuses: Callable[[str], BaseException | None] = lambda _: None

    def close(self) -> None:
        """Forget nothing: what was set up stays."""

    def prepare(self) -> None:
        self.log.append(("prepare nft", None))

    def has_table(self, table: str) -> bool:
        return self.has_made_table and table == "inet dnet"

    def has_elements(self, table: str, name: str) -> bool:
        return self.has_table(table) and any(set_name == name for set_name, _ in self.elements_by_key)

    def json(self, command: str, kind: str) -> list[Any]:  # noqa: ARG002
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


def _run_line(line: str, elements: dict[tuple[str, str], str], what: str, *, has_table: bool) -> bool:
    """Apply one command to the elements; return whether the table exists afterwards."""
    found = re.fullmatch(r"(add|delete) element inet dnet (\S+) \{ (.*) \}", line)
    if found:
        verb, set_name, items = found.groups()
        for item in items.split(", "):
            text, _, value = item.partition(" : ")
            key = nat.key_of(set_name, text.split(" . "))
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


def snapshot(kernel: FakeKernel, nft: FakeNft) -> tuple[Any, ...]:
    """Return all that exists on the host, to compare."""
    return (sorted(map(str, kernel.objects)), sorted(nft.elements_by_key.items()), nft.has_made_table)
