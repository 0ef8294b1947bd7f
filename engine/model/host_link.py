"""Interfaces of the host, as who attaches to them by hand has to know them."""

from __future__ import annotations

from typing import NamedTuple


class HostLink(NamedTuple):
    """An interface of the host, and what kind it is."""

    name: str
    is_bridge: bool
    is_switch: bool  # a bridge of Open vSwitch
    is_infiniband: bool
