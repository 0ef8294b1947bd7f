"""Former name of `dnet.trial`, in the arguments of trials that run since before an upgrade."""

from __future__ import annotations

import sys

from dnet.trial import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
