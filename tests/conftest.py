"""The fixtures of the public plugin: fake hosts, their neighbours, faults."""

pytest_plugins = ("dnet.testing",)
