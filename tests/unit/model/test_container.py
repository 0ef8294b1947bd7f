"""The values that a caller gets back."""

from __future__ import annotations

import dataclasses

import pytest

from dnet.model.container import Link, Settings
from dnet.model.vlan import PortVlans
from tests.support import samples

VALUES = [
    samples.network(),
    samples.endpoint(samples.network(), "10.1.0.2"),
    samples.container(),
    Settings(hostname="web"),
    Link("web", "db", "database"),
    PortVlans(access=100),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_frozen(value):
    """No field of a value can be changed."""
    for field in dataclasses.fields(value):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, "other")
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.unknown = "other"


def test_link_as_docker_writes_it():
    """A link is written PARENT/ALIAS, as `docker ps` shows it for the child."""
    assert str(Link("web", "db", "database")) == "web/database"
