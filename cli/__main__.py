"""`python -m dnet.cli`, for programs that call dnet back: the same as the script `dnet`."""

from dnet.cli import main

main()
