"""The options that `create` and `bulk-create` share, and how they become a specification."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from dnet.errors import InvalidRequest

F = TypeVar("F", bound=Callable[..., Any])

_SHARED = (
    click.option(
        "--network",
        "networks",
        multiple=True,
        default=("bridge",),
        metavar="MODE",
        help="bridge, none, or a network's name [default: bridge].",
    ),
    click.option(
        "-p",
        "--publish",
        multiple=True,
        metavar="SPEC",
        help="[ip:][hostPort[-end]:]containerPort[-end][/tcp|udp|sctp]; repeatable.",
    ),
    click.option("-P", "--publish-all", is_flag=True, help="Publish every exposed port on an automatic host port."),
    click.option("--expose", multiple=True, metavar="PORT[-end][/PROTO]", help="Expose a port; repeatable."),
    click.option("-h", "--hostname", default="", metavar="NAME", help="Host name [default: the id's first 12 digits]."),
    click.option("--domainname", default="", metavar="NAME", help="Domain name."),
    click.option("--dns", multiple=True, metavar="ADDR", help="Name server [default: the host's]; repeatable."),
    click.option("--dns-search", multiple=True, metavar="DOMAIN", help="Search domain, '.' for none; repeatable."),
    click.option("--dns-option", "dns_options", multiple=True, metavar="OPT", help="Resolver option; repeatable."),
    click.option("--add-host", "add_hosts", multiple=True, metavar="NAME:IP", help="A hosts entry; repeatable."),
    click.option("--mtu", type=int, default=0, metavar="BYTES", help="MTU of the interface [default: the network's]."),
    click.option("--label", "labels", multiple=True, metavar="K=V", help="Label; repeatable."),
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
)


def create_options(function: F) -> F:
    """Add the shared options to a command."""
    for option in reversed(_SHARED):
        function = option(function)
    return function


def specification(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the shared options as fields of a ContainerSpec."""
    if len(options["networks"]) > 1:
        raise InvalidRequest("a container is on one network in this version", object=options["networks"][1])
    fields = {name: options[name] for name in _FIELDS} | {"network": options["networks"][0]}
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
