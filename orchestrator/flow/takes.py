"""Flows by how many inputs they can be given by position, for the types of a start.

A flow whose other parameters have defaults takes fewer than it has. Type checkers find that out by
calling it, not by comparing parameter lists, so these are protocols and not ``Flow[[A], R]``.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from orchestrator.flow.definition import Definition

A_contra = TypeVar("A_contra", contravariant=True)
B_contra = TypeVar("B_contra", contravariant=True)
C_contra = TypeVar("C_contra", contravariant=True)
D_contra = TypeVar("D_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Recorded(Protocol):
    """What only a flow has."""

    definition: Definition


class Takes0(Recorded, Protocol[R_co]):
    """A flow that can be given no input."""

    def __call__(self) -> R_co:
        """Stand for the result."""
        ...


class Takes1(Recorded, Protocol[A_contra, R_co]):
    """A flow that can be given one input."""

    def __call__(self, a: A_contra, /) -> R_co:
        """Stand for the result."""
        ...


class Takes2(Recorded, Protocol[A_contra, B_contra, R_co]):
    """A flow that can be given two inputs."""

    def __call__(self, a: A_contra, b: B_contra, /) -> R_co:
        """Stand for the result."""
        ...


class Takes3(Recorded, Protocol[A_contra, B_contra, C_contra, R_co]):
    """A flow that can be given three inputs."""

    def __call__(self, a: A_contra, b: B_contra, c: C_contra, /) -> R_co:
        """Stand for the result."""
        ...


class Takes4(Recorded, Protocol[A_contra, B_contra, C_contra, D_contra, R_co]):
    """A flow that can be given four inputs."""

    def __call__(self, a: A_contra, b: B_contra, c: C_contra, d: D_contra, /) -> R_co:
        """Stand for the result."""
        ...
