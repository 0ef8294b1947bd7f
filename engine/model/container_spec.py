"""Specifications of containers and endpoints, read and checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, Required, TypedDict, Unpack

from dnet.errors import InvalidRequest
from dnet.model.container import MODE_CONTAINER, MODE_HOST, MODE_NONE, Process, Settings, shared_id
from dnet.model.network import DEFAULT_NETWORK
from dnet.model.parse import (
    check_domain,
    check_hostname,
    check_interface,
    check_mac,
    check_mtu,
    check_name,
    check_word,
    copied,
    each,
    listed,
    parse_address,
    parse_extra_host,
    read_integer,
    take,
)
from dnet.model.published_port import Publish, parse_expose, parse_publish
from dnet.model.values import Value, fill, frozen, optional, reads, replace
from dnet.model.vlan import PortVlans, read_vlans

PRIORITY_MAX = (1 << 31) - 1
USER_PATTERN = re.compile(r"[^:\s]+(:[^:\s]+)?\Z")
INTERFACE_OPTION = "com.docker.network.endpoint.ifname"


def check_process(
    args: Iterable[str],
    *,
    env: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    workdir: str = "",
    user: str = "",
    rootfs: str = "",
    is_read_only: bool = False,
    has_terminal: bool = False,
    is_interactive: bool = False,
    removes_itself: bool = False,
) -> Process:
    """Return the Process for a command; raise InvalidRequest for what no program can be given.

    args: the program and its arguments
    env: variables by name; of one given twice the last counts
    workdir: absolute path inside the container; empty, `/`
    user: USER or USER:GROUP, names or numbers of the container; empty, root
    rootfs: absolute path of the root directory; empty, the host's files with a layer of its own for writing
    is_read_only: whether the root directory cannot be written to
    has_terminal: whether the process gets a pseudo-terminal
    is_interactive: whether it reads the caller's standard input
    removes_itself: whether the container is removed when it ends
    """
    words, variables = tuple(args), tuple(dict(env).items())
    if not words or not words[0]:
        raise InvalidRequest("there is no command to run", hint="give one, as in `dnet run python3 -m http.server`")
    for key, _ in variables:
        if not key or "=" in key:
            raise InvalidRequest(f"invalid environment variable {key!r}", object=key, hint="write NAME=VALUE")
    for text in (*words, workdir, user, rootfs, *(part for pair in variables for part in pair)):
        if "\0" in text:
            raise InvalidRequest(f"{text!r} contains a zero byte, which no program can be given", object=text)
    for text, what in ((workdir, "working directory"), (rootfs, "root directory")):
        if text and not text.startswith("/"):
            raise InvalidRequest(f"the {what} {text} is not an absolute path", object=text, hint="begin it with '/'")
    if user and not USER_PATTERN.match(user):
        hint = "write USER or USER:GROUP, names or numbers"
        raise InvalidRequest(f"invalid user {user!r}", object=user, hint=hint)
    return Process(
        args=words,
        env=variables,
        workdir=workdir,
        user=user,
        rootfs=rootfs,
        is_read_only=is_read_only,
        has_terminal=has_terminal,
        is_interactive=is_interactive,
        removes_itself=removes_itself,
    )


if TYPE_CHECKING:  # making one takes 0.2 ms

    class EndpointOptions(TypedDict, total=False):
        """Keywords of EndpointSpec."""

        network: Required[str]
        ip: str | IPv4Address | None
        ip6: str | IPv6Address | None
        mac: str
        aliases: Iterable[str]
        interface: str
        gateway_priority: int
        vlans: PortVlans | None

    class ContainerOptions(TypedDict, total=False):
        """Keywords of ContainerSpec, and of Engine.create, besides name and network."""

        ip: str | IPv4Address | None
        ip6: str | IPv6Address | None
        mac: str
        aliases: Iterable[str]
        vlan: str | int | None
        trunk: str | None
        native: str | int | None
        mtu: int
        publish: Iterable[str | Publish]
        publish_all: bool
        expose: Iterable[str | int]
        hostname: str
        domainname: str
        dns: Iterable[str]
        dns_search: Iterable[str]
        dns_options: Iterable[str]
        add_hosts: Iterable[str]
        links: Iterable[str]
        process: Process | None
        labels: Mapping[str, str] | None


def _read_priority(priority: int) -> int:
    if not isinstance(priority, int) or not -PRIORITY_MAX <= priority <= PRIORITY_MAX:
        hint = f"use a number from {-PRIORITY_MAX} to {PRIORITY_MAX}"
        raise InvalidRequest(f"invalid gateway priority {priority!r}", object="gateway priority", hint=hint)
    return priority


@frozen(kw_only=True)
class EndpointSpec(Value):
    """What is asked of a container's endpoint on one network. Text is read and checked here, unset fields are chosen.

    network: name of a network; `default` is the network `bridge`
    ip, ip6: addresses in the network's subnets, without prefix length
    mac: unicast MAC address, in hexadecimal with colons or dashes
    aliases: names under which others on the network find the container; not on the network `bridge`
    interface: name inside the container, at most 15 characters
    gateway_priority: the default route goes through the network of the highest; from -2147483647 to 2147483647
    vlans: VLANs of the port, on a network with VLANs
    """

    network: str = reads(lambda name: check_name(DEFAULT_NETWORK if name == "default" else name, "network"))
    ip: IPv4Address | None = optional(lambda text: parse_address(text, "address", IPv4Address), None)
    ip6: IPv6Address | None = optional(lambda text: parse_address(text, "IPv6 address", IPv6Address), None)
    mac: str = optional(check_mac, "")
    aliases: tuple[str, ...] = reads(lambda names: tuple(dict.fromkeys(map(check_domain, listed(names)))), ())
    interface: str = optional(check_interface, "")
    gateway_priority: int = reads(_read_priority, 0)
    vlans: PortVlans | None = None

    def __init__(self, **options: Unpack[EndpointOptions]) -> None:
        fill(self, options)
        if self.aliases and self.network == DEFAULT_NETWORK:
            hint = "aliases are for networks of the user's own: `dnet network create`"
            raise InvalidRequest(f"network {self.network} has no aliases", object=self.aliases[0], hint=hint)


def parse_endpoint(text: str) -> EndpointSpec:
    """Read a `--network`: a name, or Docker's long form `name=blue,ip=10.1.0.5,alias=web,gw-priority=1`."""
    if "=" not in text:
        return EndpointSpec(network=text)
    fields: dict[str, Any] = {}
    vlans: dict[str, str] = {}
    keys = {"name": "network", "ip": "ip", "ip6": "ip6", "mac-address": "mac", "gw-priority": "gateway_priority"}
    for item in text.split(","):
        key, _, value = item.partition("=")
        if key == "alias":
            fields.setdefault("aliases", []).append(value)
        elif key == "driver-opt" and value.startswith(f"{INTERFACE_OPTION}="):
            fields["interface"] = value.partition("=")[2]
        elif key in {"vlan", "trunk", "native"}:
            vlans[key] = value
        elif key in keys:
            fields[keys[key]] = read_integer(value, key) if key == "gw-priority" else value
        else:
            known = ", ".join([*keys, "alias", "vlan", "trunk", "native", f"driver-opt={INTERFACE_OPTION}=NAME"])
            raise InvalidRequest(f"--network has no field {key!r}", object=text, hint=f"known: {known}")
    if not fields.get("network"):
        raise InvalidRequest(f"--network {text!r} names no network", object=text, hint="add name=NETWORK")
    return EndpointSpec(**fields, vlans=read_vlans(**vlans))


