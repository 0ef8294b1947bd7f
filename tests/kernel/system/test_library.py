"""`import dnet` does all that the command line does."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import dnet
from tests.support.hosts import FakeHost, Raised

EXAMPLE = Path(__file__).resolve().parents[3] / "docs" / "examples" / "hundred.py"


def test_example(host: FakeHost) -> None:
    """The example program creates, inspects and removes 100 containers, tells its progress, and leaves nothing."""
    host.dnet("network", "prune")
    before = host.snapshot()
    ran = host.run(sys.executable, str(EXAMPLE))
    assert "created 100 containers" in ran.stdout
    assert "as it should be: name hundred-100 is in use" in ran.stdout
    assert "removed 100 containers" in ran.stdout
    assert "100 of 100" in ran.stderr
    before["forwarding"] = before["forwarding"].replace("0", "1", 1)
    assert host.changes(before) == ""


def test_whole_life(host: FakeHost) -> None:
    """What the library returns is what the kernel shows: network, containers, members, removal."""
    told = host.call(whole_life, host.directories)
    assert told["network"] == ["blue", "10.1.0.0/16", "10.1.0.1"]
    assert told["names"] == ["web", "db"]
    assert told["prefix"] == "db"
    assert told["members"] == ["db", "web"]
    assert told["address"] == told["shown"] == "10.1.0.9"
    assert told["missing"] == "NotFound"
    assert told["removed"] == ["web", "db"]
    assert [link["ifname"] for link in host.json("ip -j link")] == ["lo"]


def whole_life(directories: tuple[str, str]) -> dict[str, Any]:
    """Use the library as a program would."""
    told: dict[str, Any] = {}
    with dnet.open(*directories) as engine:
        blue = engine.create_network("blue", subnet="10.1.0.0/16")
        told["network"] = [blue.name, str(blue.subnet), str(blue.gateway)]
        web = engine.create("web", network="blue", ip="10.1.0.9", labels={"tier": "front"})
        other = engine.create_many([dnet.ContainerSpec(name="db", network="blue")]).containers[0]
        told["names"] = [item.name for item in engine.containers()]
        told["prefix"] = engine.container(other.id[:10]).name
        told["members"] = [item.name for item in engine.members(blue)]
        told["address"] = str(web.endpoints[0].address.ip)
        shown = os.popen(f"nsenter --net={web.sandbox} ip -4 -o address show dev eth0").read()  # noqa: S605
        told["shown"] = shown.split()[3].split("/")[0]
        try:
            engine.container("absent")
        except LookupError as error:
            told["missing"] = type(error).__name__
        told["removed"] = [item.name for item in engine.delete_many(["web", "db"])]
        engine.delete_networks(["blue"])
    return told


def test_progress(host: FakeHost) -> None:
    """The progress callback sees a rising count that ends with all, of the total asked for."""
    seen = host.call(progress, host.directories)
    assert seen
    assert [total for _, total in seen] == [200] * len(seen)
    counts = [done for done, _ in seen]
    assert counts == sorted(counts)
    assert counts[-1] == 200


def progress(directories: tuple[str, str]) -> list[tuple[int, int]]:
    """Return what the callback is told."""
    seen: list[tuple[int, int]] = []
    with dnet.open(*directories) as engine:
        specs = [dnet.ContainerSpec() for _ in range(200)]
        engine.create_many(specs, on_progress=lambda done, total: seen.append((done, total)))
    return seen


def test_errors_are_kinds(host: FakeHost) -> None:
    """Errors are Python's own kinds as well: ValueError, LookupError, OSError."""
    told = host.call(errors, host.directories)
    assert told == ["ValueError", "LookupError", "LookupError", "Conflict", "Exhausted"]


def errors(directories: tuple[str, str]) -> list[str]:
    """Make one mistake after the other."""
    told = []
    with dnet.open(*directories) as engine:
        engine.create_network("small", subnet="10.1.0.0/30")
        mistakes: list[tuple[type[Exception], Any]] = [
            (ValueError, lambda: engine.create("a/b")),
            (LookupError, lambda: engine.create("web", network="absent")),
            (LookupError, lambda: engine.delete("absent")),
            (dnet.Conflict, lambda: engine.create_network("small")),
            (dnet.Exhausted, lambda: engine.create_many([dnet.ContainerSpec(network="small")] * 2)),
        ]
        for kind, mistake in mistakes:
            try:
                mistake()
            except kind:
                told.append(kind.__name__)
    return told


