"""Readers and checks of text: names, addresses, subnets, MAC addresses, numbers. All raise InvalidRequest."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, TypeVar, overload

from dnet.errors import InvalidRequest
from dnet.model.address import IPAddress

Item = TypeVar("Item")
A = TypeVar("A", IPv4Address, IPv6Address)
N = TypeVar("N", IPv4Network, IPv6Network)

NAME_PATTERN = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")
NAME_CHARACTERS_MAX = 128
NUMBER_DIGITS_MAX = 9
MAC_PATTERN = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")
MTU_MIN, MTU_MAX = 68, 65535  # RFC 791's smallest, and the largest an IPv4 packet can fill
HOSTNAME_PATTERN = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9_.-]*[a-zA-Z0-9])?\Z")
DOMAIN_CHARACTERS_MAX = 253  # RFC 1035, without the root's dot
HOSTNAME_CHARACTERS_MAX = 64
# The kernel's dev_valid_name() and IFNAMSIZ, without '%', which the kernel replaces by a number.
INTERFACE_PATTERN = re.compile(r"[!-$&-.0-9;-~]{1,15}\Z")

_ADDRESS_HINTS: dict[type[IPAddress] | None, str] = {
    None: "an IP address, without a zone",
    IPv4Address: "an IPv4 address, as in 10.1.0.5",
    IPv6Address: "an IPv6 address, as in fd00:1::5",
}


def check_name(name: str, what: str) -> str:
    """Return the name of a container or network; `what` says in the error which."""
    if not isinstance(name, str) or not NAME_PATTERN.match(name) or len(name) > NAME_CHARACTERS_MAX:
        raise InvalidRequest(
            f"invalid {what} name {name!r}",
            object=name,
            hint=f"use letters, digits, '_', '.', '-', first a letter or digit, at most {NAME_CHARACTERS_MAX} in all",
        )
    return name


def check_interface(name: str) -> str:
    """Return the name of an interface that the kernel allows, and that is neither `lo` nor a sysctl directory."""
    if not INTERFACE_PATTERN.match(name) or name in {".", "..", "lo", "all", "default"}:
        hint = "use at most 15 ASCII characters, without '/', ':', '%' and spaces"
        raise InvalidRequest(f"invalid interface name {name!r}", object=name, hint=hint)
    return name


def check_mac(text: str) -> str:
    """Return a unicast MAC address in lower case, with colons between the bytes."""
    mac = text.lower().replace("-", ":")
    if not MAC_PATTERN.match(mac):
        raise InvalidRequest(
            f"invalid MAC address {text!r}", object=text, hint="write six bytes, as in 02:42:ac:12:00:05"
        )
    if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise InvalidRequest(
            f"MAC address {text} cannot belong to an interface (multicast or all zero)",
            object=text,
            hint="choose one whose first byte is even, such as 02:...",
        )
    return mac


def check_mtu(mtu: int) -> int:
    """Return an MTU in bytes; 0 stands for the kernel's default of 1500."""
    if mtu and not MTU_MIN <= mtu <= MTU_MAX:
        raise InvalidRequest(f"MTU {mtu} is outside {MTU_MIN}-{MTU_MAX} bytes", object=str(mtu))
    return mtu


@overload
def parse_address(text: str, what: str) -> IPAddress: ...
@overload
def parse_address(text: str, what: str, kind: type[A]) -> A: ...
def parse_address(text: str, what: str, kind: Any = None) -> IPAddress:
    """Read an address without a zone, of either version of IP or of class `kind`; `what` names it in the error."""
    try:
        address = ip_address(text)
        if "%" in text or (kind and not isinstance(address, kind)):
            raise ValueError(text)
    except ValueError as error:
        hint = f"write {_ADDRESS_HINTS[kind]}"
        raise InvalidRequest(f"invalid {what} {text!r}", object=text, hint=hint) from error
    return address


