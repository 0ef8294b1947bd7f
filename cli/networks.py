"""The command group `network`."""

from __future__ import annotations

import os
import select
import sys
import time
from typing import Any

import click

import dnet
from dnet import cli
from dnet.cli import EXIT_INTERRUPTED, Session, options, render, say
from dnet.model.network_spec import DRIVER_OPTIONS


@click.group(cls=cli.Group)
def network() -> None:
    """Create, list, inspect and remove networks.

    \b
    Example:
      dnet network create --subnet 10.1.0.0/16 blue
      dnet create --network blue web
    """


@network.command()
@click.argument("name")
@cli.option("-d", "--driver", default="bridge", show_default=True, help="bridge, or ovs for Open vSwitch.")
@cli.option(
    "--subnet", "subnets", multiple=True, metavar="CIDR", help="Subnet, one of each family [default: a free one]."
)
@cli.option("--gateway", "gateways", multiple=True, metavar="IP", help="Address of the bridge [default: the first].")
@cli.option("--ip-range", default="", metavar="CIDR", help="Choose IPv4 addresses from this range.")
@cli.option("--aux-address", "aux", multiple=True, metavar="K=IP", help="Never give out this address; repeatable.")
@cli.option("--ipv6", is_flag=True, help="Use IPv6, too, in a unique local subnet unless --subnet gives one.")
@cli.option("--internal", is_flag=True, help="Allow no traffic to or from the outside.")
@cli.option(
    "--icc", type=bool, default=True, metavar="true|false", help="Let containers talk to each other [default: true]."
)
@cli.option(
    "--masquerade",
    type=bool,
    default=True,
    metavar="true|false",
    help="Hide behind the host's address; false: routed [default: true].",
)
@cli.option("--host-binding", default="", metavar="IP", help="Publish ports on this address [default: on all].")
@cli.option("--vlan", metavar="VID", help="Separate VLANs; this one is the gateway's and the default.")
@cli.option("--mtu", type=int, default=0, metavar="BYTES", help="MTU of the bridge and its endpoints.")
@cli.option("--bridge", default="", metavar="DEVICE", help="Use this bridge if it exists, else create it.")
@cli.option(
    "--ovsdb", metavar="ADDRESS", envvar="DNET_OVSDB", help="Open vSwitch: unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT."
)
@cli.option("--label", "labels", multiple=True, metavar="K=V", help="Label; repeatable.")
@cli.option("-o", "--opt", "opts", multiple=True, metavar="K=V", help="Driver option by its Docker name; repeatable.")
@options.json_option
@click.pass_obj
def create(
    session: Session,
    /,
    name: str,
    subnets: tuple[str, ...],
    gateways: tuple[str, ...],
    aux: tuple[str, ...],
    ovsdb: str | None,
    labels: tuple[str, ...],
    opts: tuple[str, ...],
    *,
    as_json: bool,
    **given: Any,
) -> None:
    """Create a network. Prints its id.

    A --bridge that exists is used unchanged, and stays when the network is removed. Its address becomes gateway and
    subnet; --gateway chooses among several. Leave room for others on it with --ip-range and --aux-address.

    \b
    Driver options (-o):
      com.docker.network.bridge.name                    as --bridge
      com.docker.network.driver.mtu                     as --mtu
      com.docker.network.bridge.enable_icc              as --icc
      com.docker.network.bridge.enable_ip_masquerade    as --masquerade
      com.docker.network.bridge.host_binding_ipv4       as --host-binding
      com.docker.network.host_ipv4, host_ipv6           source address outside, instead of masquerading
      vlan_backend=bpf|bridge|ovs                       what separates VLANs [default: the best that this host has]
      datapath_type=netdev|system                       with -d ovs [default: system where the kernel has it]
      ovsdb=ADDRESS                                     as --ovsdb [default: DNET_OVSDB, else this host's socket]
      ovsdb_private_key, ovsdb_certificate, ovsdb_ca_certificate=FILE       for an ssl address

    \b
    Example:
      dnet network create --subnet 10.1.0.0/16 --ip-range 10.1.7.0/24 blue
      dnet network create --ipv6 --icc=false green
      dnet network create --bridge br0 --ip-range 192.0.2.128/25 lan
      dnet network create -d ovs -o datapath_type=netdev --vlan 100 lab
    """
    spec = dnet.NetworkSpec(
        name=name,
        **options.by_family("subnet", subnets),
        **options.by_family("gateway", gateways),
        aux_addresses=options.key_values(aux, "aux-address"),
        labels=options.key_values(labels, "label"),
        options=_with_database(options.key_values(opts, "option"), given["driver"], ovsdb),
        **given,
    )
    with session.open() as engine:
        if session.is_plan:
            render.objects(engine.plan_network(spec), as_json=as_json)
            return
        made = engine.create_network(spec)
    if as_json:
        from dnet.adapters import docker_json

        render.document(docker_json.network_document(made, ()))
    else:
        click.echo(made.id)


