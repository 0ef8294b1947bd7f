"""The command group `route`."""

from __future__ import annotations

import click

from dnet import cli
from dnet.cli import Session, options, render

_WORDS = click.argument("words", metavar="DEST [via GATEWAY] [dev IF] [metric N]", nargs=-1, required=True)


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
@_WORDS
@click.pass_obj
def add(session: Session, target: str, words: tuple[str, ...]) -> None:
    """Add a route in a container. dnet remembers it, and adds it again whenever it creates the container again.

    \b
    Example:
      dnet route add web 10.2.0.0/16 via 172.17.0.9 metric 50
      dnet route add docker:web fd00:2::/64 dev eth1
    """
    with session.open() as engine:
        engine.add_route(target, " ".join(words))


@route.command(name="del")
@click.argument("target")
@_WORDS
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
@options.json_option
@click.pass_obj
def list_routes(session: Session, target: str, *, as_json: bool) -> None:
    """List the routes in a container. ORIGIN is dnet for those that `route add` added.

    \b
    Example:
      dnet route ls web
    """
    with session.open() as engine:
        rows = [item._asdict() for item in engine.routes(target)]
    columns = ("destination", "gateway", "interface", "metric", "origin")
    render.listing(rows, {name.upper(): name for name in columns}, as_json=as_json)
