"""Formats of other programs."""

from jaxff.interfaces import schnetpack, sgdml

__all__ = ["schnetpack", "sgdml"]
