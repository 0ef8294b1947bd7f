"""Targets, found and resolved by a process inside a fake host."""

from __future__ import annotations

from dataclasses import asdict

from dnet.runtime import targets
from dnet.runtime.targets import Target
from tests.support.hosts import Namespace


def find(space: Namespace, text: str) -> Target:
    """Find a target."""
    return Target(**space.call(lambda: asdict(targets.find(text))))


def resolve(space: Namespace, target: Target) -> tuple[str, Target | None]:
    """Resolve a target."""

    def inside():
        resolution = targets.resolve(target)
        return str(resolution.state), resolution.target and asdict(resolution.target)

    state, fields = space.call(inside)
    return state, fields and Target(**fields)