def _with_database(opts: dict[str, str], driver: str, ovsdb: str | None) -> dict[str, str]:
    """Return driver options with the database's address; one from the environment is only used where it applies."""
    source = click.get_current_context().get_parameter_source("ovsdb")
    is_typed = source is click.core.ParameterSource.COMMANDLINE
    if not ovsdb or (not is_typed and ("ovsdb" not in DRIVER_OPTIONS.get(driver, ()) or "ovsdb" in opts)):
        return opts
    if "ovsdb" in opts:
        raise dnet.InvalidRequest("the database's address is given twice", object=ovsdb, hint="--ovsdb is -o ovsdb=")
    return opts | {"ovsdb": ovsdb}


@network.command()
@cli.option("-q", "--quiet", is_flag=True, help="Print ids only.")
@options.json_option
@click.pass_obj
def ls(session: Session, *, quiet: bool, as_json: bool) -> None:
    """List networks, by name.

    \b
    Example:
      dnet network ls --json
    """
    with session.open() as engine:
        networks = engine.networks()
    if as_json:
        from dnet.adapters import docker_json

        render.document([docker_json.brief_network(net) for net in networks])
    elif quiet:
        for net in networks:
            click.echo(net.id[:12])
    else:
        rows = [(net.id[:12], net.name, net.driver, str(net.subnet), net.device) for net in networks]
        render.table(("NETWORK ID", "NAME", "DRIVER", "SUBNET", "DEVICE"), rows)


@network.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@options.format_options
@click.pass_obj
def inspect(session: Session, names: tuple[str, ...], template: str, *, _json: bool) -> None:
    """Show everything about networks, as a JSON list with Docker's field names.

    \b
    Example:
      dnet network inspect -f '{{ json .IPAM.Config }}' blue
    """
    from dnet.adapters import docker_json

    if template:
        docker_json.check_template(template)
    with session.open() as engine:
        networks = [engine.network(name) for name in names]
        documents = [docker_json.network_document(net, engine.members(net)) for net in networks]
    render.inspection(documents, template)


@network.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@cli.option("-f", "--force", is_flag=True, help="Remove even if Open vSwitch does not answer; ignore missing ones.")
@options.json_option
@click.pass_obj
def rm(session: Session, names: tuple[str, ...], *, force: bool, as_json: bool) -> None:
    """Remove networks that no container is on: all of them, or none.

    \b
    Example:
      dnet network rm blue green
    """
    with session.open() as engine:
        removed = [net.name for net in engine.delete_networks(names, force=force)]
    render.names("deleted", removed, as_json=as_json)


@network.command()
@cli.option("-f", "--force", is_flag=True, help="Remove even if Open vSwitch does not answer.")
@options.json_option
@click.pass_obj
def prune(session: Session, *, force: bool, as_json: bool) -> None:
    """Remove every network that no container is on.

    \b
    Example:
      dnet network prune
    """
    with session.open() as engine:
        removed = [net.name for net in engine.prune_networks(force=force)]
    render.names("deleted", removed, as_json=as_json)


@network.command()
@click.argument("network_name", metavar="NETWORK")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@options.endpoint_options
@options.alias_option
@cli.option("--gw-priority", "gateway_priority", type=int, default=0, metavar="N", help="Default route: highest wins.")
@options.interface_option
@options.vlan_options
@options.json_option
@options.progress_option
@click.pass_obj
def connect(
    session: Session, /, network_name: str, names: tuple[str, ...], *, as_json: bool, with_progress: bool, **given: Any
) -> None:
    """Connect containers to one more network: all of them, or none. Running processes see the interface at once.

    \b
    Example:
      dnet network connect --ip 10.1.0.9 blue web
      dnet network connect blue $(dnet ps -q)
    """
    endpoint = dnet.EndpointSpec(network=network_name, vlans=options.take_vlans(given), **given)
    with session.open() as engine, render.progress("connecting", is_wanted=with_progress) as report:
        joined = [container.name for container in engine.connect(names, endpoint, on_progress=report)]
    if as_json:
        render.document({"connected": joined})


