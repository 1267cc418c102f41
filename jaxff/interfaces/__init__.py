"""Formats of other programs."""

from jaxff.interfaces import mlff, schnetpack, sgdml, so3lr, spookynet

__all__ = ["mlff", "schnetpack", "sgdml", "so3lr", "spookynet"]
