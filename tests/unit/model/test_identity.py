"""Names for containers that were given none."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from dnet.transaction import identity

# The command line's contract.
CONTAINER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
BRIDGE_PORTS = 1023


def test_all_names_differ():
    """No two numbers have the same name, also where numerals are added."""
    numbers = range(3 * identity.COUNT)
    assert len({identity.readable(number) for number in numbers}) == len(numbers)


def test_there_are_more_names_than_containers_on_a_bridge():
    """A full bridge of unnamed containers needs no numerals."""
    assert identity.COUNT > BRIDGE_PORTS
    assert not [name for name in map(identity.readable, range(identity.COUNT)) if re.search(r"\d", name)]


@given(st.integers(min_value=0, max_value=10**12))
def test_every_name_is_a_valid_one(number):
    """Whatever the number, the name is one that a user could have given."""
    assert CONTAINER_NAME.fullmatch(identity.readable(number))


@given(st.integers(min_value=0, max_value=10**12))
def test_a_number_has_one_name(number):
    """The name of a number is the same each time."""
    assert identity.readable(number) == identity.readable(number)


def test_names_are_two_words():
    """A name is two words of letters, as Docker's are."""
    assert all(re.fullmatch(r"[a-z]+_[a-z]+", identity.readable(number)) for number in range(identity.COUNT))
