"""Files, nftables elements, sysctls and other objects that are not devices of a network."""

from __future__ import annotations

from dnet.model.address import IPAddress
from dnet.model.values import frozen
from dnet.objects.object import Device, Object, Setting


@frozen
class Directory(Object, backend="files"):
    """A directory, deleted with all that is in it."""

    path: str

    def __str__(self) -> str:
        return f"directory {self.path}"


@frozen
class File(Object, backend="files", owned=True):
    """A text file in a Directory."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"file {self.path}"


@frozen
class Symlink(Object, backend="files"):
    """A symbolic link."""

    path: str
    target: str

    def __str__(self) -> str:
        return f"link {self.path} to {self.target}"


@frozen
class NftTable(Object, backend="nft"):
    """The table `inet dnet` with its fixed chains, sets and maps; made again, in place, when it exists."""

    def __str__(self) -> str:
        return "table inet dnet"


@frozen
class NatElement(Object, backend="nft"):
    """An element of one of the table's sets or maps. `key` and `value` are in nft's own syntax."""

    set_name: str
    key: str
    value: str = ""

    def __str__(self) -> str:
        return f"element {self.key}{' : ' if self.value else ''}{self.value} of {self.set_name}"


@frozen
class Forwarding(Object, owned=True):
    """Forwarding of IP `version` between the host's interfaces; only the undoing of a failed create switches it off."""

    version: int

    def __str__(self) -> str:
        return f"forwarding of IPv{self.version}"


@frozen
class Flows(Object, backend="flows"):
    """The host's connection tracking entries of a container.

    Created, entries from before that would keep a UDP peer away from the ports now published are dropped; deleted,
    all entries of the addresses are. `udp_ports` are the host's addresses and ports.
    """

    addresses: tuple[IPAddress, ...]
    udp_ports: tuple[tuple[IPAddress, int], ...]

    def __str__(self) -> str:
        return f"connection tracking of {', '.join(map(str, self.addresses))}"


@frozen
class ForeignState(Setting, kind="Dumped"):
    """A route or address that is not dnet's, as the kernel told it: `message`, and in words `text`."""

    text: str
    message: bytes

    def __str__(self) -> str:
        return f"{self.text} on {self.place}"


@frozen
class Message(Setting):
    """A message of rtnetlink about a device, as it is sent: for what has been read from the kernel (see `messages`).

    `type` and `flags` are the header's, `body` is all behind it, `text` what it makes so.
    """

    type: int
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
class Sysctl(Setting):
    """net.ipv6.conf.DEVICE.`key`, of which netlink has none."""

    key: str
    value: str

    def __str__(self) -> str:
        return f"{self.key}={self.value} on {self.place}"


@frozen
class OnForeignDevice(Object, kind="Addition"):
    """Something of dnet's on a device of somebody else's, which therefore does not vanish with the device.

    Creating it is creating `item`, deleting it is creating its absence.
    """

    item: Device

    def __str__(self) -> str:
        return str(self.item)
