"""Random ids and readable names for containers that were given none."""

from __future__ import annotations

import os

_ADJECTIVES = """
    agile ample amber balmy bold brave breezy bright brisk calm candid clever crisp daring deft eager early easy
    fair fast fine fleet fond frank free fresh gentle glad grand happy hardy hearty honest jolly keen kind lively
    lucid lucky mellow merry mild modest neat nimble noble patient plucky polite prime proud prompt quick quiet
    rapid ready robust serene sharp shiny smart snug solid spry steady still sturdy sunny swift tidy true trusty
    upbeat vivid warm wise witty zesty
""".split()  # noqa: SIM905
_NOUNS = """
    alder aspen badger beacon birch bison brook canyon cedar cliff comet condor coral crane creek delta dune eagle
    elm ember falcon fern fjord fox garnet glade grove harbor hazel heron hill ibex island jasper kestrel lagoon
    lake larch lark linden lynx maple marsh martin meadow mesa moose oak ocean orchid osprey otter owl peak pine
    plain poplar prairie quail raven reef ridge river robin rowan sable salmon sierra sparrow spruce stork summit
    swan thicket tiger valley walnut willow wren
""".split()  # noqa: SIM905
COUNT = len(_ADJECTIVES) * len(_NOUNS)


def readable(number: int) -> str:
    """Return the name that belongs to `number`, the same each time; beyond COUNT a numeral is added."""
    rest, index = divmod(number, COUNT)
    adjective, noun = divmod(index, len(_NOUNS))
    return f"{_ADJECTIVES[adjective]}_{_NOUNS[noun]}{rest or ''}"


def new_id() -> str:
    """Return 64 random hexadecimal digits."""
    return os.urandom(32).hex()
