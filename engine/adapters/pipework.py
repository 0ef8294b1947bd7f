"""Parser of the command lines of pipework, the script.

    HOSTIF [-i IF] [-l HOSTEND] [-a 4|6] GUEST IP/LEN[@GATEWAY] [MAC][@VLAN]
    HOSTIF [-i IF] [-l HOSTEND] GUEST METHOD[:OPTIONS] [MAC][@VLAN]        a DHCP method
    mac:AA:BB:CC:DD:EE:FF ...     --direct-phys HOSTIF ...                 HOSTIF by its MAC; HOSTIF itself moves
    --wait [-i IF]
    route|rule|tc GUEST ARGUMENT...

What pipework accepts is accepted and means the same, but `route2` is not `route`, and one word too many is an error. In
addition options may come in any order, and an IPv6 address needs no `-a 6`. What HOSTIF is depends on the host: the
caller looks for `host_interface(words)` and passes what it found.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from ipaddress import IPv4Interface, ip_address, ip_interface

from dnet.errors import InvalidRequest
from dnet.model.address import IPAddress, IPInterface
from dnet.model.attachment_spec import NO_ADDRESSES, hashed_mac
from dnet.model.parse import check_hostname, check_mac
from dnet.model.values import Value, frozen

USAGE = "write HOSTIF [-i IF] [-l HOSTEND] [-a 4|6] CONTAINER IP/LEN[@GATEWAY] [MAC][@VLAN]"
TOOLS = ("route", "rule", "tc")
DHCP_METHODS = frozenset({"dhcp", "udhcpc", "udhcpc-f", "dhclient", "dhclient-f", "dhcpcd"})
DEFAULT_INTERFACE, DEFAULT_IPOIB_INTERFACE = "eth1", "ib0"
INTERFACE_CHARACTERS_MAX = 15  # IFNAMSIZ without the end
INTERFACE_PATTERN = re.compile(r"[^\s/:]+\Z")
VLAN_MIN, VLAN_MAX = 1, 4094
VLAN_DIGITS_MAX = 9
PARTITION_KEY_PATTERN = re.compile(r"(0x)?[0-9a-f]{1,4}\Z")
BROADCAST_KEY = 0x7FFF  # of an InfiniBand partition, without its membership bit
PREFIX_BITS = {4: 32, 6: 128}
WORDS_MAX = 3
# Options of DHCP clients that dnet understands.
KEEP_OPTIONS = frozenset({"-f", "-fg", "-B"})
HOSTNAME_OPTIONS = {"-x": "hostname:", "-h": "", "-H": "", "-F": ""}


class Kind(StrEnum):
    """What a host interface is, or is created as when it is missing."""

    BRIDGE = "bridge"
    OVS = "ovs"
    PHYSICAL = "physical"
    IPOIB = "ipoib"
    DUMMY = "dummy"


@frozen
class Static(Value):
    """A given address, None for pipework's 0/0. `gateway` is that of the default route; `family` is 4 or 6.

    The gateway may lie outside the address's subnet.
    """

    address: IPInterface | None
    gateway: IPAddress | None
    family: int


@frozen
class Dhcp(Value):
    """An address by DHCP. `client` is the program that pipework would run, `options` are its extra words.

    `keeps`: the lease is renewed as long as the container lives. `hostname` is the one to send, empty for the
    container's name. Other options have no effect.
    """

    client: str
    keeps: bool
    hostname: str
    options: tuple[str, ...]


@frozen(kw_only=True)
class Attach(Value):
    """An interface for a container.

    `host_interface` is a name, or `mac:` and an address; `is_direct` moves it into the container. `host_end` names the
    veth's peer on the host, empty for any. `mac` may be empty; `vlan` is 0 for none, and with IPoIB a partition key.
    """

    host_interface: str
    is_direct: bool
    interface: str
    host_end: str
    guest: str
    addressing: Static | Dhcp
    mac: str
    vlan: int


@frozen
class Wait(Value):
    """Run inside a container: wait until the interface is there and has a carrier."""

    interface: str


@frozen
class Tool(Value):
    """`ip route`, `ip rule` or `tc` with these arguments inside a container."""

    name: str
    guest: str
    arguments: tuple[str, ...]


def host_interface(words: Sequence[str]) -> str:
    """Return the word that names the host's interface, empty when there is none."""
    rest = list(words)
    if rest[:1] == ["--direct-phys"]:
        del rest[0]
    return rest[0] if rest and rest[0] != "--wait" else ""