def test_one_engine_after_a_failure(host: FakeHost) -> None:
    """An engine that has had a failure goes on working, and reads what other processes have done."""
    assert host.call(go_on, host.directories) == ["second", "third"]


def go_on(directories: tuple[str, str]) -> list[str]:
    """Fail, then work, beside another engine."""
    with dnet.open(*directories) as engine, dnet.open(*directories) as other:
        engine.create("first")
        for _ in range(3):
            try:
                engine.create("first")
            except dnet.Conflict:
                continue
        other.delete("first")
        engine.create("second")
        other.create("third")
        return [item.name for item in engine.containers()]


def test_engine_in_a_thread(host: FakeHost) -> None:
    """An engine works in a thread that is not the main one, where signals cannot be handled."""
    assert host.call(in_thread, host.directories) == 20
    assert len(host.pins()) == 20


def in_thread(directories: tuple[str, str]) -> int:
    """Create containers in a thread."""
    made: list[int] = []

    def work() -> None:
        with dnet.open(*directories) as engine:
            made.append(len(engine.create_many([dnet.ContainerSpec() for _ in range(20)]).containers))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return made[0]


def test_no_descriptor_is_left(host: FakeHost) -> None:
    """A closed engine has given back every descriptor, also after failures, and left no thread."""
    before, after, threads = host.call(descriptors, host.directories)
    assert after == before
    assert threads == 1


def descriptors(directories: tuple[str, str]) -> tuple[int, int, int]:
    """Count descriptors before and after the use of engines."""

    def use() -> None:
        with dnet.open(*directories) as engine:
            engine.create_many([dnet.ContainerSpec(name=f"c-{number}") for number in range(30)])
            with contextlib.suppress(dnet.Conflict):
                engine.create("c-1")
            engine.delete_many([f"c-{number}" for number in range(30)])

    use()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        use()
    return before, len(os.listdir("/proc/self/fd")), threading.active_count()


def test_many_descriptors_are_open(host: FakeHost) -> None:
    """An embedding program may have a thousand files open before: libnftables' select(2) is no obstacle."""
    assert host.call(with_many_files, host.directories) == 3


def with_many_files(directories: tuple[str, str]) -> int:
    """Create containers with more than 1,024 descriptors open."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    files = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    with dnet.open(*directories) as engine:
        made = engine.create_many([dnet.ContainerSpec() for _ in range(3)])
    for file in files:
        os.close(file)
    return len(made.containers)


def test_few_descriptors_are_enough(host: FakeHost) -> None:
    """A bulk of 300 needs no more than the usual 1,024 descriptors; 256 are enough."""
    assert host.call(with_few_files, host.directories) == 300


def with_few_files(directories: tuple[str, str]) -> int:
    """Create containers with a low limit of descriptors."""
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    with dnet.open(*directories) as engine:
        return len(engine.create_many([dnet.ContainerSpec() for _ in range(300)]).containers)


def test_descriptors_run_out(host: FakeHost) -> None:
    """When the process has no descriptor left, the bulk fails with a sentence and leaves nothing."""
    host.dnet("create", "first")
    before = host.snapshot()
    with pytest.raises(Raised, match="Too many open files") as caught:
        host.call(without_files, host.directories)
    assert caught.value.kind == "KernelRefused"
    assert host.changes(before) == ""


def without_files(directories: tuple[str, str]) -> None:
    """Create containers with hardly any descriptor left."""
    import resource

    with dnet.open(*directories) as engine:
        engine.delete_many(["nobody"], missing_ok=True)
        engine.create("warm-up")
        engine.delete("warm-up")
        lowest = os.dup(0)
        os.close(lowest)
        # A single one: enough for files, not for a namespace and the socket in it.
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1, 4096))
        engine.create_many([dnet.ContainerSpec(name=f"c-{number}") for number in range(100)])


def test_errors_survive_pickling() -> None:
    """Errors pass between processes, as executors and job queues need it."""
    import pickle

    for error in (
        dnet.Conflict("name web is in use", object="web", hint="choose another"),
        dnet.KernelRefused("create bridge dnet0", 16, "busy", hint="wait"),
    ):
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301
        assert (type(copy), str(copy), copy.object, copy.hint) == (type(error), str(error), error.object, error.hint)
        assert getattr(copy, "errno", None) == getattr(error, "errno", None)
