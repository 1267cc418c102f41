"""Vibrations in the harmonic approximation."""

from jaxff.vibrations.normal_modes import NormalModes, normal_modes, rigid_motions

__all__ = ["NormalModes", "normal_modes", "rigid_motions"]
