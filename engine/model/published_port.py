"""Published and exposed ports, in Docker's grammar.

    [hostIP:][hostPort[-end]]:containerPort[-end][/tcp|udp|sctp]

as docker/go-connections reads it: split at the last two colons, IPv6 in brackets. Ports are 1 to 65535; without a host
port, or with 0, one is chosen when the container is created.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from dnet.errors import InvalidRequest
from dnet.model.values import Value, frozen

PORT_MAX = 65535
PORT_DIGITS_MAX = 5
PROTOCOLS = ("tcp", "udp", "sctp")


@frozen
class PortMapping(Value):
    """A published port: what arrives at `host_ip:host_port` goes to `container_port`.

    host_ip: 0.0.0.0 or :: for all IPv4 or IPv6 addresses of the host
    protocol: `tcp`, `udp` or `sctp`
    """

    host_ip: IPv4Address | IPv6Address
    host_port: int
    container_port: int
    protocol: str

    def order(self) -> tuple[int, str, int, int, int]:
        """Return the key that sorts mappings for lists, by container port first."""
        return self.container_port, self.protocol, self.host_port, self.host_ip.version, int(self.host_ip)

    @property
    def host(self) -> str:
        """Address and port on the host, with IPv6 in brackets."""
        address = f"[{self.host_ip}]" if self.host_ip.version == 6 else str(self.host_ip)
        return f"{address}:{self.host_port}"

    def __str__(self) -> str:
        return f"{self.host}->{self.container_port}/{self.protocol}"


@frozen
class Publish(Value):
    """A `-p` as it was written, with ranges of ports.

    host_ip: None for the default of the network
    host_ports: empty when they are to be chosen. Several container ports have as many host ports, in the same order;
        one container port gets the first free one of `host_ports`
    """

    host_ip: IPv4Address | IPv6Address | None
    host_ports: range
    container_ports: range
    protocol: str

    def pairs(self) -> list[tuple[range, int]]:
        """Return for each container port the host ports that it may have; an empty range stands for any."""
        if len(self.container_ports) == 1 or not self.host_ports:
            return [(self.host_ports, port) for port in self.container_ports]
        return [(range(host, host + 1), port) for host, port in zip(self.host_ports, self.container_ports, strict=True)]


def parse_publish(text: str) -> Publish:
    """Read a `-p`."""
    rest, protocol = _split_protocol(text, text)
    host_ip_text, host, container = _split_colons(rest, text)
    container_ports = _port_range(container, text, "container port")
    if 0 in container_ports:
        raise _bad(text, "the container port is 0")
    host_ports = _port_range(host, text, "host port") if host not in {"", "0"} else range(0)
    if 0 in host_ports:
        raise _bad(text, "a range of host ports begins with 0")
    if host_ports and len(container_ports) != len(host_ports) and len(container_ports) != 1:
        raise _bad(text, f"{len(host_ports)} host ports do not pair up with {len(container_ports)} container ports")
    return Publish(_host_ip(host_ip_text, text), host_ports, container_ports, protocol)


def parse_expose(text: str) -> tuple[tuple[int, str], ...]:
    """Read an `--expose`, PORT[-end][/PROTOCOL], into (port, protocol) pairs."""
    ports, protocol = _split_protocol(text, text)
    exposed = _port_range(ports, text, "port")
    if 0 in exposed:
        raise _bad(text, "port 0 cannot be exposed")
    return tuple((port, protocol) for port in exposed)


def _split_protocol(text: str, whole: str) -> tuple[str, str]:
    ports, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in PROTOCOLS:
        raise _bad(whole, f"unknown protocol {protocol!r}; it is one of {', '.join(PROTOCOLS)}")
    return ports, protocol


def _split_colons(text: str, whole: str) -> tuple[str, str, str]:
    """Return host address, host port and container port; the first two may be empty."""
    if text.startswith("["):
        inner, bracket, ports = text.partition("]")
        if not bracket or ports.count(":") != 2 or not ports.startswith(":"):
            raise _bad(whole, "an address is followed by :hostPort:containerPort, of which the host port may be empty")
        return (inner + bracket, *ports[1:].split(":"))  # type: ignore[return-value]  # two colons, one of them first
    rest, _, container = text.rpartition(":")
    host_ip, _, host = rest.rpartition(":")
    return host_ip, host, container


def _port_range(text: str, whole: str, what: str) -> range:
    first_text, dash, last_text = text.partition("-")
    numbers = [_port(part, whole, what) for part in ((first_text, last_text) if dash else (first_text,))]
    first, last = numbers[0], numbers[-1]
    if last < first:
        raise _bad(whole, f"the {what} range {text} is reversed")
    return range(first, last + 1)


def _port(text: str, whole: str, what: str) -> int:
    if not text:
        raise _bad(whole, f"the {what} is missing")
    if not (text.isascii() and text.isdecimal()):
        raise _bad(whole, f"the {what} {text!r} is not a number")
    digits = text.lstrip("0") or "0"
    if len(digits) > PORT_DIGITS_MAX or int(digits) > PORT_MAX:
        raise _bad(whole, f"the {what} {text} is above {PORT_MAX}")
    return int(digits)


def _host_ip(text: str, whole: str) -> IPv4Address | IPv6Address | None:
    if not text:
        return None
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if "%" in inner:
        raise _bad(whole, f"the address {inner} has a zone, which cannot be published on")
    try:
        address = ip_address(inner)
    except ValueError as error:
        raise _bad(whole, f"{text!r} is not an address") from error
    if (address.version == 6) != text.startswith("["):
        raise _bad(whole, "IPv6 addresses, and only they, are written in brackets")
    return address


def _bad(text: str, why: str) -> InvalidRequest:
    hint = "write [ip:][hostPort[-end]:]containerPort[-end][/tcp|udp|sctp], as in 8080:80 or 127.0.0.1:5300:53/udp"
    return InvalidRequest(f"invalid port {text!r}: {why}", object=text, hint=hint)
