"""The common part of all kernel objects."""

from __future__ import annotations

from typing import ClassVar

from dnet.model.values import Value, frozen


@frozen
class Object(Value):
    """Base of all. `str(object)` is the phrase used in plans and errors."""

    backend: ClassVar[str]
    owned: ClassVar[bool] = False


@frozen
class Device(Object):
    """An object that is about one device, on the host or, with `sandbox`, inside the sandbox of that name.

    `index` 0 is a device of the host's whose index somebody else has chosen, and which goes by its name.
    """

    backend: ClassVar[str] = "kernel"
    device: str
    index: int
    sandbox: str

    @property
    def place(self) -> str:
        """Where the device is, for people."""
        return f"{self.device} in sandbox {self.sandbox}" if self.sandbox else self.device
