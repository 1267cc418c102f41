"""Data files in, labelled frames in eV and Å out."""

from jaxff.data.dataset import Dataset

__all__ = ["Dataset"]
