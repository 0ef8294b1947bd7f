"""Commands for containers: create, rm, rename, ps, port, inspect."""

from __future__ import annotations

from typing import Any

import click

import dnet
from dnet import cli
from dnet.adapters import docker_json
from dnet.cli import Session, options, render


@click.command(cls=cli.Command)
@options.create_options
@click.argument("name_argument", metavar="[NAME]", required=False, default="")
@cli.option("--name", default="", help="The same as NAME [default: a random one].")
@options.endpoint_options
@options.json_option
@click.pass_obj
def create(session: Session, /, name_argument: str, name: str, *, as_json: bool, **given: Any) -> None:
    """Create the network of a container: a sandbox with an endpoint, but no process. Prints the name.

    \b
    Example:
      dnet create --ip 172.17.0.9 -p 8080:80 web
      ip netns exec web python3 -m http.server 80
    """
    if name and name_argument and name != name_argument:
        raise click.UsageError(f"two names are given: {name_argument} and {name}")
    spec = dnet.ContainerSpec(name=name or name_argument, **options.specification(given))
    with session.open() as engine:
        if session.is_plan:
            render.objects(engine.plan([spec]), as_json=as_json)
            return
        container = engine.create_many([spec]).containers[0]
        networks = engine.networks() if as_json else []
    if as_json:
        render.document(docker_json.container_document(container, networks))
    else:
        click.echo(container.name)


@click.command(cls=cli.Command)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@cli.option(
    "-f",
    "--force",
    is_flag=True,
    help="Remove running and shared ones, too, even if Open vSwitch does not answer; ignore missing ones.",
)
@options.json_option
@click.pass_obj
def rm(session: Session, names: tuple[str, ...], *, force: bool, as_json: bool) -> None:
    """Remove containers by name, id or unique prefix of an id: all of them, or none.

    \b
    Example:
      dnet rm web db
    """
    with session.open() as engine:
        deleted = engine.delete_many(names, missing_ok=force, force=force)
        removed = [container.name for container in deleted]
    render.names("deleted", removed, as_json=as_json)


@click.command(cls=cli.Command)
@click.argument("old")
@click.argument("new")
@click.pass_obj
def rename(session: Session, old: str, new: str) -> None:
    """Rename container OLD to NEW. Its id, addresses and host name stay.

    \b
    Example:
      dnet rename web web-old
    """
    with session.open() as engine:
        engine.rename(old, new)


@click.command(cls=cli.Command)
@cli.option("-a", "--all", "_all", is_flag=True, help="Ignored, for compatibility with Docker: all are always listed.")
@cli.option("-q", "--quiet", is_flag=True, help="Print ids only.")
@options.json_option
@click.pass_obj
def ps(session: Session, *, _all: bool, quiet: bool, as_json: bool) -> None:
    """List containers, oldest first.

    \b
    Example:
      dnet ps
      dnet ps -q | xargs dnet rm
    """
    with session.open() as engine:
        containers = engine.containers()
    names = {item.id: item.name for item in containers}
    if as_json:
        render.document([docker_json.row_document(item, names) for item in containers])
    elif quiet:
        for item in containers:
            click.echo(item.id[:12])
    else:
        header = ("CONTAINER ID", "NAME", "MODE", "NETWORK", "IP", "PORTS", "STATUS", "LINKS")
        render.table(header, [docker_json.row(item, names) for item in containers])


@click.command(cls=cli.Command)
@click.argument("name")
@click.argument("wanted", metavar="[PORT[/PROTO]]", required=False, default="")
@options.json_option
@click.pass_obj
def port(session: Session, name: str, wanted: str, *, as_json: bool) -> None:
    """Show where a container's ports are published, or only where PORT is.

    \b
    Example:
      dnet port web
      dnet port web 80/tcp
    """
    with session.open() as engine:
        container = engine.container(name)
    mappings = docker_json.published(container, wanted)
    if as_json:
        render.document(docker_json.port_documents(mappings))
        return
    for item in mappings:
        prefix = "" if wanted else f"{item.container_port}/{item.protocol} -> "
        click.echo(f"{prefix}{item.host}")


@click.command(cls=cli.Command)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@options.format_options
@click.pass_obj
def inspect(session: Session, names: tuple[str, ...], template: str, *, _json: bool) -> None:
    """Show everything about containers, as a JSON list with Docker's field names.

    FORMAT is text with fields in Docker's dotted form, perhaps after the word json.

    \b
    Example:
      dnet inspect -f '{{ .Name }} {{ .NetworkSettings.IPAddress }}' web
      dnet inspect -f '{{ json .NetworkSettings.Networks }}' web
    """
    if template:
        docker_json.check_template(template)
    with session.open() as engine:
        networks = engine.networks()
        documents = [docker_json.container_document(engine.container(name), networks) for name in names]
    render.inspection(documents, template)
