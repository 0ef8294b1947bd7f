"""The options that `create` and `bulk-create` share, and how they become a specification."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from dnet import cli
from dnet.cli import F
from dnet.errors import InvalidRequest

_SHARED = (
    cli.option(
        "--network",
        "networks",
        multiple=True,
        default=("bridge",),
        metavar="MODE",
        help="bridge, host, none, container:NAME, or a network's name, repeatable [default: bridge].",
    ),
    cli.option(
        "-p",
        "--publish",
        multiple=True,
        metavar="SPEC",
        help="[ip:][hostPort[-end]:]containerPort[-end][/tcp|udp|sctp]; repeatable.",
    ),
    cli.option("-P", "--publish-all", is_flag=True, help="Publish every exposed port on an automatic host port."),
    cli.option("--expose", multiple=True, metavar="PORT[-end][/PROTO]", help="Expose a port; repeatable."),
    cli.option("-h", "--hostname", default="", metavar="NAME", help="Host name [default: the id's first 12 digits]."),
    cli.option("--domainname", default="", metavar="NAME", help="Domain name."),
    cli.option("--dns", multiple=True, metavar="ADDR", help="Name server [default: the host's]; repeatable."),
    cli.option("--dns-search", multiple=True, metavar="DOMAIN", help="Search domain, '.' for none; repeatable."),
    cli.option("--dns-option", "dns_options", multiple=True, metavar="OPT", help="Resolver option; repeatable."),
    cli.option("--add-host", "add_hosts", multiple=True, metavar="NAME:IP", help="A hosts entry; repeatable."),
    cli.option("--link", "links", multiple=True, metavar="NAME[:ALIAS]", help="Link to a container; repeatable."),
    cli.option("--network-alias", "aliases", multiple=True, metavar="NAME", help="Name on the network; repeatable."),
    cli.option("--vlan", metavar="VID", help="In this VLAN: frames come and leave untagged."),
    cli.option("--trunk", metavar="VID,VID-VID", help="In these VLANs, their frames tagged."),
    cli.option("--native", metavar="VID", help="With --trunk: the VLAN of untagged frames."),
    cli.option("--mtu", type=int, default=0, metavar="BYTES", help="MTU of the interface [default: the network's]."),
    cli.option("--label", "labels", multiple=True, metavar="K=V", help="Label; repeatable."),
)


_ENDPOINT = (
    cli.option("--ip", default="", metavar="ADDR", help="A fixed address of the network's subnet."),
    cli.option("--ip6", default="", metavar="ADDR", help="A fixed IPv6 address."),
    cli.option("--mac-address", default="", metavar="MAC", help="A fixed MAC [default: 02:42 and the address]."),
)
_PROCESS = (
    cli.option("-e", "--env", multiple=True, metavar="K=V", help="Environment variable, K alone: ours; repeatable."),
    cli.option("-w", "--workdir", default="", metavar="DIR", help="Working directory [default: /]."),
    cli.option("-u", "--user", default="", metavar="USER[:GROUP]", help="User [default: root]."),
    cli.option("-i", "--interactive", is_flag=True, help="With our standard input."),
    cli.option("-t", "--tty", is_flag=True, help="With a terminal."),
)
_FIELDS = (
    "publish",
    "publish_all",
    "expose",
    "mtu",
    "hostname",
    "domainname",
    "dns",
    "dns_search",
    "dns_options",
    "add_hosts",
    "links",
    "aliases",
    "vlan",
    "trunk",
    "native",
)


def create_options(function: F) -> F:
    """Add the shared options to a command."""
    for option in reversed(_SHARED):
        function = option(function)
    return function


def endpoint_options(function: F) -> F:
    """Add the options of a single container's first endpoint."""
    for option in reversed(_ENDPOINT):
        function = option(function)
    return function


def endpoint_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those options as fields of a ContainerSpec."""
    return {"ip": options["ip"], "ip6": options["ip6"], "mac": options["mac_address"]}


def process_options(function: F) -> F:
    """Add the options of a process to a command."""
    for option in reversed(_PROCESS):
        function = option(function)
    return function


def process_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return them as keywords of check_process."""
    given = [item if "=" in item else f"{item}={os.environ[item]}" for item in options["env"] if _is_set(item)]
    return {
        "env": key_values(given, "environment variable"),
        "workdir": options["workdir"],
        "user": options["user"],
        "is_interactive": options["interactive"],
        "has_terminal": options["tty"],
    }


def _is_set(item: str) -> bool:
    """Whether `K=V` is complete, or `K` a variable of our own; others are left out, as Docker does."""
    return "=" in item or item in os.environ


def specification(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the shared options as fields of a ContainerSpec."""
    fields = {name: options[name] for name in _FIELDS} | {"network": options["networks"]}
    return fields | {"labels": key_values(options["labels"], "label")}


def key_values(items: Sequence[str], what: str) -> dict[str, str]:
    """Read K=V items; a K alone has an empty value."""
    pairs = {}
    for item in items:
        key, _, value = item.partition("=")
        if not key:
            raise InvalidRequest(f"invalid {what} {item!r}", object=item, hint="write KEY=VALUE")
        pairs[key] = value
    return pairs


def by_family(option: str, texts: Sequence[str]) -> dict[str, str]:
    """Return addresses or subnets under `option` and `option`6, by their family; at most one of each."""
    found: dict[str, str] = {}
    for text in texts:
        key = f"{option}6" if ":" in text else option
        if key in found:
            raise InvalidRequest(f"--{option} is given twice for one family: {found[key]} and {text}", object=text)
        found[key] = text
    return found
