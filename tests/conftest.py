"""The fixtures of the public plugin: fake hosts, their neighbours, faults."""

import pytest

pytest_plugins = ("dnet.testing",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first what takes minutes, so that nothing waits for it in the end."""
    items.sort(key=lambda item: not item.get_closest_marker("first"))
