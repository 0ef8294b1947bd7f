"""attach, detach, attachment ls, route, pipework."""

from __future__ import annotations

from typing import Any

import click

import dnet
from dnet import cli
from dnet.cli import Session, render
from dnet.model import attachment_spec


@click.command(cls=cli.Command)
@click.argument("targets", metavar="TARGET...", nargs=-1, required=True)
@cli.option("--network", default="", metavar="NET", help="A network of dnet's.")
@cli.option(
    "--bridge", default="", metavar="DEVICE", help="A bridge of the host's or Open vSwitch's; br... is made if missing."
)
@cli.option("--macvlan", default="", metavar="DEVICE", help="A macvlan on an interface of the host's.")
@cli.option("--direct", default="", metavar="DEVICE", help="That interface itself, given back by detach.")
@cli.option("--mode", default="", metavar="MODE", help="Of a macvlan: bridge, private, vepa, passthru.")
@cli.option("-i", "--interface", default="", metavar="NAME", help="Name inside [default: the next free ethN].")
@cli.option("--ip", "addresses", multiple=True, metavar="CIDR[@GATEWAY]", help="Repeatable; 0/0 is no address.")
@cli.option("--ip6", "addresses6", multiple=True, metavar="CIDR[@GATEWAY]", help="As --ip, which takes both families.")
@cli.option("--gateway", "gateways", multiple=True, metavar="IP", help="The default route goes there.")
@cli.option("--default-route", is_flag=True, help="The default route goes through the network.")
@cli.option("--dhcp", is_flag=True, help="An address by DHCP.")
@cli.option("--hostname", default="", metavar="NAME", help="Told to the DHCP server [default: the container's].")
@cli.option("--mac-address", default="", metavar="MAC", help="Or U: and a string, for one that is always the same.")
@cli.option("--mtu", type=int, default=0, metavar="BYTES", help="MTU of the interface [default: the device's].")
@cli.option("--vlan", metavar="VID", help="In this VLAN of the network, or of a bridge of Open vSwitch.")
@cli.option("--trunk", metavar="VID,VID-VID", help="In these VLANs, their frames tagged.")
@cli.option("--native", metavar="VID", help="With --trunk: the VLAN of untagged frames.")
@cli.option("--alias", "aliases", multiple=True, metavar="NAME", help="Name on the network; repeatable.")
@render.json_option
@render.progress_option
@click.pass_obj
def attach(
    session: Session,
    /,
    targets: tuple[str, ...],
    network: str,
    addresses: tuple[str, ...],
    addresses6: tuple[str, ...],
    mac_address: str,
    aliases: tuple[str, ...],
    *,
    default_route: bool,
    as_json: bool,
    with_progress: bool,
    **options: Any,
) -> None:
    """Attach running containers to a network, or one to a device of the host's. Prints the interfaces' names.

    TARGET is a container of dnet's, of Docker's or Podman's (name or id, perhaps with docker: or podman: before it),
    pid:N, or the path of a network namespace. The same command twice is no error. What is attached to others'
    containers is remembered: after a restart `dnet reconcile`, or a running `dnet watch`, attaches again.

    \b
    Example:
      dnet attach --network blue docker:web
      dnet attach --bridge br0 --ip 192.168.1.150/24@192.168.1.1 web
      dnet attach --bridge ovs0 --vlan 100 --ip 10.0.0.7/24 docker:web
      dnet attach --macvlan eth1 -i lan0 --ip 10.0.0.5/24 --ip fd00::5/64 pid:4711
    """
    options |= {"addresses": [*addresses, *addresses6], "mac": mac_address}
    wanted = attachment_spec.read(network, options, aliases=aliases, takes_default=default_route)
    with session.open() as engine, render.progress("attaching", is_wanted=with_progress) as report:
        found = engine.attach_many(targets, wanted, on_progress=report)
    if as_json:
        from dnet.adapters import docker_json

        render.document(
            [docker_json.attached_document(item.container, item.interface, is_new=item.is_new) for item in found]
        )
        return
    for item in found:
        click.echo(item.interface.interface)


@click.command(cls=cli.Command)
@click.argument("target")
@cli.option("-i", "--interface", default="", metavar="NAME", help="Which, where several are attached.")
@cli.option("-f", "--force", is_flag=True, help="Also while the Open vSwitch that it is on is gone.")
@render.json_option
@click.pass_obj
def detach(session: Session, target: str, interface: str, *, force: bool, as_json: bool) -> None:
    """Take an interface off a container; a default route whose place it had taken is there again.

    \b
    Example:
      dnet detach docker:web -i eth1
    """
    with session.open() as engine:
        container = engine.detach(target, interface, is_forced=force)
    if as_json:
        render.document({"detached": [container.name]})


