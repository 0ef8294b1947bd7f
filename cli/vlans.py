"""vlan set, ls."""

from __future__ import annotations

import click

from dnet import cli
from dnet.adapters import docker_json
from dnet.cli import Session, render
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
@cli.option("--network", default="", metavar="NET", help="On this network [default: its first one].")
@cli.option("--tag", metavar="VID", help="In this VLAN: frames come and leave untagged.")
@cli.option("--trunk", metavar="VID,VID-VID", help="In these VLANs, their frames tagged.")
@cli.option("--native", metavar="VID", help="With --trunk: the VLAN of untagged frames.")
@cli.option("--none", "is_none", is_flag=True, help="In the network's own VLAN.")
@render.json_option
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
    """Change the VLANs of a container's port, at one stroke; running programs notice nothing.

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
@render.json_option
@click.pass_obj
def ls(session: Session, *, as_json: bool) -> None:
    """List ports of networks with VLANs: bridges themselves, where the gateway is, adopted interfaces, and containers.

    \b
    Example:
      dnet vlan ls
    """
    with session.open() as engine:
        found = docker_json.vlan_rows(engine.containers(), engine.networks())
    if as_json:
        render.document(found)
        return
    rows = [
        (
            item["container"] or f"({item['port']})",
            item["network"],
            item["interface"],
            str(item["vlan"] or ""),
            item["trunk"],
            str(item["native"] or ""),
            item["backend"],
        )
        for item in found
    ]
    render.table(("CONTAINER", "NETWORK", "INTERFACE", "VLAN", "TRUNK", "NATIVE", "KEPT APART BY"), rows)
