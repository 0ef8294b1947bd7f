"""Text and JSON for people and scripts; what several commands print alike."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from dnet import cli


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns as wide as their widest cell, as `docker ps` does."""
    lines: list[Sequence[str]] = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        click.echo("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def document(value: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(value, indent=4))


def names(key: str, items: Sequence[str], *, as_json: bool) -> None:
    """Print names one a line, or as one document under `key`."""
    if as_json:
        document({key: list(items)})
        return
    for item in items:
        click.echo(item)


def objects(items: Sequence[object], *, as_json: bool) -> None:
    """Print the objects of a plan, one a line."""
    if as_json:
        document([{"kind": type(item).__name__, "object": str(item)} for item in items])
        return
    for item in items:
        click.echo(str(item))


@contextmanager
def progress(label: str, *, is_wanted: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Yield a progress callback that draws a bar on stderr, or None when that is no terminal or unwanted."""
    if not is_wanted or not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label=label, file=sys.stderr, show_pos=True) as bar:

        def advance(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield advance
        bar.update((bar.length or 0) - bar.pos)


json_option = cli.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
quiet_option = cli.option("-q", "--quiet", is_flag=True, help="Print names only.")
progress_option = cli.option(
    "--progress/--no-progress", "with_progress", default=True, help="Draw a bar on a terminal."
)
