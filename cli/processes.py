"""Commands for the processes of containers: run, exec, start, stop, logs."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import click

import dnet
from dnet import cli
from dnet.cli import Session, options, render
from dnet.model.container_spec import check_process

_PASSED = {"ignore_unknown_options": False, "allow_interspersed_args": False}


@click.command(cls=cli.Command, context_settings=_PASSED)
@options.create_options
@options.endpoint_options
@options.process_options
@cli.option("--name", default="", help="Name [default: a random one].")
@cli.option("--rm", "removes_itself", is_flag=True, help="Remove the container when the program ends.")
@cli.option("-d", "--detach", is_flag=True, help="Run in the background, and print the id.")
@cli.option("--rootfs", default="", metavar="DIR", help="Root directory [default: a copy of the host's files].")
@cli.option("--read-only", is_flag=True, help="Make its files read-only.")
@click.argument("command", metavar="COMMAND [ARG...]", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def run(
    session: Session,
    /,
    command: tuple[str, ...],
    name: str,
    rootfs: str,
    *,
    removes_itself: bool,
    detach: bool,
    read_only: bool,
    **given: Any,
) -> int:
    """Create a container and run COMMAND in it, in the foreground or with -d detached.

    Without --rootfs the program sees the host's files, and what it writes vanishes with the container. Signals are
    passed on. Exits with the program's status, or 127 if it is missing, 126 if it cannot be executed, 125 if dnet
    failed.

    \b
    Example:
      dnet run -d --name web -p 8080:80 python3 -m http.server 80
      dnet run --rm -it --network blue bash
      dnet run --rm --rootfs /srv/busybox --read-only -- sh -c 'echo hello'
    """

    def work() -> int:
        process = check_process(
            command,
            rootfs=os.path.abspath(rootfs) if rootfs else "",
            is_read_only=read_only,
            removes_itself=removes_itself,
            **options.take_process(given),
        )
        spec = dnet.ContainerSpec(name=name, process=process, **options.specification(given))
        with session.open() as engine:
            if detach:
                click.echo(engine.run_detached(spec).id)
                return 0
            return engine.run(spec)[1]

    return _with_status(work)


@click.command(cls=cli.Command, context_settings=_PASSED)
@options.process_options
@click.argument("name")
@click.argument("command", metavar="COMMAND [ARG...]", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def execute(session: Session, /, name: str, command: tuple[str, ...], **given: Any) -> int:
    """Run one more program in a running container. Exits with the program's status, as `run` does.

    \b
    Example:
      dnet exec -it web bash
      dnet exec -e DEBUG=1 -u nobody web id
    """

    def work() -> int:
        process = check_process(command, **options.take_process(given))
        with session.open() as engine:
            return engine.execute(name, process)

    return _with_status(work)


def _with_status(work: Callable[[], int]) -> int:
    """Return the program's exit status, or the one that tells why it did not run."""
    try:
        return work()
    except dnet.RuntimeFailed as error:
        cli.fail(str(error), error.hint)
        return error.exit_code
    except dnet.DnetError as error:
        cli.fail(str(error), error.hint)
        return cli.EXIT_RUN_FAILED


@click.command(cls=cli.Command)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@options.json_option
@click.pass_obj
def start(session: Session, names: tuple[str, ...], *, as_json: bool) -> None:
    """Start the programs of containers again, detached.

    \b
    Example:
      dnet start web
    """
    with session.open() as engine:
        started = [container.name for container in engine.start(names)]
    render.names("started", started, as_json=as_json)


@click.command(cls=cli.Command)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@cli.option(
    "-t",
    "--time",
    "seconds",
    type=click.FloatRange(min=0, max=2e6),
    default=10.0,
    show_default=True,
    metavar="S",
    help="Seconds between TERM and KILL.",
)
@options.json_option
@click.pass_obj
def stop(session: Session, names: tuple[str, ...], seconds: float, *, as_json: bool) -> None:
    """Stop the programs of containers: TERM, then KILL after S seconds. Their networks stay.

    \b
    Example:
      dnet stop -t 2 web
    """
    with session.open() as engine:
        stopped = [container.name for container in engine.stop(names, seconds)]
    render.names("stopped", stopped, as_json=as_json)


@click.command(cls=cli.Command)
@click.argument("name")
@cli.option("-f", "--follow", is_flag=True, help="Print until the program ends.")
@cli.option("-t", "--timestamps", is_flag=True, help="Print the time of each line.")
@cli.option("--tail", type=click.IntRange(min=0), default=None, metavar="N", help="Print only the last N lines.")
@click.pass_obj
def logs(session: Session, name: str, tail: int | None, *, follow: bool, timestamps: bool) -> None:
    """Print what a detached container wrote, its standard error on stderr.

    \b
    Example:
      dnet logs -f web
    """
    with session.open() as engine:
        skipped = 0 if tail is None else _before_last((entry.data for entry in engine.logs(name)), tail)
        unfinished: set[str] = set()
        for entry in islice(engine.logs(name, follow=follow), skipped, None):
            stream = (sys.stderr if entry.stream == "stderr" else sys.stdout).buffer
            is_begin = entry.stream not in unfinished
            stream.write(f"{entry.time} ".encode() + entry.data if timestamps and is_begin else entry.data)
            stream.flush()
            (unfinished.discard if entry.data.endswith(b"\n") else unfinished.add)(entry.stream)


def _before_last(pieces: Iterable[bytes], count: int) -> int:
    """Return how many pieces come before the last `count` lines; a long line has several pieces."""
    line_ends = deque([0], maxlen=count + 1)
    number, is_open = 0, False
    for number, piece in enumerate(pieces, 1):
        is_open = not piece.endswith(b"\n")
        if not is_open:
            line_ends.append(number)
    if is_open:
        line_ends.append(number)
    return line_ends[0]
