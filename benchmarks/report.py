"""Judge the measurements: costs, ratios beside their targets, JSON. Pure, except for write_json."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peer_iptables import OTHER_CONTAINERS

TARGET_SIZE = 500  # the size that the targets are for
SCALE_SIZES = (100, 1000)
TARGET_RUNS = 15  # of commands that run a program
RUNTIMES = ("crun", "runc")
TARGET_PORTS = 10_000  # published at once, the number that the targets of the topic "publish" are for

# How many times faster than each dnet has to be. "tuned" and "in place" have learnt from dnet; they show what is left.
_PEERS = (
    ("ip -batch", 5),
    ("ip -batch, tuned", None),
    ("shell ip", 15),
    ("shell ip, in place", None),
    ("pyroute2", 20),
    ("pyroute2, in place", None),
)


@dataclass(frozen=True)
class Key:
    """What was measured: a task, a contestant, a number of containers, a quantity of the measurement."""

    task: str
    contestant: str
    count: int
    quantity: str = "seconds"


@dataclass(frozen=True)
class Results:
    """All measurements of a run. One value for each repeat, in order; a repeat that was left out has none."""

    machine: dict[str, str | int]
    values: dict[Key, list[float]] = field(default_factory=dict)

    def add(self, key: Key, value: float) -> None:
        """Record the next repeat."""
        self.values.setdefault(key, []).append(value)

    def sizes(self, task: str, contestant: str) -> list[int]:
        """Return the numbers of containers that `contestant` did `task` with."""
        wanted = (task, contestant, "seconds")
        return sorted({key.count for key in self.values if (key.task, key.contestant, key.quantity) == wanted})


@dataclass(frozen=True)
class Finding:
    """One ratio, difference or amount, and its target."""

    sentence: str
    values: list[float]
    unit: str = "x"
    at_most: float | None = None
    at_least: float | None = None
    at_target_size: bool = True

    @property
    def median(self) -> float:
        """The value that is judged."""
        return statistics.median(self.values)

    @property
    def target(self) -> str:
        """The target in words, empty when there is none."""
        if self.at_most is not None:
            return f"<= {self.at_most:g} {self.unit}"
        return f">= {self.at_least:g} {self.unit}" if self.at_least is not None else ""

    @property
    def verdict(self) -> str:
        """Whether the target was met; measurements of another size are not judged."""
        if not self.target:
            return ""
        if not self.at_target_size:
            return "not judged"
        too_much = self.at_most is not None and self.median > self.at_most
        too_little = self.at_least is not None and self.median < self.at_least
        return "MISSED" if too_much or too_little else "met"


def findings(results: Results) -> list[Finding]:
    """Return everything that can be said from what was measured. Ratios are of neighbours in time."""
    return [finding for rule in _RULES for finding in rule(results)]


def _pairs(results: Results, left: Key, right: Key, combine: Callable[[float, float], float]) -> list[float]:
    both = zip(results.values.get(left, []), results.values.get(right, []), strict=False)
    return [combine(one, other) for one, other in both]


def _ratio(one: float, other: float) -> float:
    return one / other


def _size(results: Results, task: str) -> int:
    """Return the size that `task` is judged at: TARGET_SIZE or the largest measured; 0 without measurements."""
    sizes = results.sizes(task, "dnet")
    return TARGET_SIZE if TARGET_SIZE in sizes else max(sizes, default=0)


def _create(results: Results) -> Iterator[Finding]:
    size = _size(results, "create")
    dnet = Key("create", "dnet", size)
    judged = size == TARGET_SIZE
    values = _pairs(results, dnet, Key("create", "floor", size), _ratio)
    if values:
        yield Finding(f"bulk-create of {size} / floor", values, at_most=1.5, at_target_size=judged)
    for peer, at_least in _PEERS:
        values = _pairs(results, Key("create", peer, size), dnet, _ratio)
        if values:
            sentence = f"{peer} / bulk-create of {size}"
            yield Finding(sentence, values, at_least=at_least, at_target_size=judged)
    memory = results.values.get(Key("create", "dnet", size, "peak_memory_bytes"), [])
    if memory:
        megabytes = [value / 1e6 for value in memory]
        sentence = f"peak memory of bulk-create of {size}"
        yield Finding(sentence, megabytes, unit="MB", at_most=80, at_target_size=judged)


def _scale(results: Results) -> Iterator[Finding]:
    few, many = SCALE_SIZES
    for contestant, at_most in (("dnet", 1.2), ("floor", None)):
        values = _pairs(
            results,
            Key("create", contestant, many),
            Key("create", contestant, few),
            lambda seconds, seconds_of_few: (seconds / many) / (seconds_of_few / few),
        )
        if values:
            yield Finding(f"{contestant}: cost per container at {many} / at {few}", values, at_most=at_most)


def _delete(results: Results) -> Iterator[Finding]:
    size = _size(results, "delete")
    dnet, floor = Key("delete", "dnet", size), Key("delete", "floor", size)
    judged = size == TARGET_SIZE
    values = _pairs(results, dnet, Key("delete", "dnet", size, "create_seconds"), _ratio)
    if values:
        yield Finding(f"bulk-delete of {size} / bulk-create", values, at_most=1, at_target_size=judged)
    for sentence, left, right in (
        (f"bulk-delete of {size} / floor's deletion by group", dnet, floor),
        (f"floor: deletion of {size} by unmounting only / by group", Key("reap", "floor", size), floor),
    ):
        values = _pairs(results, left, right, _ratio)
        if values:
            yield Finding(sentence, values)


def _commands(results: Results) -> Iterator[Finding]:
    size = _size(results, "commands")
    bare = Key("commands", "dnet", size, "bare")
    for quantity, sentence, at_most in (
        ("seconds", f"dnet ps with {size} / python -I -c pass", 8),
        ("help", "dnet --help / python -I -c pass", 6),
    ):
        values = _pairs(results, Key("commands", "dnet", size, quantity), bare, _ratio)
        if values:
            yield Finding(sentence, values, at_most=at_most, at_target_size=size == TARGET_SIZE)


def _one(results: Results) -> Iterator[Finding]:
    size = _size(results, "one")
    values = _pairs(
        results,
        Key("one", "dnet", size),
        Key("one", "floor", size),
        lambda dnet, floor: (dnet - floor) * 1000,
    )
    if values:
        sentence = f"one engine.create with {size} present, more than the floor's"
        yield Finding(sentence, values, unit="ms", at_most=2, at_target_size=size == TARGET_SIZE)


def _bulk(results: Results) -> Iterator[Finding]:
    size = _size(results, "bulk")
    values = _pairs(results, Key("bulk", "dnet, -p 80", size), Key("bulk", "dnet", size), _ratio)
    if values:
        yield Finding(
            f"bulk-create of {size} with -p 80 / without", values, at_most=1.15, at_target_size=size == TARGET_SIZE
        )


def _linked(results: Results) -> Iterator[Finding]:
    size = _size(results, "linked")
    values = _pairs(results, Key("linked", "dnet, -p --dns --link", size), Key("linked", "dnet", size), _ratio)
    if values:
        sentence = f"bulk-create of {size} with -p 80, --dns and --link / without"
        yield Finding(sentence, values, at_most=1.25, at_target_size=size == TARGET_SIZE)


def _run(results: Results) -> Iterator[Finding]:
    """Compare whole commands that run `true`."""
    count = max((key.count for key in results.values if key.task == "run"), default=0)
    dnet = Key("run", "dnet", count, "dnet")
    for runtime in RUNTIMES:
        share = Key("run", "dnet", count, runtime)
        values = _pairs(results, dnet, share, lambda one, other: (one - other) * 1000)
        if values:
            sentence = f"dnet run true, more than {runtime} run of its bundle"
            yield Finding(sentence, values, "ms", at_most=60, at_target_size=count == TARGET_RUNS)
            removed = _pairs(
                results, Key("run", "dnet", count, "removed"), share, lambda one, other: (one - other) * 1000
            )
            yield Finding(f"dnet run --rm true, more than {runtime} run of its bundle", removed, "ms")
    values = _pairs(results, Key("run", "docker", count), Key("run", "dnet", count, "small root"), _ratio)
    if values:
        yield Finding("docker run --rm true / dnet run --rm --rootfs of the same files", values)


def _calls(results: Results) -> Iterator[Finding]:
    """Milliseconds for one published port more or less, with few others and with many."""
    counts = sorted({key.count for key in results.values if key.task == "calls"})
    for others in counts:
        is_many = others == max(counts)
        at_most, judged = (2 if is_many else None), others == TARGET_PORTS
        for quantity, sentence in (
            ("publish", f"publish one port, {others} others published"),
            ("publish_automatic", f"publish one port on a host port of dnet's choice, {others} others published"),
            ("unpublish", f"unpublish one port, {others} others published"),
            ("publish_crowded", f"publish one port of a container that has {others // OTHER_CONTAINERS} others"),
            ("unpublish_crowded", f"unpublish one port of a container that has {others // OTHER_CONTAINERS} others"),
        ):
            values = [seconds * 1000 for seconds in results.values.get(Key("calls", "dnet", others, quantity), [])]
            if values and (is_many or not quantity.endswith("crowded")):
                yield Finding(sentence, values, "ms", at_most=at_most, at_target_size=judged)
        # A deletion takes 20 to 60 ms, whatever it deletes: too noisy for this difference to be judged.
        for call, most in (("create", at_most), ("delete", None)):
            plain = Key("calls", "dnet", others, call)
            published = Key("calls", "dnet", others, f"{call}_published")
            values = _pairs(results, published, plain, lambda one, other: (one - other) * 1000)
            if values:
                sentence = f"{call} a container with a port, more than without, {others} others published"
                yield Finding(sentence, values, "ms", at_most=most, at_target_size=judged)


def publishers(results: Results) -> list[str]:
    """Return who published ports for traffic, in the order of measuring."""
    return list(dict.fromkeys(key.contestant for key in results.values if key.task == "traffic"))


def _traffic(results: Results) -> Iterator[Finding]:
    ports = max((key.count for key in results.values if key.task == "traffic"), default=0)
    for load, words in (("connections", "new connections per second"), ("bytes", "throughput")):
        for publisher in publishers(results):
            values = results.values[Key("traffic", publisher, ports, f"{load}_ratio")]
            sentence = f"{publisher}: {words}, {ports} ports published / 1"
            at_least = 0.95 if publisher == "dnet" else None
            yield Finding(sentence, values, at_least=at_least, at_target_size=ports == TARGET_PORTS)


def _attach(results: Results) -> Iterator[Finding]:
    size = _size(results, "attach")
    judged = size == TARGET_SIZE
    floor = Key("attach", "floor", size)
    for task, sentence in (("attach", "attach_many of"), ("connect", "network connect of")):
        values = _pairs(results, Key(task, "dnet", size), floor, _ratio)
        if values:
            yield Finding(f"{sentence} {size} / floor", values, at_most=1.5, at_target_size=judged)
    for quantity, sentence, at_least in (
        ("pipework", "pipework / dnet attach", 5),
        ("without_arping", "pipework without arping / dnet attach", None),
    ):
        values = _pairs(results, Key("attach-one", "dnet", 1, quantity), Key("attach-one", "dnet", 1), _ratio)
        if values:
            yield Finding(sentence, values, at_least=at_least)


_RULES = (_create, _scale, _delete, _commands, _one, _bulk, _linked, _run, _calls, _traffic, _attach)


def table(rows: Sequence[Sequence[str]], *, numbers_from: int) -> str:
    """Return `rows`, the first of which is the heading, as aligned text; columns from `numbers_from` on are numbers."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = [
            text.rjust(width) if column >= numbers_from else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    return "\n".join([line(rows[0]), "  ".join("-" * width for width in widths), *map(line, rows[1:])])