def parse(words: Sequence[str], *, exists: bool = False, is_ipoib: bool = False) -> Attach | Wait | Tool:
    """Read a command line, `pipework` itself left out.

    `exists`: the host has the interface that the first word names, which may even be `route`; `is_ipoib`: it is an
    InfiniBand one (ARPHRD_INFINIBAND, 32). Raises InvalidRequest.
    """
    words = list(words)
    if words[:1] == ["--wait"]:
        return _parse_wait(words[1:])
    if words[:1] and words[0] in TOOLS and not exists:
        return _parse_tool(words[0], words[1:])
    is_direct = words[:1] == ["--direct-phys"]
    return _parse_attach(words[1:] if is_direct else words, is_direct=is_direct, is_ipoib=is_ipoib)


def kind_of(
    host_interface: str,
    *,
    exists: bool,
    is_bridge: bool = False,
    is_ovs: bool = False,
    is_ipoib: bool = False,
) -> Kind:
    """Return what a host interface is, or, by its name, what to create when it is missing.

    A missing `br...` becomes a bridge, `ovs...` one of Open vSwitch; `dummy...` needs none. Raises InvalidRequest for
    other missing names and for the MAC address of no interface.
    """
    if exists:
        return Kind.BRIDGE if is_bridge else Kind.OVS if is_ovs else Kind.IPOIB if is_ipoib else Kind.PHYSICAL
    for beginning, kind in (("br", Kind.BRIDGE), ("ovs", Kind.OVS), ("dummy", Kind.DUMMY)):
        if host_interface.startswith(beginning):
            return kind
    if host_interface.startswith("mac:"):
        mac = host_interface.removeprefix("mac:")
        hint = "`ip link` lists them"
        raise InvalidRequest(f"no interface of this host has the MAC address {mac}", object=mac, hint=hint)
    hint = "a name that begins with br makes a bridge, with ovs one of Open vSwitch; `ip link` lists what there is"
    raise InvalidRequest(f"this host has no interface {host_interface}", object=host_interface, hint=hint)


def check(attach: Attach, kind: Kind) -> None:
    """Raise InvalidRequest when an interface of that kind cannot have a VLAN; ignore what else does not apply."""
    if attach.vlan and kind is Kind.DUMMY:
        raise InvalidRequest(
            f"cannot give {attach.guest} the VLAN {attach.vlan}: a dummy interface has none",
            object=attach.host_interface,
            hint=f"leave @{attach.vlan} out",
        )


# Command lines


def _parse_wait(words: list[str]) -> Wait:
    options = _take_options(words, ("-i",))
    if words:
        raise _bad(words[0], "--wait takes only -i INTERFACE", hint="write --wait [-i INTERFACE]")
    return Wait(_check_interface(options.get("-i", DEFAULT_INTERFACE), "the container's interface"))


def _parse_tool(name: str, words: list[str]) -> Tool:
    if len(words) <= 1:
        what = "container" if not words else "argument"
        command = name if name == "tc" else f"ip {name}"
        raise _bad(name, f"the {what} is missing", hint=f"write {name} CONTAINER, and what `{command}` takes")
    return Tool(name, _check_guest(words[0]), tuple(words[1:]))