def parse_subnet(text: str, what: str, kind: type[N]) -> N:
    """Read ADDRESS/PREFIX-LENGTH with the host bits zero; `what` names it in the error."""
    example = "10.1.0.0/16" if kind is IPv4Network else "fd00:1::/64"
    try:
        network = kind(text)
    except ValueError as error:
        hint = f"write address/prefix-length with the host bits zero, as in {example}"
        raise InvalidRequest(f"invalid {what} {text!r}", object=text, hint=hint) from error
    if not text.partition("/")[2].isdecimal():
        raise InvalidRequest(f"{what} {text!r} has no prefix length", object=text, hint=f"write it as in {example}")
    return network


def check_hostname(text: str) -> str:
    """Return a hostname: RFC 1123 labels, at most 64 characters (the kernel's HOST_NAME_MAX)."""
    return _check_labels(text, "hostname", HOSTNAME_CHARACTERS_MAX)


def check_domain(text: str) -> str:
    """Return a domain: labels as in a hostname, at most 253 characters."""
    return _check_labels(text, "domain", DOMAIN_CHARACTERS_MAX)


def _check_labels(text: str, what: str, characters_max: int) -> str:
    if len(text) > characters_max or not HOSTNAME_PATTERN.match(text) or ".." in text:
        hint = f"use letters, digits, '-' and '.', at most {characters_max} characters"
        raise InvalidRequest(f"invalid {what} {text!r}", object=text, hint=hint)
    return text


def check_word(text: str, what: str) -> str:
    """Return text that is one word, so that it can be written into a line of a file."""
    if not text or text.split() != [text]:
        raise InvalidRequest(f"invalid {what} {text!r}", object=text, hint="write one word, without spaces")
    return text


def parse_extra_host(text: str) -> tuple[str, str]:
    """Read an `--add-host`: NAME:ADDRESS or NAME=ADDRESS. The address may be in brackets, or `host-gateway`."""
    name, _, address = text.partition("=" if "=" in text else ":")
    if not name or not address:
        hint = "write NAME:ADDRESS, as in db:10.0.0.5 or host:host-gateway"
        raise InvalidRequest(f"invalid --add-host {text!r}", object=text, hint=hint)
    if address == "host-gateway":
        return check_domain(name), address
    return check_domain(name), str(parse_address(address.strip("[]"), f"address of --add-host {name}"))


def read_number(text: str, what: str) -> int:
    """Read a number of at most nine digits; `what` names it in the error."""
    if not (text.isascii() and text.isdecimal()) or len(text) > NUMBER_DIGITS_MAX:
        raise InvalidRequest(f"{what} is not a number that could be meant: {text!r}", object=text)
    return int(text)


def read_integer(text: str, what: str) -> int:
    """Read a number of at most nine digits that may be negative; `what` names it in the error."""
    sign = -1 if text.startswith("-") else 1
    return sign * read_number(text.removeprefix("-"), what)


def read_boolean(text: str, what: str) -> bool:
    """Read true, false, 1 or 0; `what` names it in the error."""
    if text.lower() not in {"true", "false", "1", "0"}:
        raise InvalidRequest(f"{what} is neither true nor false: {text!r}", object=text)
    return text.lower() in {"true", "1"}


def listed(items: Iterable[Item] | str) -> Iterable[Item | str]:
    """Return the items; a text alone is one item."""
    return [items] if isinstance(items, str) else items


def each(reader: Callable[[Any], Item]) -> Callable[[Iterable[Any]], tuple[Item, ...]]:
    """Return a function that reads items, or a text alone, into a tuple."""
    return lambda items: tuple(map(reader, listed(items)))


def copied(items: Mapping[str, str] | None) -> dict[str, str]:
    """Return a copy; None is empty."""
    return dict(items or {})


def take(keywords: dict[str, Any], *names: str) -> dict[str, Any]:
    """Remove the named keywords, as far as they are given, and return them."""
    return {name: keywords.pop(name) for name in names if name in keywords}