@click.group(cls=cli.Group)
def attachment() -> None:
    """List what is attached to containers by hand.

    \b
    Example:
      dnet attachment ls
    """


@attachment.command()
@render.json_option
@click.pass_obj
def ls(session: Session, *, as_json: bool) -> None:
    """List interfaces that were attached to devices, and all that others' containers have.

    \b
    Example:
      dnet attachment ls --json
    """
    from dnet.adapters import docker_json

    with session.open() as engine:
        found = [
            docker_json.attached_document(container, item, is_new=None)
            for container in engine.attached()
            for item in docker_json.attached_interfaces(container)
        ]
    if as_json:
        render.document(found)
        return
    rows = [
        (one["target"], one["interface"], one["kind"], one["device"], ", ".join(one["addresses"]), one["mac"])
        for one in found
    ]
    render.table(("TARGET", "INTERFACE", "KIND", "DEVICE", "ADDRESSES", "MAC"), rows)


@click.group(cls=cli.Group)
def route() -> None:
    """Add, remove and list routes in containers.

    \b
    Example:
      dnet route add web 10.2.0.0/16 via 172.17.0.9
      dnet route ls web
    """


@route.command()
@click.argument("target")
@click.argument("words", metavar="DEST [via GATEWAY] [dev IF] [metric N]", nargs=-1, required=True)
@click.pass_obj
def add(session: Session, target: str, words: tuple[str, ...]) -> None:
    """Add a route in a container. It is kept, and made again when the container is.

    \b
    Example:
      dnet route add web 10.2.0.0/16 via 172.17.0.9 metric 50
      dnet route add docker:web fd00:2::/64 dev eth1
    """
    with session.open() as engine:
        engine.add_route(target, " ".join(words))


@route.command(name="del")
@click.argument("target")
@click.argument("words", metavar="DEST [via GATEWAY] [dev IF] [metric N]", nargs=-1, required=True)
@click.pass_obj
def delete(session: Session, target: str, words: tuple[str, ...]) -> None:
    """Remove a route that `route add` added.

    \b
    Example:
      dnet route del web 10.2.0.0/16
    """
    with session.open() as engine:
        engine.delete_route(target, " ".join(words))


@route.command(name="ls")
@click.argument("target")
@render.json_option
@click.pass_obj
def list_routes(session: Session, target: str, *, as_json: bool) -> None:
    """List the routes in a container; ORIGIN is dnet for those that `route add` added.

    \b
    Example:
      dnet route ls web
    """
    with session.open() as engine:
        found = engine.routes(target)
    if as_json:
        render.document([item._asdict() for item in found])
        return
    header = ("DESTINATION", "GATEWAY", "INTERFACE", "METRIC", "ORIGIN")
    render.table(header, [(one.destination, one.gateway, one.interface, str(one.metric), one.origin) for one in found])


@click.command(cls=cli.Command, context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("words", metavar="ARGUMENT...", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def pipework(session: Session, words: tuple[str, ...]) -> int:
    """Do what pipework does, by its own words.

    \b
      dnet pipework HOSTIF [-i IF] [-l HOSTEND] [-a 4|6] TARGET IP/LEN[@GATEWAY] [MAC][@VLAN]
      dnet pipework HOSTIF ... TARGET dhcp|udhcpc|dhclient|dhcpcd[:OPTIONS] [MAC][@VLAN]
      dnet pipework mac:AA:BB:CC:DD:EE:FF ...
      dnet pipework --direct-phys HOSTIF ...
      dnet pipework --wait [-i IF]
      dnet pipework route|rule|tc TARGET ARGUMENT...

    \b
    Example:
      dnet pipework br0 docker:web 192.168.1.150/24@192.168.1.1
      dnet pipework ovs0 docker:web 192.168.1.151/24 @100
    """
    if words in {(), ("--help",)}:
        click.echo(click.get_current_context().get_help())
        return 0 if words else cli.EXIT_INVALID
    if words[0] == "--wait":
        from dnet.adapters import pipework

        command = pipework.parse(list(words))
        dnet.wait_for_interface(command.interface if isinstance(command, pipework.Wait) else "")
        return 0
    with session.open() as engine:
        return engine.pipework(words)
