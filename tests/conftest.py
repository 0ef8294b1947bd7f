"""The fixtures of tests/support/plugin.py: fake hosts, their neighbours, faults."""

import os
import signal

import pytest

# The virtual machine of tests/vm.sh, where loading this takes seconds, runs no test with examples.
if "DNET_TEST_VM" not in os.environ:
    from hypothesis import settings

    # No test asserts a time: an example that takes 0.2 s on a busy machine is no failure.
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")

# A shell that starts something in the background has it ignore these, and so would programs that tests interrupt.
for number in (signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

# Their assertions, too, say what they compared.
pytest.register_assert_rewrite("tests.support")

pytest_plugins = ("tests.support.plugin",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first what takes minutes, so that nothing waits for it in the end."""
    items.sort(key=lambda item: not item.get_closest_marker("first"))
