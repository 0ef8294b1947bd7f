"""Files, nftables elements, sysctls and other objects that are not devices of a network."""

from __future__ import annotations

from typing import ClassVar

from dnet.model.address import IPAddress
from dnet.model.values import frozen
from dnet.objects.object import Device, Object


@frozen
class Directory(Object):
    """A directory, deleted with all that is in it."""

    backend: ClassVar[str] = "files"
    path: str

    def __str__(self) -> str:
        return f"directory {self.path}"


@frozen
class File(Object):
    """A text file in a Directory."""

    backend: ClassVar[str] = "files"
    owned: ClassVar[bool] = True
    path: str
    text: str

    def __str__(self) -> str:
        return f"file {self.path}"


@frozen
class Symlink(Object):
    """A symbolic link."""

    backend: ClassVar[str] = "files"
    path: str
    target: str

    def __str__(self) -> str:
        return f"link {self.path} to {self.target}"


@frozen
class NftTable(Object):
    """The table `inet dnet` with its fixed chains, sets and maps; made again, in place, when it exists."""

    backend: ClassVar[str] = "nft"

    def __str__(self) -> str:
        return "table inet dnet"


@frozen
class NatElement(Object):
    """An element of one of the table's sets or maps. `key` and `value` are in nft's own syntax."""

    backend: ClassVar[str] = "nft"
    set_name: str
    key: str
    value: str = ""

    def __str__(self) -> str:
        return f"element {self.key}{' : ' if self.value else ''}{self.value} of {self.set_name}"


@frozen
class Forwarding(Object):
    """Forwarding of IP `version` between the host's interfaces; only the undoing of a failed create switches it off."""

    backend: ClassVar[str] = "kernel"
    owned: ClassVar[bool] = True
    version: int

    def __str__(self) -> str:
        return f"forwarding of IPv{self.version}"


@frozen
class Flows(Object):
    """The host's connection tracking entries of a container.

    Created, entries from before that would keep a UDP peer away from the ports now published are dropped; deleted,
    all entries of the addresses are. `udp_ports` are the host's addresses and ports.
    """

    backend: ClassVar[str] = "flows"
    addresses: tuple[IPAddress, ...]
    udp_ports: tuple[tuple[IPAddress, int], ...]

    def __str__(self) -> str:
        return f"connection tracking of {', '.join(map(str, self.addresses))}"


@frozen
class Dumped(Device):
    """A route or address that is not dnet's, as the kernel told it: `message`, and in words `text`."""

    owned: ClassVar[bool] = True
    text: str
    message: bytes

    def __str__(self) -> str:
        return f"{self.text} on {self.place}"


@frozen
class Message(Device):
    """A message of rtnetlink about a device, as it is sent: for what has been read from the kernel (see `messages`).

    `kind` and `flags` are the header's, `body` is all behind it, `text` what it makes so.
    """

    owned: ClassVar[bool] = True
    kind: int
    flags: int
    body: bytes
    text: str

    def __str__(self) -> str:
        return self.text


@frozen
class LinkMessage(Message):
    """Settings of a device."""


@frozen
class AddressMessage(Message):
    """An address of a device, or its absence."""


@frozen
class RouteMessage(Message):
    """A route through a device, or its absence."""


@frozen
class Sysctl(Device):
    """net.ipv6.conf.DEVICE.`key`, of which netlink has none."""

    owned: ClassVar[bool] = True
    key: str
    value: str

    def __str__(self) -> str:
        return f"{self.key}={self.value} on {self.place}"


@frozen
class Addition(Object):
    """Something of dnet's on a device of somebody else's, which therefore does not vanish with the device.

    Creating it is creating `item`, deleting it is sending `removal`.
    """

    backend: ClassVar[str] = "kernel"
    item: Device
    removal: Message

    def __str__(self) -> str:
        return str(self.item)
