"""Formats of other programs."""

from jaxff.interfaces import sgdml

__all__ = ["sgdml"]
