"""The tests: a package, so that they can share the service machinery in ``tests.services``."""
