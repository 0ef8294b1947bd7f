"""What all objects have in common, and the absence of one."""

from __future__ import annotations

from typing import ClassVar

from dnet.model.values import Value, frozen


@frozen
class Object(Value):
    """Base of all. `str(object)` is the phrase used in plans and errors.

    A subclass says in its `class` statement which `backend` creates it, whether it is `owned`, which means that it
    goes with another object and need not be deleted, and the `kind` that `plan --json` prints (else its name).
    """

    backend: ClassVar[str] = "kernel"
    owned: ClassVar[bool] = False
    kind: ClassVar[str] = "Object"

    def __init_subclass__(cls, *, backend: str = "", owned: bool | None = None, kind: str = "") -> None:
        cls.backend = backend or cls.backend
        cls.owned = cls.owned if owned is None else owned
        cls.kind = kind or cls.__name__

    @property
    def absence(self) -> str:
        """The phrase for its absence."""
        return f"no {self}"


@frozen
class Device(Object):
    """An object that is about one device, on the host or, with `sandbox`, inside the sandbox of that name.

    `index` 0 is a device of the host's whose index somebody else has chosen, and which goes by its name.
    """

    device: str
    index: int
    sandbox: str

    @property
    def place(self) -> str:
        """Where the device is, for people."""
        return f"{self.device} in sandbox {self.sandbox}" if self.sandbox else self.device

    def __str__(self) -> str:
        return self.place


@frozen
class Setting(Device, owned=True):
    """Something that goes with its device: a state, an address, a route."""


@frozen
class Absent(Object, owned=True):
    """The absence of an object: creating it removes `item`.

    Of a plain Device, it is the absence of a device that was born inside a sandbox.
    """

    item: Object

    def __post_init__(self) -> None:
        object.__setattr__(self, "backend", self.item.backend)
        object.__setattr__(self, "kind", f"No{self.item.kind}")

    def __str__(self) -> str:
        return self.item.absence
