"""network create, ls, inspect, rm, prune."""

from __future__ import annotations

import click

import dnet
from dnet import views
from dnet.cli import Session, options, render


@click.group()
def network() -> None:
    """Create, list, inspect and remove networks.

    \b
    Example:
      dnet network create --subnet 10.1.0.0/16 blue
      dnet create --network blue web
    """


@network.command()
@click.argument("name")
@click.option("-d", "--driver", default="bridge", show_default=True, help="bridge.")
@click.option("--subnet", default="", metavar="CIDR", help="[default: the first free one of Docker's pools]")
@click.option("--gateway", default="", metavar="IP", help="The bridge's address [default: the subnet's first].")
@click.option("--ip-range", default="", metavar="CIDR", help="Where automatic addresses come from.")
@click.option("--aux-address", "aux", multiple=True, metavar="K=IP", help="An address to leave alone; repeatable.")
@click.option("--internal", is_flag=True, help="No default route, no masquerading.")
@click.option("--masquerade", type=bool, default=True, metavar="true|false", help="[default: true]")
@click.option("--mtu", type=int, default=0, metavar="BYTES", help="MTU of the bridge and its endpoints.")
@click.option("--label", "labels", multiple=True, metavar="K=V", help="Label; repeatable.")
@click.option("-o", "--opt", "opts", multiple=True, metavar="K=V", help="Driver option by its Docker name; repeatable.")
@render.json_option
@click.pass_obj
def create(
    session: Session,
    name: str,
    driver: str,
    subnet: str,
    gateway: str,
    ip_range: str,
    aux: tuple[str, ...],
    mtu: int,
    labels: tuple[str, ...],
    opts: tuple[str, ...],
    *,
    internal: bool,
    masquerade: bool,
    as_json: bool,
) -> None:
    """Create a network. Prints its id.

    \b
    Driver options (-o): com.docker.network.driver.mtu, com.docker.network.bridge.enable_ip_masquerade

    \b
    Example:
      dnet network create --subnet 10.1.0.0/16 --ip-range 10.1.7.0/24 blue
    """
    spec = dnet.NetworkSpec(
        name=name,
        driver=driver,
        subnet=subnet,
        gateway=gateway,
        ip_range=ip_range,
        aux_addresses=options.key_values(aux, "aux-address"),
        internal=internal,
        masquerade=masquerade,
        mtu=mtu,
        labels=options.key_values(labels, "label"),
        options=options.key_values(opts, "option"),
    )
    with session.open() as engine:
        if session.is_plan:
            render.objects(engine.plan_network(spec), as_json=as_json)
            return
        made = engine.create_network_from(spec)
    if as_json:
        render.document(views.network_document(made, ()))
    else:
        click.echo(made.id)


@network.command()
@click.option("-q", "--quiet", is_flag=True, help="Print ids only.")
@render.json_option
@click.pass_obj
def ls(session: Session, *, quiet: bool, as_json: bool) -> None:
    """List networks, by name."""
    with session.open() as engine:
        networks = engine.networks()
    if as_json:
        render.document([views.brief_network(net) for net in networks])
    elif quiet:
        for net in networks:
            click.echo(net.id[:12])
    else:
        rows = [(net.id[:12], net.name, net.driver, str(net.subnet), net.device) for net in networks]
        render.table(("NETWORK ID", "NAME", "DRIVER", "SUBNET", "DEVICE"), rows)


@network.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("-f", "--format", "template", default="", metavar="FORMAT", help="Such as '{{ .Driver }}'.")
@click.option("--json", "_json", is_flag=True, help="Print JSON, as without it.")
@click.pass_obj
def inspect(session: Session, names: tuple[str, ...], template: str, *, _json: bool) -> None:
    """Show all that is known of networks, as a JSON list with Docker's field names.

    \b
    Example:
      dnet network inspect -f '{{ json .IPAM.Config }}' blue
    """
    if template:
        views.check_template(template)
    with session.open() as engine:
        networks = [engine.network(name) for name in names]
        documents = [views.network_document(net, engine.members(net)) for net in networks]
    if not template:
        render.document(documents)
    for item in documents if template else ():
        click.echo(views.render(template, item))


@network.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.pass_obj
def rm(session: Session, names: tuple[str, ...]) -> None:
    """Remove networks that no container is on: all of them, or none."""
    with session.open() as engine:
        for net in engine.delete_networks(names):
            click.echo(net.name)


@network.command()
@click.option("-f", "--force", "_force", is_flag=True, help="Accepted for Docker's sake; dnet never asks.")
@render.json_option
@click.pass_obj
def prune(session: Session, *, _force: bool, as_json: bool) -> None:
    """Remove every network that no container is on."""
    with session.open() as engine:
        removed = [net.name for net in engine.prune_networks()]
    if as_json:
        render.document({"deleted": removed})
    for name in () if as_json else removed:
        click.echo(name)
