"""Options that several commands share, and the fields of specifications that they become."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dnet import cli
from dnet.cli import F
from dnet.errors import InvalidRequest
from dnet.model.vlan import PortVlans, read_vlans


def _together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Return a decorator that adds options to a command, in this order."""

    def add(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return add


json_option = cli.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
quiet_option = cli.option("-q", "--quiet", is_flag=True, help="Print names only.")
progress_option = cli.option(
    "--progress/--no-progress", "with_progress", default=True, help="Draw a progress bar if stderr is a terminal."
)
format_options = _together(
    cli.option("-f", "--format", "template", default="", metavar="FORMAT", help="Print this, e.g. '{{ .Name }}'."),
    cli.option("--json", "_json", is_flag=True, help="Print JSON (the default)."),
)
vlan_options = _together(
    cli.option("--vlan", metavar="VID", help="Put the port in this VLAN, with untagged frames."),
    cli.option("--trunk", metavar="VID,VID-VID", help="Let the port pass these VLANs, with tagged frames."),
    cli.option("--native", metavar="VID", help="With --trunk: the VLAN of untagged frames."),
)
endpoint_options = _together(
    cli.option("--ip", default="", metavar="ADDR", help="Fixed IPv4 address [default: a free one]."),
    cli.option("--ip6", default="", metavar="ADDR", help="Fixed IPv6 address [default: a free one]."),
    cli.option("--mac-address", "mac", default="", metavar="MAC", help="Fixed MAC [default: 02:42 and the address]."),
)
interface_option = cli.option(
    "-i", "--interface", default="", metavar="NAME", help="Name inside [default: the next free ethN]."
)
alias_option = cli.option("--alias", "aliases", multiple=True, metavar="NAME", help="Name on the network; repeatable.")
create_options = _together(
    cli.option(
        "--network",
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
        help="Publish a port: [ip:][hostPort[-end]:]containerPort[-end][/tcp|udp|sctp]; repeatable.",
    ),
    cli.option("-P", "--publish-all", is_flag=True, help="Publish every exposed port on an automatic host port."),
    cli.option("--expose", multiple=True, metavar="PORT[-end][/PROTO]", help="Expose a port; repeatable."),
    cli.option("-h", "--hostname", default="", metavar="NAME", help="Host name [default: the id's first 12 digits]."),
    cli.option("--domainname", default="", metavar="NAME", help="Domain name."),
    cli.option("--dns", multiple=True, metavar="ADDR", help="Name server [default: the host's]; repeatable."),
    cli.option("--dns-search", multiple=True, metavar="DOMAIN", help="Search domain, '.' for none; repeatable."),
    cli.option("--dns-option", "dns_options", multiple=True, metavar="OPT", help="Resolver option; repeatable."),
    cli.option("--add-host", "add_hosts", multiple=True, metavar="NAME:IP", help="Add a hosts entry; repeatable."),
    cli.option("--link", "links", multiple=True, metavar="NAME[:ALIAS]", help="Link to a container; repeatable."),
    cli.option("--network-alias", "aliases", multiple=True, metavar="NAME", help="Name on the network; repeatable."),
    vlan_options,
    cli.option("--mtu", type=int, default=0, metavar="BYTES", help="MTU of the interface [default: the network's]."),
    cli.option("--label", "labels", multiple=True, metavar="K=V", help="Label; repeatable."),
)
process_options = _together(
    cli.option(
        "-e", "--env", multiple=True, metavar="K[=V]", help="Set a variable, or pass on ours of that name; repeatable."
    ),
    cli.option("-w", "--workdir", default="", metavar="DIR", help="Working directory [default: /]."),
    cli.option("-u", "--user", default="", metavar="USER[:GROUP]", help="User [default: root]."),
    cli.option("-i", "--interactive", "is_interactive", is_flag=True, help="Pass on standard input."),
    cli.option("-t", "--tty", "has_terminal", is_flag=True, help="Give it a terminal."),
)
_PROCESS = ("env", "workdir", "user", "is_interactive", "has_terminal")


def take_vlans(given: dict[str, Any]) -> PortVlans | None:
    """Remove the VLAN options from the given ones and return what they ask for; None if nothing."""
    return read_vlans(**{name: given.pop(name) for name in ("vlan", "trunk", "native")})


def take_process(given: dict[str, Any]) -> dict[str, Any]:
    """Remove the process options from the given ones and return them as keywords of check_process."""
    fields = {name: given.pop(name) for name in _PROCESS}
    # As in Docker, a name that is not in our environment is left out.
    variables = [item if "=" in item else f"{item}={os.environ[item]}" for item in fields["env"] if _is_set(item)]
    return fields | {"env": key_values(variables, "environment variable")}


def _is_set(item: str) -> bool:
    return "=" in item or item in os.environ


def specification(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given create and endpoint options as fields of a ContainerSpec."""
    return {**given, "labels": key_values(given["labels"], "label")}


def key_values(items: Sequence[str], what: str) -> dict[str, str]:
    """Read K=V items; a K alone has an empty value. `what` names an item in errors."""
    pairs = {}
    for item in items:
        key, _, value = item.partition("=")
        if not key:
            raise InvalidRequest(f"invalid {what} {item!r}", object=item, hint="write KEY=VALUE")
        pairs[key] = value
    return pairs


def by_family(option: str, texts: Sequence[str]) -> dict[str, Any]:
    """Return IPv4 and IPv6 texts under `option` and `option`6; raise if there are two of one family."""
    fields: dict[str, Any] = {}
    for text in texts:
        key = f"{option}6" if ":" in text else option
        if key in fields:
            raise InvalidRequest(f"--{option} is given twice for one family: {fields[key]} and {text}", object=text)
        fields[key] = text
    return fields
