"""Frozen values are what dataclasses with frozen=True are."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dnet.model.values import Value, frozen, replace


def defined(decorator, base):
    """Return a class with a field of every sort, made in one way or the other."""

    class Sample(base):
        number: int
        text: str = "a"
        derived: dict = dataclasses.field(init=False, repr=False, compare=False)

        def __post_init__(self):
            object.__setattr__(self, "derived", {self.number: self.text})

    return decorator(Sample)


OURS = defined(frozen, Value)
THEIRS = defined(dataclasses.dataclass(frozen=True, slots=True), object)


@pytest.mark.parametrize("kind", [OURS, THEIRS])
def test_equal(kind):
    """Two are equal, and have one hash, whose fields are equal, those apart that are left out of it."""
    one, other = kind(1, "b"), kind(number=1, text="b")
    other.derived.clear()
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other, kind(2, "b"), kind(1)}) == 3
    assert one != kind(1)


def test_classes_apart():
    """What is of another class is not equal, whatever is in it."""
    assert OURS(1) != THEIRS(1)
    assert OURS(1) != (1, "a")
    assert OURS(1) == type("Anything", (), {"__eq__": lambda *_: True})()


def test_shown():
    """A value shows the fields that are not left out of it."""
    assert repr(OURS(1)) == repr(THEIRS(1)).replace("defined.<locals>.", "") == "Sample(number=1, text='a')"


@pytest.mark.parametrize("kind", [OURS, THEIRS])
def test_frozen(kind):
    """No field can be set again or deleted, and `replace` makes another."""
    one = kind(1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="'number'"):
        one.number = 2
    with pytest.raises(dataclasses.FrozenInstanceError, match="'text'"):
        del one.text
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):  # the latter by a fault of Python's (3.11)
        one.unknown = 3
    again = dataclasses.replace(one, number=2)
    assert (one.number, again.number, again.derived) == (1, 2, {2: "a"})
    assert dataclasses.asdict(again) == {"number": 2, "text": "a", "derived": {2: "a"}}


def test_derived():
    """A class's fields come after those of its base, whichever is used first, by many threads at once."""
    for _ in range(20):

        @frozen
        class Base(Value):
            number: int

        @frozen(kw_only=True)
        class Derived(Base):
            text: str = "a"

        barrier = threading.Barrier(4)

        def make(barrier=barrier, kinds=(Base, Derived)):
            barrier.wait()
            return [kind(1) for kind in kinds]

        with ThreadPoolExecutor(4) as pool:
            made = [future.result() for future in [pool.submit(make) for _ in range(4)]]
        assert all(pair == [Base(1), Derived(1, text="a")] for pair in made)
        assert [field.name for field in dataclasses.fields(Derived)] == ["number", "text"]


def test_fields_of_a_class():
    """A class that has no value yet tells its fields all the same; one with an `__init__` of its own keeps that."""

    @frozen
    class Sample(Value):
        number: int

        def __init__(self, text: str) -> None:
            object.__setattr__(self, "number", int(text))

    assert [field.name for field in dataclasses.fields(Sample)] == ["number"]
    assert dataclasses.is_dataclass(Sample)
    assert Sample("3").number == 3


def test_subclass_with_its_own_init():
    """A class derived by other means may have an `__init__` of its own, also before the base has had a value."""

    @frozen
    class Base(Value):
        number: int

    class Derived(Base):
        def __init__(self, text: str) -> None:
            super().__init__(int(text))

    assert Derived("3").number == 3
    assert Base(4).number == 4


def test_made_anew():
    """A default is made for each value; what is given wrongly is refused by name; `replace` makes what differs."""

    @frozen
    class Sample(Value):
        number: int
        made: list = dataclasses.field(default_factory=list)

    assert Sample(1).made == []
    assert Sample(1).made is not Sample(1).made
    assert Sample(1, [2]).made == [2]
    for arguments, named in (((), {}), ((1, [], 2), {}), ((1,), {"number": 1}), ((1,), {"unknown": 1})):
        with pytest.raises(TypeError, match="__init__"):
            Sample(*arguments, **named)
    assert replace(Sample(1, [2]), number=3) == Sample(3, [2])
    assert replace(OURS(1), number=2).derived == {2: "a"}
    with pytest.raises(TypeError, match="unknown"):
        replace(Sample(1), unknown=1)
