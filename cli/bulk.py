"""Commands for many containers: bulk-create, bulk-delete."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import click

import dnet
from dnet import cli
from dnet.cli import Session, options, render, specfile

# More than any host has been seen to hold; the specifications alone would fill the memory.
COUNT_MAX = 100_000


@click.command("bulk-create", cls=cli.Command)
@cli.option("--count", type=click.IntRange(1, COUNT_MAX), metavar="N", help="Create N containers.")
@cli.option("--prefix", default="c", show_default=True, help="Name them PREFIX-1 ... PREFIX-N.")
@cli.option("--start", type=click.IntRange(min=0), default=1, show_default=True, help="Begin with this number.")
@cli.option(
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False),
    help="Create the containers of this JSON or YAML list.",
)
@options.create_options
@cli.option("--keep-going", is_flag=True, help="Keep the others if some fail, and exit 10.")
@options.json_option
@options.quiet_option
@options.progress_option
@click.pass_obj
def bulk_create(
    session: Session,
    /,
    count: int | None,
    prefix: str,
    start: int,
    path: str | None,
    *,
    keep_going: bool,
    as_json: bool,
    quiet: bool,
    with_progress: bool,
    **given: Any,
) -> int:
    """Create many containers in one change: all of them, or none.

    A range of host ports in -p is distributed among the containers; -p 80 gives each an automatic port.

    With --file, each entry has the options of create by their long names: {"name": "web", "network": "blue"}.

    \b
    Example:
      dnet bulk-create --count 500
      dnet bulk-create --count 20 --prefix web --network blue -p 8000-8019:80 --json
    """
    started = time.perf_counter()
    if (count is None) == (path is None):
        raise click.UsageError("one of --count and --file is needed")
    if path is not None:
        _check_alone("--file", ("prefix", "start", *given))
        specs = specfile.read(path)
    else:
        first = dnet.ContainerSpec(name=f"{prefix}-{start}", **options.specification(given))
        specs = [first.named(f"{prefix}-{number}") for number in range(start, start + (count or 0))]
    with session.open() as engine:
        if session.is_plan:
            render.objects(engine.plan(specs), as_json=as_json)
            return 0
        with render.progress("creating", is_wanted=with_progress and not quiet) as report:
            result = engine.create_many(specs, keep_going=keep_going, on_progress=report)
        used = sorted({endpoint.network for item in result.containers for endpoint in item.endpoints})
        networks = [engine.network(name) for name in used]
    seconds = time.perf_counter() - started
    if as_json:
        render.document(_document(result, networks, seconds))
    elif quiet:
        for item in result.containers:
            click.echo(item.name)
    else:
        total = len(result.containers)
        where = " and ".join(f"{net.name} {net.subnet}" for net in networks) or "no network"
        each = seconds * 1000 / max(total, 1)
        click.echo(f"created {total} containers in {seconds:.2f} s ({each:.1f} ms each) on {where}")
    for name, error in result.failed:
        cli.fail(f"{name}: {error}", error.hint)
    return cli.EXIT_PARTLY if result.failed else 0


def _document(result: dnet.Created, networks: Sequence[dnet.Network], seconds: float) -> dict[str, Any]:
    from dnet.adapters import docker_json

    return {
        "created": len(result.containers),
        "failed": [{"name": name, "error": str(error)} for name, error in result.failed],
        "seconds": round(seconds, 4),
        "network": docker_json.brief_network(networks[0]) if networks else None,
        "phases": {name: round(value, 4) for name, value in result.phases.items()},
        "containers": [docker_json.bulk_document(item) for item in result.containers],
    }


@click.command("bulk-delete", cls=cli.Command)
@click.argument("names", metavar="[NAME...]", nargs=-1)
@cli.option("--prefix", metavar="P", help="Remove those named P-1, P-2, ...")
@cli.option("--all", "everything", is_flag=True, help="Remove all containers.")
@cli.option("--file", "path", type=click.Path(exists=True, dir_okay=False), help="Remove those of this list.")
@cli.option("-f", "--force", is_flag=True, help="Remove shared ones, too, even if Open vSwitch does not answer.")
@options.json_option
@options.quiet_option
@options.progress_option
@click.pass_obj
def bulk_delete(
    session: Session,
    names: tuple[str, ...],
    prefix: str | None,
    path: str | None,
    *,
    everything: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
    with_progress: bool,
) -> None:
    """Remove many containers in one change, and wait until the kernel has removed everything of them.

    \b
    Example:
      dnet bulk-delete --all
      dnet bulk-delete --prefix web
    """
    started = time.perf_counter()
    if sum((bool(names), prefix is not None, path is not None, everything)) != 1:
        raise click.UsageError("exactly one of NAME..., --prefix, --all and --file is needed")
    with session.open() as engine:
        if path is not None:
            names = tuple(spec.name for spec in specfile.read(path))
        chosen = names or engine.names(prefix=prefix)
        with render.progress("removing", is_wanted=with_progress and not quiet) as report:
            removed = engine.delete_many(chosen, running_ok=True, force=force, on_progress=report)
    seconds = time.perf_counter() - started
    if as_json:
        render.document(
            {"deleted": len(removed), "seconds": round(seconds, 4), "containers": [c.name for c in removed]}
        )
    elif quiet:
        for item in removed:
            click.echo(item.name)
    else:
        click.echo(f"removed {len(removed)} containers in {seconds:.2f} s")


def _check_alone(option: str, names: Iterable[str]) -> None:
    """Raise if options were given that have no effect beside this one."""
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE:
            flags = next(item.opts[-1] for item in context.command.params if item.name == name)
            raise click.UsageError(f"{flags} does not go with {option}, whose entries say it themselves")
