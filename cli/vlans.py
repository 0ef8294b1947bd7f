"""The command group `vlan`."""

from __future__ import annotations

import click

from dnet import cli
from dnet.adapters import docker_json
from dnet.cli import Session, options, render
from dnet.model.vlan import read_vlans


@click.group(cls=cli.Group)
def vlan() -> None:
    """Change and list the VLANs of containers.

    \b
    Example:
      dnet bulk-create --count 4 --vlan 100
      dnet vlan set c-4 --tag 200
      dnet vlan ls
    """


@vlan.command("set")
@click.argument("name")
@cli.option("--network", default="", metavar="NET", help="Change the port on this network [default: the first one].")
@cli.option("--tag", metavar="VID", help="Put the port in this VLAN, with untagged frames.")
@cli.option("--trunk", metavar="VID,VID-VID", help="Let the port pass these VLANs, with tagged frames.")
@cli.option("--native", metavar="VID", help="With --trunk: the VLAN of untagged frames.")
@cli.option("--none", "is_none", is_flag=True, help="Put the port in the network's own VLAN.")
@options.json_option
@click.pass_obj
def set_vlans(
    session: Session,
    name: str,
    network: str,
    tag: str | None,
    trunk: str | None,
    native: str | None,
    *,
    is_none: bool,
    as_json: bool,
) -> None:
    """Change the VLANs of a container's port, in one step. Running programs are not interrupted.

    \b
    Example:
      dnet vlan set web --tag 100
      dnet vlan set router --network blue --trunk 100,200-210 --native 1
    """
    vlans = read_vlans(vlan=tag, trunk=trunk, native=native)
    if (vlans is None) != is_none:
        raise click.UsageError("one of --tag, --trunk and --none is needed")
    with session.open() as engine:
        container = engine.set_vlans(name, vlans, network)
        networks = engine.networks() if as_json else []
    if as_json:
        render.document(docker_json.container_document(container, networks))


@vlan.command()
@options.json_option
@click.pass_obj
def ls(session: Session, *, as_json: bool) -> None:
    """List the ports of networks with VLANs: the bridges' own, where the gateway is, uplinks, and containers.

    \b
    Example:
      dnet vlan ls
    """
    with session.open() as engine:
        rows = docker_json.vlan_rows(engine.containers(), engine.networks())
    if not as_json:
        for row in rows:
            row.update({name: row[name] or "" for name in ("vlan", "native")})
            row["container"] = row["container"] or f"({row['port']})"
    columns = {"CONTAINER": "container", "NETWORK": "network", "INTERFACE": "interface", "VLAN": "vlan"}
    columns |= {"TRUNK": "trunk", "NATIVE": "native", "KEPT APART BY": "backend"}
    render.listing(rows, columns, as_json=as_json)
