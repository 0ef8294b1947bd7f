"""The text of a container's three files: hosts, hostname, resolv.conf.

The texts follow Docker's (libnetwork's etchosts and resolvconf packages) where a Docker user would look.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, ip_address

from dnet.model.address import IPAddress, IPInterface
from dnet.model.container import MODE_HOST, Container, Link
from dnet.model.network import Network

RESOLV_CONF = "/etc/resolv.conf"  # the host's
LOOPBACK = IPv4Address("127.0.0.1")
HOST_GATEWAY = "host-gateway"
FALLBACK_SERVERS = ("8.8.8.8", "8.8.4.4")
FALLBACK_SERVERS6 = ("2001:4860:4860::8888", "2001:4860:4860::8844")

_LOCAL_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
_RESOLV_HEAD = "# Made by dnet, and made again when the host's changes, unless somebody has edited it.\n"
_CHECKSUM = "# dnet checksum: "


def hostname(container: Container) -> str:
    """Return the text of /etc/hostname."""
    return container.settings.hostname + "\n"


def hosts(container: Container, networks: Iterable[Network], linked: str = "") -> str:
    """Return the text of /etc/hosts: localhost, `--add-host`, the container's own names at each address, links."""
    lines = [_LOCAL_HOSTS]
    gateways = [network.gateway for network in networks][:1]
    lines += extra_hosts(container, gateways)
    own, domain = container.settings.hostname, container.settings.domainname
    full = f"{own}.{domain}" if domain else own
    short = full.partition(".")[0]
    names = full if short == full else f"{full} {short}"
    for end in container.endpoints:
        lines += [f"{address.ip}\t{names}\n" for address in (end.address, end.address6) if address]
    return "".join(lines) + linked


def extra_hosts(container: Container, gateways: Sequence[IPAddress]) -> list[str]:
    """Return the lines of `--add-host`; `gateways` are the host as the container sees it."""
    lines = []
    for name, address in container.settings.extra_hosts:
        if address != HOST_GATEWAY:
            lines.append(f"{address}\t{name}\n")
        lines += [f"{gateway}\t{name}\n" for gateway in gateways if address == HOST_GATEWAY]
    return lines


def hosts_of_host(container: Container, host_text: str) -> str:
    """Return the text of /etc/hosts in mode host: the host's own, and `--add-host`."""
    end = "" if not host_text or host_text.endswith("\n") else "\n"
    return host_text + end + "".join(extra_hosts(container, (LOOPBACK,)))


def link_lines(link: Link, child: Container, addresses: Iterable[IPInterface | None]) -> str:
    """Return what a link adds to its parent's hosts: `ADDRESS ALIAS HOSTNAME NAME` for each address of the child."""
    names = " ".join(dict.fromkeys((link.alias, child.settings.hostname, child.name)))
    return "".join(f"{address.ip}\t{names}\n" for address in addresses if address)


def edited(text: str, before: str, after: str) -> str:
    """Return a text with the lines that dnet no longer means gone, and new ones added; somebody else's are kept."""
    if text == before:
        return after
    # Not splitlines(): to whoever reads the file, nothing else ends a line.
    lines, old, new = (part.removesuffix("\n").split("\n") if part else [] for part in (text, before, after))
    for line in old:
        if line not in new and line in lines:
            lines.remove(line)
    lines += [line for line in new if line not in old and line not in lines]
    return "".join(f"{line}\n" for line in lines)


def resolv_conf(container: Container, host_text: str, systemd_text: str) -> str:
    """Return the text of /etc/resolv.conf, from the host's and the container's own settings.

    Those that DHCP told the container come before the host's.

    Name servers on the host's loopback mean nothing in a container (mode host excepted): where the host has no others,
    those behind systemd-resolved (`systemd_text`) serve, or else public ones.
    """
    has_ipv6 = any(end.address6 for end in container.endpoints)
    settings = container.settings
    source = host_text
    leases = [item.lease for item in container.attachments if item.lease and item.lease["dns"]]
    servers = list(settings.dns) or [server for lease in leases for server in lease["dns"]]
    if not servers and container.mode == MODE_HOST:
        servers = [words[1] for words in map(str.split, host_text.splitlines()) if words[:1] == ["nameserver"]]
    elif not servers:
        servers = _usable(host_text, has_ipv6=has_ipv6)
        if not servers and systemd_text:
            source, servers = systemd_text, _usable(systemd_text, has_ipv6=has_ipv6)
        if not servers:
            servers = [*FALLBACK_SERVERS, *(FALLBACK_SERVERS6 if has_ipv6 else ())]
    told = [name for lease in leases for name in lease["search"] or filter(None, [lease["domain"]])]
    search = list(settings.dns_search) or told or _search(source)
    options = list(settings.dns_options) or _options(source)
    lines = [_RESOLV_HEAD, *(f"nameserver {server}\n" for server in servers)]
    if search and search != ["."]:
        lines.append(f"search {' '.join(search)}\n")
    if options:
        lines.append(f"options {' '.join(options)}\n")
    body = "".join(lines)
    return f"{body}{_CHECKSUM}{_checksum(body)}\n"


def renewed(text: str, after: str) -> str:
    """Return the resolv.conf that is to be in the place of one, which stays where somebody has edited it."""
    return after if is_untouched(text) else text


def is_untouched(text: str) -> bool:
    """Whether a resolv.conf is still as dnet made it: its last line is the checksum of what is before."""
    body, mark, checksum = text.rpartition(_CHECKSUM)
    return bool(mark) and checksum.strip() == _checksum(body)


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode(errors='surrogateescape')):08x}"


@lru_cache(maxsize=16)
def _usable(text: str, *, has_ipv6: bool) -> list[str]:
    """Return the name servers that a container can reach: none on loopback, IPv6 ones only with IPv6."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver" and _is_reachable(words[1], has_ipv6=has_ipv6):
            found.append(words[1])
    return found


def _is_reachable(text: str, *, has_ipv6: bool) -> bool:
    try:
        address: IPAddress = ip_address(text)
    except ValueError:
        return False
    return not address.is_loopback and (address.version == 4 or has_ipv6)


@lru_cache(maxsize=16)
def _search(text: str) -> list[str]:
    """Return the search domains: those of the last line of `search` or `domain` (resolv.conf(5))."""
    found: Sequence[str] = ()
    for line in text.splitlines():
        words = line.split()
        if words and words[0] in {"search", "domain"}:
            found = words[1:]
    return list(found)


@lru_cache(maxsize=16)
def _options(text: str) -> list[str]:
    """Return the words of all lines of options, which add up."""
    lines = [line.split() for line in text.splitlines()]
    return [word for words in lines if words[:1] == ["options"] for word in words[1:]]
