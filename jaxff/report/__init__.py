"""Figures and self-contained pages: errors of a model, vibrations, runs.

Figures are drawn by Matplotlib's Agg renderer without its global state, and imported on use.
"""

from jaxff.report.accuracy import force_errors, parity
from jaxff.report.canvas import save
from jaxff.report.coarse import distributions, free_energies
from jaxff.report.dynamics import conservation, ring_polymers
from jaxff.report.page import Section, Table, facts, page
from jaxff.report.recorded import Recorded, read_run
from jaxff.report.run import environment, run_sections, write_run
from jaxff.report.vibrations import bands, frequencies, spectrum

__all__ = [
    "Recorded",
    "Section",
    "Table",
    "bands",
    "conservation",
    "distributions",
    "environment",
    "facts",
    "force_errors",
    "free_energies",
    "frequencies",
    "page",
    "parity",
    "read_run",
    "ring_polymers",
    "run_sections",
    "save",
    "spectrum",
    "write_run",
]
