"""Runs `examples.index_library` with everything it needs, kills its workers if asked to, and
proves from the database and the results that nothing is lost and nothing counted twice.

It uses no service and no ORCHESTRATOR_* variable that it finds: see `orchestrator.cli.processes`.
"""

from examples.demo.command import main

__all__ = ["main"]