@network.command()
@click.argument("network_name", metavar="NETWORK")
@click.argument("name", metavar="NAME")
@cli.option("-f", "--force", is_flag=True, help="Disconnect even if Open vSwitch does not answer.")
@options.json_option
@click.pass_obj
def disconnect(session: Session, network_name: str, name: str, *, force: bool, as_json: bool) -> None:
    """Disconnect a container from a network.

    \b
    Example:
      dnet network disconnect blue web
    """
    with session.open() as engine:
        container = engine.disconnect(name, network_name, force=force)
    if as_json:
        render.document({"disconnected": [container.name]})


@network.command()
@click.argument("network_name", metavar="NETWORK")
@click.argument("interface", metavar="INTERFACE")
@options.vlan_options
@cli.option("--undo", is_flag=True, help="Restore the interface to what it was.")
@cli.option("--dry-run", is_flag=True, help="Only print what would be done, one object a line.")
@cli.option("--confirm", "seconds", type=click.FloatRange(min=0.1), metavar="SECONDS", help="Undo unless confirmed.")
@cli.option("-y", "--yes", is_flag=True, help="Do not ask, even if this host may be cut off.")
@options.json_option
@click.pass_obj
def adopt(
    session: Session,
    /,
    network_name: str,
    interface: str,
    seconds: float | None,
    *,
    undo: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Make an interface of the host a port of a network's bridge, so that its containers are on that LAN.

    The interface's addresses, routes and MAC address move to the bridge in one batch; open connections survive. With
    --confirm, everything is undone after so many seconds, or when this command or its terminal is gone, unless Enter is
    pressed before. `dnet restore` adopts again after a reboot.

    On a network with VLANs the interface becomes a trunk of all VLANs, with the network's own untagged, unless --vlan
    or --trunk says otherwise. Adopt it again to change its VLANs; --confirm is for the first time only.

    \b
    Example:
      dnet network adopt --dry-run lan eth1
      dnet network adopt --confirm 60 lan eth1
      dnet network adopt --trunk 101,102 --native 1 lan eth2
      dnet network adopt --undo lan eth1
    """
    vlans = options.take_vlans(given)
    if undo and vlans:
        raise dnet.InvalidRequest(
            "an interface that is given back is in no VLAN", object=interface, hint="leave it out"
        )
    with session.open() as engine:
        if dry_run or session.is_plan:
            if undo:
                objects = engine.plan_release(network_name, interface)
            else:
                objects = engine.plan_adoption(network_name, interface, vlans)
            render.objects(objects, as_json=as_json)
            return 0
        if undo:
            changed = engine.release(network_name, interface)
        else:
            changed = engine.adopt(
                network_name,
                interface,
                vlans=vlans,
                assume_yes=yes,
                ask=_ask if sys.stdin.isatty() else None,
                confirm_within_s=seconds or 0.0,
                confirm=_is_confirmed,
            )
    if as_json:
        render.document({"network": changed.name, "uplinks": [str(item) for item in changed.uplinks]})
    if not undo and interface not in map(str, changed.uplinks):
        say(f"nobody confirmed it: {interface} has back what it had")
        return EXIT_INTERRUPTED
    return 0


def _ask(question: str) -> bool:
    return click.confirm(question, err=True)


def _is_confirmed(within_s: float) -> bool:
    """Whether Enter is pressed in time. The end of standard input does not count."""
    deadline = time.monotonic() + within_s
    say(f"done; press Enter within {within_s:g} s to keep it")
    sources = [sys.stdin.fileno()]
    while (left := deadline - time.monotonic()) > 0:
        readable, _, _ = select.select(sources, [], [], left)
        if readable:
            typed = os.read(sources[0], 1024)
            if b"\n" in typed:
                return True
            sources = sources if typed else []
    return False
