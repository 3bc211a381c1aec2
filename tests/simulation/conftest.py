"""The lab of tests/runtime."""

from tests.runtime.conftest import open_lab

__all__ = ["open_lab"]