def cost_table(results: Results) -> str:
    """Return milliseconds per container of every contestant and size."""
    rows = [["create, delete or bulk", "N", "ms each", "least", "most", "repeats", "all, s"]]
    for key, values in sorted(
        results.values.items(), key=lambda item: (item[0].task, item[0].contestant, item[0].count)
    ):
        if key.quantity != "seconds" or key.task not in ("create", "delete", "reap", "bulk", "linked"):
            continue
        each = [value / key.count * 1000 for value in values]
        costs = [f"{cost:.3f}" for cost in (statistics.median(each), min(each), max(each))]
        name = f"{key.task} {key.contestant}"
        rows.append([name, str(key.count), *costs, str(len(values)), f"{statistics.median(values):.3f}"])
    return table(rows, numbers_from=1)


def run_table(results: Results) -> str:
    """Return milliseconds of the commands that run `true`; empty without measurements."""
    rows = [["a program that ends at once", "ms", "least", "most", "repeats"]]
    commands = {
        "dnet run true": ("dnet", "dnet"),
        "dnet run --rm true": ("dnet", "removed"),
        "python3 -c 'import click'": ("dnet", "click"),
        **{f"{name} run of its bundle": ("dnet", name) for name in RUNTIMES},
        "dnet run --rm --rootfs SMALL true": ("dnet", "small root"),
        "docker run --rm SMALL true": ("docker", "seconds"),
    }
    count = max((key.count for key in results.values if key.task == "run"), default=0)
    for sentence, (contestant, quantity) in commands.items():
        values = [seconds * 1000 for seconds in results.values.get(Key("run", contestant, count, quantity), [])]
        if values:
            numbers = [f"{cell(values):.0f}" for cell in (statistics.median, min, max)]
            rows.append([sentence, *numbers, str(len(values))])
    return table(rows, numbers_from=1) if len(rows) > 1 else ""