def _parse_attach(words: list[str], *, is_direct: bool, is_ipoib: bool) -> Attach:
    if not words or not words[0]:
        raise _bad("pipework", "the host's interface is missing")
    host = words.pop(0)
    if host.startswith("--"):
        raise _bad(host, "there is no such option", hint="--wait and --direct-phys are the only ones, and come first")
    options = _take_options(words, ("-i", "-l", "-a"))
    if not words or not words[0]:
        raise _bad(host, "the container is missing")
    if len(words) == 1 or not words[1]:
        raise _bad(words[0], "the address is missing")
    if len(words) > WORDS_MAX:
        raise _bad(words[WORDS_MAX], "it is one word too many")
    mac, vlan = _parse_mac_and_vlan(words[2] if len(words) == WORDS_MAX else "", is_ipoib=is_ipoib)
    default = DEFAULT_IPOIB_INTERFACE if is_ipoib else DEFAULT_INTERFACE
    return Attach(
        host_interface=_check_host(host),
        is_direct=is_direct,
        interface=_check_interface(options.get("-i", default), "the container's interface"),
        host_end=_check_interface(options["-l"], "the host's end") if "-l" in options else "",
        guest=_check_guest(words[0]),
        addressing=_parse_addressing(words[1], options.get("-a", "")),
        mac=mac,
        vlan=vlan,
    )


def _take_options(words: list[str], known: Sequence[str]) -> dict[str, str]:
    """Remove the options with their values from the beginning and return them."""
    found: dict[str, str] = {}
    while words and words[0].startswith("-") and words[0] != "-":
        name = words.pop(0)
        if name not in known:
            raise _bad(name, "there is no such option here", hint=f"these are known: {', '.join(known)}")
        if name in found:
            raise _bad(name, "it is given twice")
        if not words:
            raise _bad(name, "its value is missing")
        found[name] = words.pop(0)
    return found


# Addresses


def _parse_addressing(text: str, family: str) -> Static | Dhcp:
    if family not in {"", "4", "6"}:
        raise _bad(f"-a {family}", "the family is 4 or 6")
    method, colon, options = text.partition(":")
    if method in DHCP_METHODS:
        if family == "6":
            raise _bad(text, "it asks for an IPv4 address, and -a 6 for IPv6", hint="leave -a 6 out")
        return _parse_dhcp(method, options if colon else "")
    return _parse_static(text, family)


def _parse_dhcp(method: str, options: str) -> Dhcp:
    words = options.split()
    hostname, before = "", ""
    for word in words:
        beginning = HOSTNAME_OPTIONS.get(before)
        if beginning is not None and word.startswith(beginning):
            hostname = check_hostname(word.removeprefix(beginning))
        before = word
    keeps = method.endswith("-f") or not KEEP_OPTIONS.isdisjoint(words)
    return Dhcp(method.removesuffix("-f"), keeps, hostname, tuple(words))


def _parse_static(text: str, family: str) -> Static:
    address_text, at, gateway_text = text.partition("@")
    if "/" not in address_text:
        raise _netmask_missing(text, address_text, at + gateway_text)
    address = None if address_text in NO_ADDRESSES else _parse_interface(address_text)
    gateway = _parse_gateway(gateway_text) if at else None
    versions = {item.version for item in (address, gateway) if item} | ({int(family)} if family else set())
    if len(versions) > 1:
        what = "and its gateway are" if address and gateway and address.version != gateway.version else f"-a {family}:"
        raise _bad(text, f"the address {what} of different families", hint="give all in IPv4, or all in IPv6")
    return Static(address, gateway, versions.pop() if versions else 4)


def _netmask_missing(text: str, address: str, gateway: str) -> InvalidRequest:
    try:
        length = 24 if ip_address(address).version == 4 else 64
    except ValueError:
        methods = ", ".join(sorted(DHCP_METHODS))
        return _bad(text, "it is neither an address with its prefix length nor a DHCP method", hint=f"those: {methods}")
    return _bad(text, "the prefix length is missing", hint=f"did you mean {address}/{length}{gateway}?")


