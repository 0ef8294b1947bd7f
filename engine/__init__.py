"""Container networks for Linux, one or thousands at a time: the public API.

    import dnet
    with dnet.open() as engine:
        blue = engine.create_network("blue", subnet="10.1.0.0/16")
        web = engine.create("web", network="blue")
        many = engine.create_many([dnet.ContainerSpec(name=f"c-{i}", network="blue") for i in range(500)])

A module is loaded when one of its names is first used, so that `import dnet` costs next to nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dnet import vlan as vlan
    from dnet.engine import Engine
    from dnet.errors import (
        Conflict,
        DnetError,
        Exhausted,
        InvalidRequest,
        KernelRefused,
        NeedsRoot,
        NotFound,
        OvsError,
        RuntimeFailed,
        StateError,
        Unsupported,
    )
    from dnet.linux.wait import wait_for_interface
    from dnet.model.attachment import Attachment, StaticRoute
    from dnet.model.attachment_spec import AttachmentSpec
    from dnet.model.container import Container, Endpoint, Link
    from dnet.model.container_spec import ContainerSpec, EndpointSpec
    from dnet.model.network import Network
    from dnet.model.network_spec import NetworkSpec
    from dnet.model.published_port import PortMapping
    from dnet.operations.attachments import Attached
    from dnet.operations.containers import Created

__version__ = "0.1.0"

__all__ = [
    "Attached",
    "Attachment",
    "AttachmentSpec",
    "Conflict",
    "Container",
    "ContainerSpec",
    "Created",
    "DnetError",
    "Endpoint",
    "EndpointSpec",
    "Engine",
    "Exhausted",
    "InvalidRequest",
    "KernelRefused",
    "Link",
    "NeedsRoot",
    "Network",
    "NetworkSpec",
    "NotFound",
    "OvsError",
    "PortMapping",
    "RuntimeFailed",
    "StateError",
    "StaticRoute",
    "Unsupported",
    "open",
    "wait_for_interface",
]

_HOMES = {
    "dnet.operations.attachments": {"Attached"},
    "dnet.model.attachment_spec": {"AttachmentSpec"},
    "dnet.linux.wait": {"wait_for_interface"},
    "dnet.model.attachment": {"Attachment", "StaticRoute"},
    "dnet.model.container": {"Container", "Endpoint", "Link"},
    "dnet.model.network": {"Network"},
    "dnet.model.container_spec": {"ContainerSpec", "EndpointSpec"},
    "dnet.model.network_spec": {"NetworkSpec"},
    "dnet.operations.containers": {"Created"},
    "dnet.engine": {"Engine"},
    "dnet.model.published_port": {"PortMapping"},
}


def __getattr__(name: str) -> object:
    if name == "vlan":  # a module of the public API
        return importlib.import_module("dnet.vlan")
    if name not in __all__:
        raise AttributeError(f"module 'dnet' has no attribute {name!r}")
    home = next((module for module, names in _HOMES.items() if name in names), "dnet.errors")
    value: object = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def open(  # noqa: A001  the module's verb, as in dbm.open and tarfile.open
    state_dir: str = "", run_dir: str = "", *, on_notice: Callable[[str], None] = lambda _: None
) -> Engine:
    """Open the engine of a state directory; it works in the network namespace in which it is first used.

    state_dir: directory of the database; by default DNET_STATE_DIR of the environment, then /var/lib/dnet
    run_dir: directory of files that do not survive a restart; by default DNET_RUN_DIR, then /run/dnet
    on_notice: receives sentences about side effects, such as that forwarding has been switched on

    Use it in `with`, or close it: that closes its database.
    """
    import os

    from dnet import engine

    return engine.Engine(
        state_dir or os.environ.get("DNET_STATE_DIR", "") or engine.STATE_DIRECTORY,
        run_dir or os.environ.get("DNET_RUN_DIR", "") or engine.RUN_DIRECTORY,
        on_notice,
    )
