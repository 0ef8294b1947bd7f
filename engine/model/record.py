"""Records of the database that callers never see."""

from __future__ import annotations

from typing import NamedTuple

from dnet.model.container import shared_id
from dnet.model.values import Value, frozen
from dnet.model.vlan import PortVlans


class ContainerHead(NamedTuple):
    """What a container is called, and whose network it has."""

    id: str
    name: str
    mode: str

    @property
    def shares(self) -> str:
        """The id of the container whose sandbox it has; nothing when it has its own."""
        return shared_id(self.mode)


@frozen
class MadeBridge(Value):
    """A bridge that was made because somebody attached to it; `mark` is that of one of Open vSwitch, else empty."""

    device: str
    device_index: int
    mark: str = ""


@frozen
class LeftBehind(Value):
    """A bridge of Open vSwitch, or a port of `bridge`, still in the database that `connection`, as JSON, leads to."""

    name: str
    mark: str
    bridge: str
    connection: str


@frozen
class Adoption(Value):
    """An interface that is, or is being made, a port of a network's bridge; `snapshot` is uplink_snapshot's text.

    `vlans` are those asked for. In phase `trial` the interface is given back unless somebody confirms it. In phase
    `restoring` it is made a port again; it is remembered whether that succeeds or not.
    """

    interface: str
    network_id: str
    snapshot: str
    phase: str
    owner: str
    vlans: PortVlans | None = None
