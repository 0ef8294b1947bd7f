"""Terminals without any privilege, on which dnet runs."""

from __future__ import annotations

import pytest

from tests.support import samples
from tests.support.unprivileged_cli import Inline, Terminal


@pytest.fixture
def inline(tmp_path, monkeypatch, capsys) -> Inline:
    """Return a terminal that runs dnet in this process."""
    return Inline(tmp_path, monkeypatch, capsys)


@pytest.fixture
def terminal(tmp_path) -> Terminal:
    """Return a terminal of which nothing exists yet."""
    return Terminal(tmp_path)


@pytest.fixture
def furnished(terminal) -> Terminal:
    """Return a terminal whose database has a network `blue`, 10.99.0.0/24, and on it a container `web`, 10.99.0.2."""
    net = samples.network("blue", "10.99.0.0/24")
    web = samples.container("web", [samples.endpoint(net, "10.99.0.2")])
    with terminal.store() as store, store.write():
        store.networks.insert(net, "")
        store.containers.insert([web], "")
        store.set_phase("network", [net.id], "ready")
        store.set_phase("container", [web.id], "ready")
    return terminal
