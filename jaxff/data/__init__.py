"""Data files in, labelled frames in eV and Å out."""

from jaxff.data import embedded, extxyz, npz, splits
from jaxff.data.consistency import Consistency, consistency
from jaxff.data.dataset import Dataset

__all__ = ["Consistency", "Dataset", "consistency", "embedded", "extxyz", "npz", "splits"]
