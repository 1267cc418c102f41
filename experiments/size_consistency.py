r"""Two molecules far apart: what nonlocal attention makes of the sum of their energies.

    python experiments/size_consistency.py [--weights PATH]

The energy of two neutral singlets at a distance, less that of each alone, should fall to zero with
distance as a sum of known powers. In SpookyNet it does not: attention gives each atom a mean over
all atoms of the structure, however far apart, and what is missing of the total charge is shared out
among all atoms alike. Evaluated is the pretrained model in float64, for two different molecules and
for two copies of one, whose mean over both is that over one: with its attention, and with the
values set to zero (the model was not trained so: its energies mean nothing, their differences show
what is left). Energies of each term go to ``size_consistency.json``, the figure to
``size_consistency.png``.
"""

import argparse
import json
import os
import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np
from ase.build import molecule

from jaxff import System, bind, neighbor_list, pack
from jaxff.interfaces import spookynet
from jaxff.potential import Bound
from jaxff.report import canvas

HERE = Path(__file__).resolve()
PAIRS = (("H2O", "CH4"), ("H2O", "H2O"))
DISTANCES = np.geomspace(4.0, 200.0, 18)  # Å
TERMS = (
    "energy", "network_energy", "repulsion_energy", "electrostatic_energy", "dispersion_energy",
)  # fmt: skip


def without_attention(params):
    """The values of attention are zero."""
    network = dict(params["network"])
    for name in [n for n in network if n.startswith("module_")]:
        far = network[name]["nonlocal"]["branches"]
        linear = {part: leaf.at[2].set(0.0) for part, leaf in far["linear"].items()}
        network[name] = {**network[name], "nonlocal": {"branches": {**far, "linear": linear}}}
    return {**params, "network": network}


def structures(one, other):
    """Both at all distances, then each alone."""
    first, second = molecule(one), molecule(other)
    parts = [atoms.positions - atoms.get_center_of_mass() for atoms in (first, second)]
    numbers = np.concatenate([first.numbers, second.numbers])
    far = [np.concatenate([parts[0], parts[1] + [0, 0, d]]) for d in DISTANCES]
    given = [(positions, numbers) for positions in far]
    given += [(parts[0], first.numbers), (parts[1], second.numbers)]
    return pack([System(r, z, charge=0.0, spin=0.0) for r, z in given])


def measure(weights):
    potential, params = spookynet.load(weights, dtype="float64")
    evaluate, found = jax.jit(Bound.outputs), {}
    for one, other in PAIRS:
        system = structures(one, other)
        neighbors = neighbor_list(potential.cutoffs).allocate(system)
        own = found[f"{one} and {other}"] = {}
        for name, given in (("attention", params), ("none", without_attention(params))):
            outputs = evaluate(bind(potential, given), system, neighbors)
            own[name] = {
                term: (1e3 * (outputs[term][:-2] - outputs[term][-2] - outputs[term][-1])).tolist()
                for term in TERMS
            }
            charges = np.asarray(outputs["partial_charges"])
            atoms = len(molecule(one))
            last = (len(DISTANCES) - 1) * (atoms + len(molecule(other)))
            own[name]["charge_of_first"] = float(charges[last : last + atoms].sum())
    return found


def draw(record):
    figure = canvas.new_figure(10, 3.8)
    for axes, (pair, own) in zip(figure.subplots(1, 2, sharey=True), record["energies"].items(),
                                 strict=True):  # fmt: skip
        for name, color in (("attention", canvas.BLUE), ("none", canvas.ORANGE)):
            for term, style in (("energy", "-"), ("network_energy", "--")):
                label = f"{'with' if name == 'attention' else 'without'} attention, " + (
                    "total" if term == "energy" else "network alone"
                )
                axes.loglog(
                    record["distances"], np.abs(own[name][term]) + 1e-12, style, color=color,
                    label=label,
                )  # fmt: skip
        axes.set(xlabel="distance, Å", title=pair, ylim=(1e-10, None))
        canvas.tidy(axes)
    axes = figure.axes[0]
    axes.set(ylabel="|E(both) - E(one) - E(other)|, meV")
    axes.legend(fontsize=7)
    canvas.save(HERE.with_suffix(".png"), figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--weights", type=Path, help="pretrained model, fetched otherwise")
    record = {
        "distances": DISTANCES.tolist(),
        "energies": measure(parser.parse_args().weights or spookynet.download()),
        "unit": "meV",
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "flax", "numpy", "ase")},
    }
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    HERE.with_suffix(".json").write_text(text)
    draw(record)
    for pair, own in record["energies"].items():
        for name, terms in own.items():
            print(pair, name, {term: terms[term][-1] for term in TERMS}, terms["charge_of_first"])


if __name__ == "__main__":
    main()
