"""Formats of other programs."""

from jaxff.interfaces import mlff, schnetpack, sgdml

__all__ = ["mlff", "schnetpack", "sgdml"]