def parse_link(text: str) -> tuple[str, str]:
    """Read a `--link`: NAME[:ALIAS], where the alias is the name if not given."""
    name, colon, alias = text.partition(":")
    if not name or (colon and not alias):
        raise InvalidRequest(f"invalid --link {text!r}", object=text, hint="write NAME or NAME:ALIAS")
    return check_name(name, "container"), check_domain(alias or name)


@frozen(kw_only=True)
class ContainerSpec(Value):
    """What is asked of one container. Text is read and checked here, unset fields are chosen by the engine.

    Keywords, of which InvalidRequest says what is wrong:

    name: at most 128 letters, digits, `_`, `.` and `-`
    network: a mode (`host`, `none`, `container:NAME`), a network's name, Docker's long form `name=blue,ip=10.1.0.5`,
        an EndpointSpec, or several of the last three
    ip, ip6, mac, aliases: of the first endpoint, as in EndpointSpec
    vlan: VLAN of the first endpoint's port, 1 to 4094; or `trunk` (`100,200-210`), and perhaps its untagged `native`
    mtu: bytes, 68 to 65535; 0 is the network's
    publish: published ports in the grammar of Docker's `-p`, `[ip:][hostPort[-end]:]containerPort[-end][/protocol]`
    publish_all: whether exposed ports are published, on host ports that the engine chooses
    expose: ports as in Docker's `--expose`, `PORT[-end][/protocol]`
    hostname, domainname: at most 64 and 253 characters; the hostname is the name if unset
    dns, dns_search, dns_options: addresses of servers, domains and options of resolv.conf, in place of the host's
    add_hosts: lines of the hosts file, `NAME:ADDRESS`; the address may be `host-gateway`
    links: `NAME[:ALIAS]` of other containers, as Docker's `--link`
    process: what Engine.run shall start; made by `check_process`
    labels: any text by any key
    """

    name: str = optional(lambda name: check_name(name, "container"), "")
    mode: str
    endpoints: tuple[EndpointSpec, ...]
    mtu: int = reads(check_mtu, 0)
    publish: tuple[Publish, ...] = reads(each(lambda item: parse_publish(item) if isinstance(item, str) else item), ())
    publish_all: bool = False
    expose: tuple[tuple[int, str], ...] = reads(
        lambda items: tuple(pair for item in listed(items) for pair in parse_expose(str(item))), ()
    )
    settings: Settings
    links: tuple[tuple[str, str], ...] = reads(each(parse_link), ())
    process: Process | None = None
    labels: Mapping[str, str] = reads(copied, None)

    def __init__(
        self,
        *,
        name: str = "",
        network: str | EndpointSpec | Iterable[str | EndpointSpec] = DEFAULT_NETWORK,
        **options: Unpack[ContainerOptions],
    ) -> None:
        given: dict[str, Any] = {"name": name, **options}
        vlans = read_vlans(**take(given, "vlan", "trunk", "native"))
        first = take(given, "ip", "ip6", "mac") | {"aliases": tuple(listed(given.pop("aliases", ()))), "vlans": vlans}
        mode, endpoints = _read_networks(network, {key: value for key, value in first.items() if value})
        hosts = take(given, "hostname", "domainname", "dns", "dns_search", "dns_options", "add_hosts")
        fill(self, {"mode": mode, "endpoints": endpoints, "settings": _read_settings(**hosts), **given})
        self._check_mode()
        self._check_links(self.name)

    def named(self, name: str) -> ContainerSpec:
        """Return the same for a container of another name; only the name is checked again."""
        self._check_links(name)
        return replace(self, name=check_name(name, "container"))

    def _check_mode(self) -> None:
        """Refuse options that make no sense in a mode, as Docker does; `-p` in modes host and none is only useless."""
        settings = self.settings
        given = {
            "--link": bool(self.links) and self.mode in {MODE_HOST, MODE_NONE},
            "--mtu": bool(self.mtu) and not self.endpoints,
        }
        if self.shares:
            given = {
                "-p": bool(self.publish) or self.publish_all,
                "--expose": bool(self.expose),
                "--hostname": bool(settings.hostname or settings.domainname),
                "--dns": bool(settings.dns or settings.dns_search or settings.dns_options),
                "--add-host": bool(settings.extra_hosts),
                "--link": bool(self.links),
                "--mtu": bool(self.mtu),
            }
        for option, is_given in given.items():
            if is_given:
                why = "which has them from the other container" if self.shares else "which has no network of its own"
                raise InvalidRequest(
                    f"conflicting options: {option} and the network mode {self.mode}, {why}",
                    object=option,
                    hint=f"leave {option} out, or choose another --network",
                )

    def _check_links(self, own: str) -> None:
        aliases = [alias for _, alias in self.links]
        for name, alias in self.links:
            if name == own:
                raise InvalidRequest(f"container {name} cannot be linked to itself", object=name)
            if aliases.count(alias) > 1:
                hint = "give each link an alias of its own: --link NAME:ALIAS"
                raise InvalidRequest(f"link alias {alias} is given twice", object=alias, hint=hint)

    @property
    def exposed(self) -> tuple[tuple[int, str], ...]:
        """Exposed ports as (port, protocol), published ones included, in order."""
        pairs = {(port, item.protocol) for item in self.publish for port in item.container_ports}
        return tuple(sorted(pairs | set(self.expose)))

    @property
    def shares(self) -> str:
        """Name or id of the container whose sandbox it shares, in mode `container:NAME`; else empty."""
        return shared_id(self.mode)


