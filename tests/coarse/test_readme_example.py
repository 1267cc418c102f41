"""The example of the README, on 22 atoms on springs, with few models and steps."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxff import units
from jaxff.descriptors import chiral_distances
from jaxff.kernels import Kernel, matern52
from jaxff.system import System

README = Path(__file__).resolve().parents[2] / "README.md"
STIFF = 30.0  # eV/Å²
SHORTER = {
    r"sizes\(len\(labels\)\)": "sizes(len(labels), batch=20, batches=2, second=30)",
    r"replicas=100": "replicas=3",
    r"steps=100_000": "steps=20",
}


@pytest.mark.slow
def test_example_runs():
    text = README.read_text()
    (example,) = re.findall(r"```\n(from jaxff import analysis, coarse.*?)```", text, re.DOTALL)
    for long, short in SHORTER.items():
        example, count = re.subn(long, short, example)
        assert count == 1
    rng = np.random.default_rng(0)
    turn = 1.7 * np.arange(22)
    ideal = np.stack([1.5 * np.cos(turn), 1.5 * np.sin(turn), 0.5 * turn], axis=1)
    moved = np.sqrt(units.BOLTZMANN * 300.0 / STIFF) * rng.normal(size=(300, 22, 3))
    phi, psi = (0, 1, 2, 4), (1, 2, 4, 5)
    given = {
        "np": np, "positions": ideal + moved, "forces": -STIFF * moved, "phi": phi, "psi": psi,
        "bonds": [(0, 1), (1, 2), (2, 3)], "angles": [(0, 1, 2), (1, 2, 4)],
        "kernel": Kernel(chiral_distances([phi, psi]), matern52), "key": jax.random.key(0),
        "start": System(ideal[[4, 6, 8, 10, 14, 16]], [6, 7, 6, 6, 6, 7]),
    }  # fmt: skip
    exec(compile(example, "README.md", "exec"), given)
    assert given["made"].bagged.models == 2
    assert given["surface"].probability.sum() == pytest.approx(1.0)
