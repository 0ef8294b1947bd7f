"""Run the benchmark: measure everybody in turn, print ratios beside their targets, write JSON and a plot.

    python -m benchmarks --sizes 50,500,1000 --repeat 5

The topic "publish" includes iptables where it is installed (Debian's package iptables) and the kernel has it. The
topic "run" includes Docker where dockerd and a static busybox are installed (docker.io, busybox-static); the whole
topic is left out where dnet finds no OCI runtime that works, unless --only asks for it.

Exits 0 when targets are missed (it is a report) and 1 when a contestant did not do its job.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import build_programs, machine, report, tasks
from benchmarks.peers import (
    CONTESTANTS,
    DNET,
    DNET_LINKED,
    DNET_PUBLISHING,
    DOCKER,
    FLOOR,
    PUBLISHERS,
    Contestant,
    Publisher,
)
from benchmarks.report import Key, Results
from benchmarks.timed_process import ContestantFailedError

TOPICS = ("create", "delete", "commands", "one", "publish", "run", "attach")
DEFAULT_SIZES = (50, 500, 1000)
QUICK_SIZES = (3, 20)
QUICK_PORTS = 100
QUICK_RUNS = 2
BULK_TURNS = 3  # with and without ports, for a difference of a few per cent
LARGEST_SIZE = 1023 - tasks.ROUNDS  # a bridge's ports, less those that "one" adds


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", type=_sizes, metavar="N,N", help="numbers of containers (50,500,1000; 100 is added beside 1000)"
    )
    parser.add_argument("--repeat", type=int, metavar="K", help="rounds over everything (5)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round: does it still work?")
    parser.add_argument("--only", choices=TOPICS, action="append", help="one topic; repeatable")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results", metavar="DIR", help="where JSON and PNG go"
    )
    parser.add_argument(
        "--dnet",
        type=_absolute,
        default=Path(sys.executable).parent / "dnet",
        metavar="PATH",
        help="the command to measure",
    )
    return parser.parse_args(argv)


def _sizes(text: str) -> list[int]:
    sizes = sorted({int(size) for size in text.split(",")})
    if not 1 <= sizes[0] <= sizes[-1] <= LARGEST_SIZE:
        raise argparse.ArgumentTypeError(f"sizes are from 1 to {LARGEST_SIZE}")
    return sizes


def _absolute(text: str) -> Path:
    # Not resolved: the interpreter is looked for beside the name, not beside what a link points to.
    return Path(text).absolute()


Step = tuple[str, Contestant | Publisher, int]


def plan(
    sizes: Sequence[int], repeats: int, topics: Sequence[str], ports: int, publishers: Sequence[Publisher], runs: int
) -> Iterator[Step]:
    """Yield (task, contestant, number of containers, of ports or of runs) in the order of measuring.

    Contestants that are compared stand next to each other, because a virtual machine's speed drifts.
    """
    few, many = report.SCALE_SIZES
    create_sizes = sorted({*sizes, few} if many in sizes else sizes)
    judged = report.TARGET_SIZE if report.TARGET_SIZE in sizes else max(sizes)
    for repeat in range(repeats):
        if "create" in topics:
            yield from _plan_create(create_sizes, repeat, repeats)
        if "delete" in topics:
            yield "delete", FLOOR, judged
            yield "delete", DNET, judged
            yield "reap", FLOOR, judged
        if "commands" in topics:
            yield "commands", DNET, judged
        if "one" in topics:
            yield "one", FLOOR, judged
            yield "one", DNET, judged
        if "publish" in topics:
            yield from _plan_publish(judged, ports, publishers)
        if "run" in topics:
            yield from _plan_run(judged, runs)
        if "attach" in topics:
            yield from _plan_attach(judged)


def _plan_create(sizes: Sequence[int], repeat: int, repeats: int) -> Iterator[Step]:
    for count in sizes:
        for contestant in CONTESTANTS.values():
            rounds = repeats if count <= 100 else contestant.repeats_over_100
            if count <= contestant.largest and repeat < rounds:
                yield "create", contestant, count


def _plan_publish(containers: int, ports: int, publishers: Sequence[Publisher]) -> Iterator[Step]:
    for _ in range(BULK_TURNS):
        yield "bulk", DNET, containers
        yield "bulk", DNET_PUBLISHING, containers
    yield "calls", DNET, 1
    yield "calls", DNET, ports
    for publisher in publishers:
        yield "traffic", publisher, ports


def _plan_run(containers: int, runs: int) -> Iterator[Step]:
    for _ in range(BULK_TURNS):
        yield "linked", DNET, containers
        yield "linked", DNET_LINKED, containers
    yield "run", DNET, runs
    if machine.has_docker():
        yield "run", DOCKER, runs


def _plan_attach(containers: int) -> Iterator[Step]:
    yield "attach", FLOOR, containers
    yield "attach", DNET, containers
    yield "connect", DNET, containers
    yield "attach-one", DNET, 1


def measure(options: argparse.Namespace) -> Results:
    """Measure all that the options ask for."""
    sizes = options.sizes or (QUICK_SIZES if options.quick else DEFAULT_SIZES)
    repeats = options.repeat or (1 if options.quick else 5)
    results = Results(machine.describe(options.dnet))
    ports = QUICK_PORTS if options.quick else report.TARGET_PORTS
    publishers = [item for item in PUBLISHERS.values() if not item.probe or machine.runs(item.probe)]
    runs = QUICK_RUNS if options.quick else report.TARGET_RUNS
    with tempfile.TemporaryDirectory(prefix="dnet-bench-") as temporary:
        directory = Path(temporary)
        build_programs.build(directory)
        topics = options.only or _possible_topics(directory, options.dnet)
        steps = list(plan(sizes, repeats, topics, ports, publishers, runs))
        if not options.quick:
            # The first containers after a boot touch memory that the machine has never had in hand: 1.6 times slower.
            tasks.measure("create", FLOOR, max(sizes), directory, options.dnet, is_quick=False)
        for number, (task, contestant, count) in enumerate(steps, 1):
            _progress(f"{number}/{len(steps)} {task} {contestant.name} {count}")
            measured = tasks.measure(task, contestant, count, directory, options.dnet, is_quick=options.quick)
            for quantity, values in measured.items():
                # "ps" is what the topic is judged by, hence its seconds.
                name = "seconds" if quantity == "ps" else quantity
                results.add(Key(task, contestant.name, count, name), statistics.median(values))
    _progress("")
    return results


def _possible_topics(programs: Path, dnet: Path) -> list[str]:
    """Return all topics; without "run", and say why, where dnet cannot run a program."""
    try:
        tasks.measure("probe-run", DNET, 1, programs, dnet, is_quick=True)
    except ContestantFailedError as error:
        print(f"topic run is left out: {error}", file=sys.stderr)
        return [topic for topic in TOPICS if topic != "run"]
    return list(TOPICS)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def publish(results: Results, output: Path) -> None:
    """Print the tables and write the files."""
    found = report.findings(results)
    for name, value in results.machine.items():
        print(f"{name}: {value}")
    tables = [table(results) for table in (report.cost_table, report.run_table, report.traffic_table)]
    tables.append(report.finding_table(found))
    print("\n" + "\n\n".join(filter(None, tables)) + "\n")
    left_out = sorted(set(PUBLISHERS) - set(report.publishers(results)))
    if left_out and report.publishers(results):
        print(f"not installed, or not in this kernel: {', '.join(left_out)}\n")
    output.mkdir(parents=True, exist_ok=True)
    report.write_json(output / "benchmark.json", results, found)
    print(f"wrote {output / 'benchmark.json'}")
    try:
        from benchmarks import plot_create, plot_publish
    except ImportError:
        print("no plot: matplotlib is not installed", file=sys.stderr)
        return
    if results.sizes("create", DNET.name):
        plot_create.draw(output / "benchmark.png", results)
        print(f"wrote {output / 'benchmark.png'}")
    if report.publishers(results):
        plot_publish.draw(output / "publish.png", results)
        print(f"wrote {output / 'publish.png'}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    options = arguments(argv)
    if os.geteuid() != 0:
        print("benchmarks: needs root, for namespaces", file=sys.stderr)
        return 1
    try:
        results = measure(options)
    except (ContestantFailedError, OSError, subprocess.CalledProcessError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    publish(results, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