def _read_settings(
    hostname: str = "",
    domainname: str = "",
    dns: Iterable[str] = (),
    dns_search: Iterable[str] = (),
    dns_options: Iterable[str] = (),
    add_hosts: Iterable[str] = (),
) -> Settings:
    return Settings(
        hostname=check_hostname(hostname) if hostname else "",
        domainname=check_domain(domainname) if domainname else "",
        dns=tuple(str(parse_address(item, "DNS server")) for item in listed(dns)),
        dns_search=tuple(item if item == "." else check_domain(item) for item in listed(dns_search)),
        dns_options=tuple(check_word(item, "resolver option") for item in listed(dns_options)),
        extra_hosts=tuple(parse_extra_host(item) for item in listed(add_hosts)),
    )


def _read_networks(
    given: str | EndpointSpec | Iterable[str | EndpointSpec], first: Mapping[str, Any]
) -> tuple[str, tuple[EndpointSpec, ...]]:
    """Return the mode and the endpoints; `first` are options of the first endpoint."""
    items: Sequence[str | EndpointSpec] = [given] if isinstance(given, (str, EndpointSpec)) else list(given)
    items = items or [DEFAULT_NETWORK]
    modes = [item for item in items if isinstance(item, str) and _is_mode(item)]
    if modes and len(items) > 1:
        hint = "a container has one of the modes host, none and container:NAME, or networks"
        raise InvalidRequest(f"conflicting options: network mode {modes[0]} beside others", object=modes[0], hint=hint)
    if modes:
        if first:
            options = {"mac": "--mac-address", "aliases": "--network-alias", "vlans": "--vlan"}
            option = options.get(next(iter(first)), "--ip")
            raise InvalidRequest(
                f"conflicting options: {option} and the network mode {modes[0]}, which has no endpoint of its own",
                object=modes[0],
                hint=f"leave {option} out, or choose another --network",
            )
        if modes[0].startswith(MODE_CONTAINER):
            check_name(modes[0].removeprefix(MODE_CONTAINER), "container")
        return modes[0], ()
    endpoints = [parse_endpoint(item) if isinstance(item, str) else item for item in items]
    names = [endpoint.network for endpoint in endpoints]
    for name in names:
        if names.count(name) > 1:
            raise InvalidRequest(f"network {name} is given twice", object=name, hint="a container joins a network once")
    if first:
        endpoints[0] = _with(endpoints[0], first)
    return endpoints[0].network, tuple(endpoints)


def _is_mode(text: str) -> bool:
    return text in {MODE_HOST, MODE_NONE} or text.startswith(MODE_CONTAINER)


def _with(endpoint: EndpointSpec, options: Mapping[str, Any]) -> EndpointSpec:
    fields: dict[str, Any] = dict(vars(endpoint))
    for key, value in options.items():
        if fields[key]:
            raise InvalidRequest(f"{key} of network {endpoint.network} is given twice", object=endpoint.network)
        fields[key] = value
    return EndpointSpec(**fields)
