"""Data files in, labelled frames in eV and Å out; batches for training."""

from jaxff.data import embedded, extxyz, frame_splits, npz, poscar, splits
from jaxff.data.batch import Batch
from jaxff.data.batches import Batches, batches
from jaxff.data.consistency import Consistency, consistency, implausible_lengths
from jaxff.data.dataset import Dataset
from jaxff.data.frame import Frame
from jaxff.data.frame_files import read_frames
from jaxff.data.frames import Frames, as_frames, without_invalid
from jaxff.data.hdf5_flat import write_hdf5
from jaxff.data.references import ReferenceEnergies, label_scale, reference_energies

__all__ = [
    "Batch",
    "Batches",
    "Consistency",
    "Dataset",
    "Frame",
    "Frames",
    "ReferenceEnergies",
    "as_frames",
    "batches",
    "consistency",
    "embedded",
    "extxyz",
    "frame_splits",
    "implausible_lengths",
    "label_scale",
    "npz",
    "poscar",
    "read_frames",
    "reference_energies",
    "splits",
    "without_invalid",
    "write_hdf5",
]