def traffic_table(results: Results) -> str:
    """Return what one published port carries, with one and with many published; empty without measurements."""
    rows = [["traffic to a published port", "ports", "connections/s", "least", "most", "Gbit/s", "least", "most"]]
    for publisher in publishers(results):
        ports = max(key.count for key in results.values if (key.task, key.contestant) == ("traffic", publisher))
        for count, suffix in ((1, "_with_1"), (ports, "")):
            connections = results.values[Key("traffic", publisher, ports, f"connections_per_s{suffix}")]
            gigabits = [
                rate * 8e-9 for rate in results.values[Key("traffic", publisher, ports, f"bytes_per_s{suffix}")]
            ]
            cells = [f"{cell(connections):.0f}" for cell in (statistics.median, min, max)]
            cells += [f"{cell(gigabits):.1f}" for cell in (statistics.median, min, max)]
            rows.append([publisher, str(count), *cells])
    return table(rows, numbers_from=1) if len(rows) > 1 else ""


def finding_table(found: Sequence[Finding]) -> str:
    """Return the findings beside their targets."""
    rows = [["", "median", "least", "most", "target", ""]]
    for one in found:
        numbers = [f"{value:.2f} {one.unit}" for value in (one.median, min(one.values), max(one.values))]
        rows.append([one.sentence, *numbers, one.target, one.verdict])
    return table(rows, numbers_from=1)


def write_json(path: Path, results: Results, found: Sequence[Finding]) -> None:
    """Write everything that was measured and what was said of it."""
    document = {
        "machine": results.machine,
        "measurements": [
            {"task": key.task, "contestant": key.contestant, "count": key.count}
            | {"quantity": key.quantity, "values": values}
            for key, values in results.values.items()
        ],
        "findings": [
            {"sentence": one.sentence, "median": one.median, "values": one.values, "unit": one.unit}
            | {"target": one.target, "verdict": one.verdict}
            for one in found
        ],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
