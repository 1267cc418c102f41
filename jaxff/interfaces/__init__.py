"""Formats of other programs."""

from jaxff.interfaces import mlff, schnetpack, sgdml, so3lr

__all__ = ["mlff", "schnetpack", "sgdml", "so3lr"]
