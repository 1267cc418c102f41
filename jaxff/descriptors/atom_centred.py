"""What descriptors of the surroundings of each atom have in common."""

from abc import ABC, abstractmethod

import numpy as np

from jaxff.descriptors.environments import CUTOFF_FUNCTIONS, permute_atoms

__all__ = ["AtomCentred", "WithCutoffFunction"]


class AtomCentred(ABC):
    """Features ``(atoms, size)``, whose rows go with the atoms."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Features per atom."""

    def permute(self, permutations: np.ndarray) -> np.ndarray:
        """Indices of the flattened features of permuted equal atoms."""
        return permute_atoms(permutations, self.size)


class WithCutoffFunction(AtomCentred):
    """Neighbours fade out by the cutoff function of this name."""

    cutoff_function: str

    @property
    def smoothness(self) -> float:
        """Number of derivatives that are continuous at the cutoff."""
        return CUTOFF_FUNCTIONS[self.cutoff_function]
