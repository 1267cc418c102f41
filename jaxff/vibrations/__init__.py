"""Vibrations in the harmonic approximation, and as they appear in dynamics."""

from jaxff.vibrations.animation import write_modes
from jaxff.vibrations.band_paths import BandPath, band_path, through_points
from jaxff.vibrations.from_potential import modes_of
from jaxff.vibrations.normal_modes import NormalModes, normal_modes, rigid_motions
from jaxff.vibrations.phonons import PhononModes, Phonons, phonons
from jaxff.vibrations.spectra import (
    Peaks,
    Spectrum,
    density_of_states,
    find_peaks,
    project,
    undo_verlet,
)
from jaxff.vibrations.supercells import Supercell, supercell_of
from jaxff.vibrations.thermochemistry import Thermochemistry, harmonic, ideal_gas

__all__ = [
    "BandPath",
    "NormalModes",
    "Peaks",
    "PhononModes",
    "Phonons",
    "Spectrum",
    "Supercell",
    "Thermochemistry",
    "band_path",
    "density_of_states",
    "find_peaks",
    "harmonic",
    "ideal_gas",
    "modes_of",
    "normal_modes",
    "phonons",
    "project",
    "rigid_motions",
    "supercell_of",
    "through_points",
    "undo_verlet",
    "write_modes",
]
