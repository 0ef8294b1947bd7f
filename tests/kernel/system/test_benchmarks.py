"""The benchmark's topics that take seconds, with tiny sizes: they run, and say what they are to say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.container_processes import require, require_runtime
from tests.support.plugin import require_root

ROOT = Path(__file__).parents[3]


@pytest.mark.kernel
def test_topic_run(tmp_path: Path) -> None:
    """The topic `run` measures dnet, its OCI runtime and Docker, and judges nothing at such sizes."""
    require_root()
    require_runtime()
    require(gcc="gcc", dockerd="docker.io", docker="docker.io", busybox="busybox-static")
    options = ("--quick", "--only", "run", "--sizes", "2", "--output", str(tmp_path))
    command = [sys.executable, "-m", "benchmarks", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "docker run --rm SMALL true" in done.stdout
    document = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    measured = {(one["task"], one["contestant"]) for one in document["measurements"]}
    assert measured == {("linked", "dnet"), ("linked", "dnet, -p --dns --link"), ("run", "dnet"), ("run", "docker")}
    sentences = {one["sentence"]: one["verdict"] for one in document["findings"]}
    assert len(sentences) == 4
    assert set(sentences.values()) == {"not judged", ""}
