"""The commands attach and detach, and the command group `attachment`."""

from __future__ import annotations

from typing import Any

import click

from dnet import cli
from dnet.cli import Session, options, render
from dnet.model import attachment_spec


@click.command(cls=cli.Command)
@click.argument("targets", metavar="TARGET...", nargs=-1, required=True)
@cli.option("--network", default="", metavar="NET", help="Attach to a network of dnet's.")
@cli.option(
    "--bridge",
    default="",
    metavar="DEVICE",
    help="Attach to a bridge of the host or of Open vSwitch; br... is created if missing.",
)
@cli.option("--macvlan", default="", metavar="DEVICE", help="Create a macvlan on this interface of the host.")
@cli.option("--direct", default="", metavar="DEVICE", help="Move this interface of the host; detach returns it.")
@cli.option("--mode", default="", metavar="MODE", help="Mode of a macvlan: bridge, private, vepa, passthru.")
@options.interface_option
@cli.option("--ip", "addresses", multiple=True, metavar="CIDR[@GATEWAY]", help="Address, 0/0 for none; repeatable.")
@cli.option("--ip6", "addresses6", multiple=True, metavar="CIDR[@GATEWAY]", help="As --ip, which takes both families.")
@cli.option("--gateway", "gateways", multiple=True, metavar="IP", help="Set the default route to this address.")
@cli.option("--default-route", is_flag=True, help="Set the default route through the network.")
@cli.option("--dhcp", is_flag=True, help="Get an address by DHCP.")
@cli.option("--hostname", default="", metavar="NAME", help="Tell the DHCP server this name [default: the container's].")
@cli.option("--mac-address", "mac", default="", metavar="MAC", help="MAC, or U: and a string that it is made from.")
@cli.option("--mtu", type=int, default=0, metavar="BYTES", help="MTU of the interface [default: the device's].")
@options.vlan_options
@options.alias_option
@options.json_option
@options.progress_option
@click.pass_obj
def attach(
    session: Session,
    /,
    targets: tuple[str, ...],
    network: str,
    addresses: tuple[str, ...],
    addresses6: tuple[str, ...],
    aliases: tuple[str, ...],
    *,
    default_route: bool,
    as_json: bool,
    with_progress: bool,
    **given: Any,
) -> None:
    """Attach running containers to a network, or one to a device of the host. Prints the interfaces' names.

    TARGET is a container of dnet, of Docker or Podman (name or id, perhaps after docker: or podman:), pid:N, or the
    path of a network namespace. It is no error if it is attached already. dnet remembers what it attached to foreign
    containers: after a restart of theirs, `dnet reconcile` or a running `dnet watch` attaches it again. VLANs are for
    networks and for bridges of Open vSwitch.

    \b
    Example:
      dnet attach --network blue docker:web
      dnet attach --bridge br0 --ip 192.168.1.150/24@192.168.1.1 web
      dnet attach --bridge ovs0 --vlan 100 --ip 10.0.0.7/24 docker:web
      dnet attach --macvlan eth1 -i lan0 --ip 10.0.0.5/24 --ip fd00::5/64 pid:4711
    """
    given["addresses"] = [*addresses, *addresses6]
    spec = attachment_spec.read(network, given, aliases=aliases, takes_default=default_route)
    with session.open() as engine, render.progress("attaching", is_wanted=with_progress) as report:
        attached = engine.attach_many(targets, spec, on_progress=report)
    if as_json:
        from dnet.adapters import docker_json

        documents = [docker_json.attached_document(one.container, one.interface, is_new=one.is_new) for one in attached]
        render.document(documents)
        return
    for item in attached:
        click.echo(item.interface.interface)


@click.command(cls=cli.Command)
@click.argument("target")
@cli.option("-i", "--interface", default="", metavar="NAME", help="Detach this interface, if there are several.")
@cli.option("-f", "--force", is_flag=True, help="Detach even if its Open vSwitch does not answer.")
@options.json_option
@click.pass_obj
def detach(session: Session, target: str, interface: str, *, force: bool, as_json: bool) -> None:
    """Remove an attached interface from a container, and restore the default route that it had displaced.

    \b
    Example:
      dnet detach docker:web -i eth1
    """
    with session.open() as engine:
        container = engine.detach(target, interface, force=force)
    if as_json:
        render.document({"detached": [container.name]})


@click.group(cls=cli.Group)
def attachment() -> None:
    """List attached interfaces.

    \b
    Example:
      dnet attachment ls
    """


@attachment.command()
@options.json_option
@click.pass_obj
def ls(session: Session, *, as_json: bool) -> None:
    """List the interfaces that are attached to devices, and all of dnet's interfaces in foreign containers.

    \b
    Example:
      dnet attachment ls --json
    """
    from dnet.adapters import docker_json

    with session.open() as engine:
        rows = [
            docker_json.attached_document(container, item, is_new=None)
            for container in engine.attached()
            for item in docker_json.attached_interfaces(container)
        ]
    columns = ("target", "interface", "kind", "device", "addresses", "mac")
    render.listing(rows, {name.upper(): name for name in columns}, as_json=as_json)
