"""nat show, link ls, watch."""

from __future__ import annotations

import click

from dnet import cli
from dnet.adapters import docker_json
from dnet.cli import Session, render, say


@click.group(cls=cli.Group)
def nat() -> None:
    """Show published ports and masquerading, with counters.

    \b
    Example:
      dnet nat show
      nft list table inet dnet
    """


@nat.command()
@cli.option("--network", default="", metavar="NET", help="Only this network's.")
@render.json_option
@click.pass_obj
def show(session: Session, network: str, *, as_json: bool) -> None:
    """Show published ports and networks' source addresses, with counters.

    As in `iptables -t nat`, what is counted is the first packet of each connection.

    \b
    Example:
      dnet nat show --network bridge
    """
    with session.open() as engine:
        rows = engine.nat(network)
    if as_json:
        render.document([row._asdict() for row in rows])
        return
    header = ("KIND", "NETWORK", "CONTAINER", "FROM", "TO", "PACKETS", "BYTES")
    render.table(
        header, [(r.kind, r.network, r.container, r.source, r.target, str(r.packets), str(r.bytes)) for r in rows]
    )


@click.group(cls=cli.Group)
def link() -> None:
    """List links between containers.

    \b
    Example:
      dnet create --link db:database web
      dnet link ls
    """


@link.command()
@render.json_option
@click.pass_obj
def ls(session: Session, *, as_json: bool) -> None:
    """List links: which container knows which other one, by what name, and the ports it reaches there.

    \b
    Example:
      dnet link ls --json
    """
    with session.open() as engine:
        found = docker_json.link_rows(engine.containers())
    if as_json:
        render.document(found)
        return
    rows = [(item["parent"], item["child"], item["alias"], ", ".join(item["ports"])) for item in found]
    render.table(("PARENT", "CHILD", "ALIAS", "PORTS"), rows)


@click.command(cls=cli.Command)
@click.pass_obj
def watch(session: Session) -> None:
    """Keep containers' resolv.conf in step with the host's, until interrupted.

    Every container that was given no --dns has the new content at once, running or not; a file that somebody has
    edited is left alone. What is attached to others' containers is attached again when those restart, and leases are
    renewed. packaging/dnet-watch.service runs this.

    \b
    Example:
      dnet watch &
    """
    with session.open() as engine:
        try:
            for count in engine.watch():
                if count:
                    say(f"rewrote resolv.conf of {count} containers")
        except KeyboardInterrupt:
            return
