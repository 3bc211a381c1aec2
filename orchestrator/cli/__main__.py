"""``python -m orchestrator.cli``: the command line without its installed script."""

from orchestrator.cli import main

main()
