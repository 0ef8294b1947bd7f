"""The texts of a container's files: hosts, hostname, resolv.conf.

They follow Docker's (libnetwork's etchosts and resolvconf packages) where a Docker user would look.
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
    """Return the text of /etc/hosts: localhost, `--add-host`, the container's names at each address, then links."""
    lines = [_LOCAL_HOSTS]
    gateways = [network.gateway for network in networks][:1]
    lines += extra_hosts(container, gateways)
    own, domain = container.settings.hostname, container.settings.domainname
    full = f"{own}.{domain}" if domain else own
    short = full.partition(".")[0]
    names = full if short == full else f"{full} {short}"
    for endpoint in container.endpoints:
        lines += [f"{address.ip}\t{names}\n" for address in (endpoint.address, endpoint.address6) if address]
    return "".join(lines) + linked


def extra_hosts(container: Container, gateways: Sequence[IPAddress]) -> list[str]:
    """Return the lines of `--add-host`; `gateways` are the addresses by which the container reaches the host."""
    lines = []
    for name, address in container.settings.extra_hosts:
        if address != HOST_GATEWAY:
            lines.append(f"{address}\t{name}\n")
        lines += [f"{gateway}\t{name}\n" for gateway in gateways if address == HOST_GATEWAY]
    return lines


def hosts_of_host(container: Container, host_text: str) -> str:
    """Return the text of /etc/hosts in mode host: that of the host, then `--add-host`."""
    line_end = "" if not host_text or host_text.endswith("\n") else "\n"
    return host_text + line_end + "".join(extra_hosts(container, (LOOPBACK,)))


def link_lines(link: Link, child: Container, addresses: Iterable[IPInterface | None]) -> str:
    """Return a link's lines in its parent's hosts: `ADDRESS ALIAS HOSTNAME NAME` for each address of the child."""
    names = " ".join(dict.fromkeys((link.alias, child.settings.hostname, child.name)))
    return "".join(f"{address.ip}\t{names}\n" for address in addresses if address)


def edited(text: str, before: str, after: str) -> str:
    """Return `text` without the lines that only `before` has, and with those that only `after` has; others stay."""
    if text == before:
        return after
    # Not splitlines(): programs that read the file end a line at \n only.
    lines, old, new = (part.removesuffix("\n").split("\n") if part else [] for part in (text, before, after))
    for line in old:
        if line not in new and line in lines:
            lines.remove(line)
    lines += [line for line in new if line not in old and line not in lines]
    return "".join(f"{line}\n" for line in lines)


def resolv_conf(container: Container, host_text: str, systemd_text: str) -> str:
    """Return the text of /etc/resolv.conf: the container's own settings, else those of DHCP, else the host's.

    A container cannot reach name servers on the host's loopback, except in mode host. If the host has no others, those
    of systemd-resolved (`systemd_text`) take their place, and if there are none, public ones.
    """
    has_ipv6 = any(endpoint.address6 for endpoint in container.endpoints)
    settings = container.settings
    source = host_text
    leases = [item.lease for item in container.attachments if item.lease and item.lease["dns"]]
    servers = list(settings.dns) or [server for lease in leases for server in lease["dns"]]
    if not servers and container.mode == MODE_HOST:
        servers = _name_servers(host_text)
    elif not servers:
        servers = _usable(host_text, has_ipv6=has_ipv6)
        if not servers and systemd_text:
            source, servers = systemd_text, _usable(systemd_text, has_ipv6=has_ipv6)
        if not servers:
            servers = [*FALLBACK_SERVERS, *(FALLBACK_SERVERS6 if has_ipv6 else ())]
    leased = [name for lease in leases for name in lease["search"] or filter(None, [lease["domain"]])]
    search = list(settings.dns_search) or leased or _search(source)
    options = list(settings.dns_options) or _options(source)
    lines = [_RESOLV_HEAD, *(f"nameserver {server}\n" for server in servers)]
    if search and search != ["."]:
        lines.append(f"search {' '.join(search)}\n")
    if options:
        lines.append(f"options {' '.join(options)}\n")
    body = "".join(lines)
    return f"{body}{_CHECKSUM}{_checksum(body)}\n"


def renewed(text: str, after: str) -> str:
    """Return the new text of a resolv.conf: `after`, unless somebody has edited it."""
    return after if is_untouched(text) else text


def is_untouched(text: str) -> bool:
    """Whether a resolv.conf is as dnet wrote it: its last line is the checksum of the lines before it."""
    body, separator, checksum = text.rpartition(_CHECKSUM)
    return bool(separator) and checksum.strip() == _checksum(body)


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode(errors='surrogateescape')):08x}"


def _name_servers(text: str) -> list[str]:
    return [words[1] for words in map(str.split, text.splitlines()) if words[:1] == ["nameserver"] and words[1:]]


@lru_cache(maxsize=16)
def _usable(text: str, *, has_ipv6: bool) -> list[str]:
    """Return the name servers that a container can reach: none on the loopback, IPv6 ones only with IPv6."""
    return [server for server in _name_servers(text) if _is_reachable(server, has_ipv6=has_ipv6)]


def _is_reachable(text: str, *, has_ipv6: bool) -> bool:
    try:
        address: IPAddress = ip_address(text)
    except ValueError:
        return False
    return not address.is_loopback and (address.version == 4 or has_ipv6)


@lru_cache(maxsize=16)
def _search(text: str) -> list[str]:
    """Return the search domains: those of the last line `search` or `domain` (resolv.conf(5))."""
    lines = [words[1:] for words in map(str.split, text.splitlines()) if words and words[0] in {"search", "domain"}]
    return lines[-1] if lines else []


@lru_cache(maxsize=16)
def _options(text: str) -> list[str]:
    """Return the words of all lines `options`; resolvers add them up."""
    lines = map(str.split, text.splitlines())
    return [word for words in lines if words[:1] == ["options"] for word in words[1:]]
