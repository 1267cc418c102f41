"""Data files in, labelled frames in eV and Å out."""

from jaxff.data import embedded, extxyz, npz, splits
from jaxff.data.consistency import Consistency, consistency, implausible_lengths
from jaxff.data.dataset import Dataset

__all__ = [
    "Consistency",
    "Dataset",
    "consistency",
    "embedded",
    "extxyz",
    "implausible_lengths",
    "npz",
    "splits",
]
