"""Requests that a specification refuses."""

from __future__ import annotations

import pytest

from dnet.errors import InvalidRequest


def by_label(table):
    """Parametrize by a table of labelled values."""
    return [pytest.param(value, id=label) for label, value in table.items()]


def refused(call, **arguments) -> InvalidRequest:
    """Return the error of a call that has to be refused, which has to have a sentence of one line."""
    with pytest.raises(InvalidRequest) as caught:
        call(**arguments)
    assert str(caught.value)
    assert "\n" not in str(caught.value) + caught.value.hint
    return caught.value
