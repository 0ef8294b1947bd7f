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
@click.option("--subnet", "subnets", multiple=True, metavar="CIDR", help="One of each family [default: a free one].")
@click.option("--gateway", "gateways", multiple=True, metavar="IP", help="The bridge's address [default: the first].")
@click.option("--ip-range", default="", metavar="CIDR", help="Where automatic IPv4 addresses come from.")
@click.option("--aux-address", "aux", multiple=True, metavar="K=IP", help="An address to leave alone; repeatable.")
@click.option("--ipv6", is_flag=True, help="IPv6 too, of a unique local subnet unless --subnet gives one.")
@click.option("--internal", is_flag=True, help="No way to the outside.")
@click.option("--icc", type=bool, default=True, metavar="true|false", help="May containers talk? [default: true]")
@click.option("--masquerade", type=bool, default=True, metavar="true|false", help="false: routed [default: true]")
@click.option("--host-binding", default="", metavar="IP", help="Where ports are published [default: everywhere].")
@click.option("--mtu", type=int, default=0, metavar="BYTES", help="MTU of the bridge and its endpoints.")
@click.option("--label", "labels", multiple=True, metavar="K=V", help="Label; repeatable.")
@click.option("-o", "--opt", "opts", multiple=True, metavar="K=V", help="Driver option by its Docker name; repeatable.")
@render.json_option
@click.pass_obj
def create(
    session: Session,
    name: str,
    driver: str,
    subnets: tuple[str, ...],
    gateways: tuple[str, ...],
    ip_range: str,
    aux: tuple[str, ...],
    mtu: int,
    labels: tuple[str, ...],
    opts: tuple[str, ...],
    host_binding: str,
    *,
    ipv6: bool,
    internal: bool,
    icc: bool,
    masquerade: bool,
    as_json: bool,
) -> None:
    """Create a network. Prints its id.

    \b
    Driver options (-o):
      com.docker.network.driver.mtu                     as --mtu
      com.docker.network.bridge.enable_icc              as --icc
      com.docker.network.bridge.enable_ip_masquerade    as --masquerade
      com.docker.network.bridge.host_binding_ipv4       as --host-binding
      com.docker.network.host_ipv4, host_ipv6           the source address outside, in place of masquerading

    \b
    Example:
      dnet network create --subnet 10.1.0.0/16 --ip-range 10.1.7.0/24 blue
      dnet network create --ipv6 --icc=false green
    """
    spec = dnet.NetworkSpec(
        name=name,
        driver=driver,
        **options.by_family("subnet", subnets),
        **options.by_family("gateway", gateways),
        ip_range=ip_range,
        aux_addresses=options.key_values(aux, "aux-address"),
        ipv6=ipv6,
        internal=internal,
        icc=icc,
        masquerade=masquerade,
        host_binding=host_binding,
        mtu=mtu,
        labels=options.key_values(labels, "label"),
        options=options.key_values(opts, "option"),
    )
    with session.open() as engine:
        if session.is_plan:
            render.objects(engine.plan_network(spec), as_json=as_json)
            return
        made = engine.create_network(spec)
    if as_json:
        render.document(views.network_document(made, ()))
    else:
        click.echo(made.id)


@network.command()
@click.option("-q", "--quiet", is_flag=True, help="Print ids only.")
@render.json_option
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
@render.json_option
@click.pass_obj
def rm(session: Session, names: tuple[str, ...], *, as_json: bool) -> None:
    """Remove networks that no container is on: all of them, or none.

    \b
    Example:
      dnet network rm blue green
    """
    with session.open() as engine:
        removed = [net.name for net in engine.delete_networks(names)]
    render.names("deleted", removed, as_json=as_json)


@network.command()
@click.option("-f", "--force", "_force", is_flag=True, help="Accepted for Docker's sake; dnet never asks.")
@render.json_option
@click.pass_obj
def prune(session: Session, *, _force: bool, as_json: bool) -> None:
    """Remove every network that no container is on.

    \b
    Example:
      dnet network prune
    """
    with session.open() as engine:
        removed = [net.name for net in engine.prune_networks()]
    render.names("deleted", removed, as_json=as_json)
