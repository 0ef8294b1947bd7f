"""Makes objects exist that are on the host itself, message by message."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dnet._core import ffi, lib
from dnet.errors import DnetError, KernelRefused
from dnet.linux import sysctl
from dnet.linux.encode import ENCODERS, advertised_route, ends_segment
from dnet.linux.netlink import Sockets, device_index, device_name, new_batch, refusal, refused
from dnet.linux.sysctl import Sysctls
from dnet.model.values import replace
from dnet.objects.host import Forwarding, Message, OnForeignDevice, Sysctl
from dnet.objects.links import MovedDevice, ReceiveOffloads, ReturnedDevice
from dnet.objects.object import Absent, Device, Object
from dnet.objects.routes import AdvertisedRoute
from dnet.objects.vlans import VlanProgram

# The kernel's codes when a removal finds that the object, or what it is on, has gone already.
GONE = {errno.ESRCH, errno.ENODEV, errno.EEXIST}
UNREACHABLE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EINVAL}
ABSENT = {21: -errno.EADDRNOTAVAIL, 25: -errno.ESRCH}  # of an address (RTM_DELADDR), of a route (RTM_DELROUTE)
SO_ALREADY = {errno.EADDRNOTAVAIL, errno.ESRCH, errno.ENOENT, errno.EEXIST, errno.ENODEV}
NO_MESSAGES = (Forwarding, Sysctl, AdvertisedRoute, ReceiveOffloads)
SIOCADDRT = 0x890B


class Sender:
    """Creates objects of the host; encodes those of sandboxes for the builder."""

    def __init__(self, sockets: Sockets, sysctls: Sysctls) -> None:
        self.sockets = sockets
        self._sysctls = sysctls
        self._programs: Mapping[str, int] = {}

    def create_on_host(self, group: Sequence[Object]) -> DnetError | None:
        """Create a group that has no sandbox."""
        return next(filter(None, self._send(group)), None)

    def _send(self, group: Sequence[Object]) -> Iterator[DnetError | None]:
        """Make objects of the host so, and yield how each went; what follows a failure in its batch is done as well."""
        start = 0
        while start < len(group):
            first = group[start]
            if isinstance(first, NO_MESSAGES):
                yield self._set(first)
                start += 1
                continue
            end = start
            bodies = sum(len(item.body) for item in group[start:] if isinstance(item, Message))
            batch, _data = new_batch(len(group) - start, bodies)
            while end < len(group) and not isinstance(group[end], NO_MESSAGES):
                self.encode(group[end], batch)
                end += 1
                if ends_segment(group[end - 1]):
                    break
            codes, text = self.sockets.transact(batch)
            for item, code in zip(group[start:end], codes, strict=True):
                is_so = not code or (isinstance(item, Message) and code == ABSENT.get(item.type))
                yield None if is_so else refused(item, -code, text)
            start = end

    def _set(self, item: Object) -> DnetError | None:
        if isinstance(item, Forwarding):
            self._sysctls.switch_forwarding(item.version)
            return None
        try:
            self.perform(item)
        except OSError as error:
            return KernelRefused(f"set {item}", error.errno or 0, str(error.strerror))
        return None

    def perform(self, item: Object) -> None:
        """Make so what no message can: write a file of /proc/sys, or call an ioctl; raises OSError."""
        match item:
            case Sysctl():
                sysctl.write(f"{sysctl.IPV6_DIRECTORY}/{item.device}/{item.key}", item.value)
            case ReceiveOffloads():
                code = lib.dnet_set_merging(self.sockets.open(), item.device.encode(), item.bits)
                if code:
                    raise OSError(-code, os.strerror(-code))
            case AdvertisedRoute():
                import socket

                with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                    fcntl.ioctl(sock, SIOCADDRT, advertised_route(item))
            case _:
                raise TypeError(item)

    def put_back(self, items: Sequence[Object]) -> None:
        """Apply objects one by one. Ignore those already in place; continue after a failure.

        Raises the first failure, when all of them have been tried.
        """
        found = [error for error in self._send(items) if error and getattr(error, "errno", 0) not in SO_ALREADY]
        if found:
            raise found[0]

    def restore(self, devices: Sequence[MovedDevice]) -> None:
        """Give devices that are back on the host what they had there; those that have gone are left out."""
        for item in devices:
            name = item.device.encode()
            index = device_index(item.device)
            batch, _data = new_batch(len(item.before) + 1)
            if index is None and device_name(item.peer_index):
                # It came back with the end of the namespace, under its name there or one that the kernel chose.
                index = item.peer_index
                lib.dnet_put_identity(batch, index, name, ffi.NULL, 0)
            if index is None:
                continue
            for before in item.before:
                self.encode(replace(before, index=index) if isinstance(before, Device) else before, batch)
            codes, text = self.sockets.transact(batch)
            for code in codes:
                if code and -code not in GONE | UNREACHABLE:
                    raise refusal(f"restore device {item.device}", -code, text)

    def encode(self, item: Object, batch: Any) -> None:
        """Append the one message that creates `item`."""
        made = item.item if isinstance(item, (Absent, OnForeignDevice)) else item
        if isinstance(made, Device) and made.device and not (made.index or made.sandbox):
            made = replace(made, index=self._index_by_name(made))
        match made:
            case ReturnedDevice():
                name = made.name.encode()
                code = int(lib.dnet_put_move(batch, made.index, self.sockets.namespace(), name, made.host_index))
            case VlanProgram():
                name = f"dnet_vlan_{made.direction}".encode()
                code = int(lib.dnet_put_program(batch, made.block, self._programs[made.direction], name))
            case _:
                code = ENCODERS[type(made)](made, batch, not isinstance(item, Absent))
        if code:
            raise refused(item, -code, "")

    def use_programs(self, programs: Mapping[str, int]) -> None:
        """Take the descriptors of the programs that VlanProgram objects put in place, by direction."""
        self._programs = programs

    def replace_programs(self, items: Sequence[VlanProgram]) -> None:
        """Put the programs in place of those that work now; bridges that do not exist, or filter nothing, are skipped.

        At no moment is a bridge without one.
        """
        if not items:
            return
        batch, _data = new_batch(len(items))
        for item in items:
            self.encode(item, batch)
        codes, text = self.sockets.transact(batch)
        for item, code in zip(items, codes, strict=True):
            # EINVAL is what the kernel says of a block that does not exist.
            if code not in (0, -errno.EINVAL):
                raise refused(item, -code, text)

    def _index_by_name(self, item: Device) -> int:
        index = device_index(item.device)
        if index is None:
            raise refused(item, errno.ENODEV, "")
        return index