def _parse_interface(text: str) -> IPInterface:
    address, _, length = text.partition("/")
    try:
        if "%" in address or not length or (not length.isdecimal() and not _is_netmask(length)):
            raise ValueError(text)
        interface = ip_interface(text)
    except ValueError as error:
        hint = "write the address with its prefix length, as in 10.1.0.5/16"
        raise _bad(text, "it is not an address", hint=hint) from error
    if interface.ip.is_unspecified or interface.ip.is_multicast:
        hint = f"{NO_ADDRESSES[0]} makes one without an address"
        raise _bad(text, "an interface cannot have that address", hint=hint)
    return interface


def _is_netmask(text: str) -> bool:
    """Whether a text is a netmask such as 255.255.0.0, not a host mask such as 0.0.255.255."""
    mask = int(IPv4Interface(text).ip)
    return mask | (mask - 1) == (1 << PREFIX_BITS[4]) - 1 or not mask


def _parse_gateway(text: str) -> IPAddress:
    try:
        if "%" in text:
            raise ValueError(text)
        gateway = ip_address(text)
    except ValueError as error:
        hint = "write a bare address after the @, as in 10.1.0.5/16@10.1.0.1"
        raise _bad(text, "it is not a gateway's address", hint=hint) from error
    if gateway.is_unspecified or gateway.is_multicast or gateway.is_loopback:
        raise _bad(str(gateway), "no gateway has that address")
    return gateway


# MAC addresses and VLANs


def _parse_mac_and_vlan(text: str, *, is_ipoib: bool) -> tuple[str, int]:
    mac, _, vlan = text.partition("@")
    if is_ipoib:
        if mac:
            raise _bad(mac, "the MAC address of an InfiniBand interface cannot be chosen", hint="leave it out")
        return "", _parse_partition_key(vlan) if vlan else 0
    if mac.startswith("U:"):
        string = mac.removeprefix("U:")
        if not string.strip():
            raise _bad(mac, "the string to make a MAC address from is missing", hint="write U: and any string")
        mac = hashed_mac(string)
    return check_mac(mac) if mac else "", _parse_vlan(vlan) if vlan else 0


def _parse_vlan(text: str) -> int:
    is_number = text.isascii() and text.isdecimal() and len(text) <= VLAN_DIGITS_MAX
    if not is_number or not VLAN_MIN <= int(text) <= VLAN_MAX:
        raise _bad(f"@{text}", "it is not a VLAN", hint=f"write @ and a number from {VLAN_MIN} to {VLAN_MAX}")
    return int(text)


def _parse_partition_key(text: str) -> int:
    key = int(text, 16) if PARTITION_KEY_PATTERN.match(text.lower()) else 0
    if not key & BROADCAST_KEY:
        raise _bad(f"@{text}", "it is not an InfiniBand partition key", hint="write @ and hexadecimal 1 to ffff")
    return key


# Names


def _check_host(text: str) -> str:
    if text.startswith("mac:"):
        return f"mac:{check_mac(text.removeprefix('mac:'))}"
    return _check_interface(text, "the host's interface")


def _check_interface(text: str, what: str) -> str:
    """Check an interface's name by the rules of Linux, dev_valid_name() of net/core/dev.c."""
    if len(text.encode(errors="surrogateescape")) > INTERFACE_CHARACTERS_MAX:
        hint = f"Linux allows {INTERFACE_CHARACTERS_MAX}"
        raise _bad(text, f"as a name of {what} it is too long, {len(text)} characters", hint=hint)
    if not INTERFACE_PATTERN.match(text) or text in {".", ".."}:
        raise _bad(text, f"it cannot be the name of {what}", hint="use letters, digits, '.', '-' and '_'")
    return text


def _check_guest(text: str) -> str:
    if not text or text.startswith("-"):
        raise _bad(text, "it is not a container", hint=USAGE)
    return text


def _bad(text: str, why: str, *, hint: str = USAGE) -> InvalidRequest:
    return InvalidRequest(f"invalid {text!r}: {why}", object=text, hint=hint)
