r"""Two molecules or ions that part: the pretrained SpookyNet beside closed forms, and beside HSE06.

    python experiments/dissociation.py [--weights PATH] [--data FOLDER]

*Terms.* Electrostatics between two molecules must become what the charges and dipoles of both say,
:math:`k (Q_A Q_B/R + (Q_B \mu_A - Q_A \mu_B)/R^2 - 2 \mu_A\mu_B/R^3)` with dipoles along the axis,
and dispersion :math:`-C_6/R^6`. Multipoles are those that the model gives at the largest distance.
Whether they are the right ones is another question: ions have whole charges, and molecules beside
them none; in the model the charge is shared out by a network that knows of all atoms of the
structure. ``charge_of_first`` says how, beside the charge of the free molecule. There are
no charge-induced dipoles beyond the cutoff of the network. Energies are less that of the same
structure at 10 µm, so that what does not fall to zero does not show: that is the subject of
``experiments/size_consistency.py``.

*Energies* of two pairs of molecules at 13 distances, ``lode_dimers`` in the folder of the data
(ethylguanidinium with acetate, total charge 0, and with ethane, +1; HSE06+MBD in a cell of 30 Å;
Huguenin-Dumittan et al., J. Phys. Chem. Lett. 14, 9612 (2023)). Zeros of the energies of charged
molecules in a cell differ from those of whole pairs, so that only differences from the largest
distance count, and the force between the molecules along the line of their centres. The model is
evaluated in vacuum, and with electrostatics of all images of that cell.

The record goes to ``dissociation.json``, the figure to ``dissociation.png``.
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

import ase.io
import numpy as np
from ase import Atoms
from ase.build import molecule
from matplotlib.ticker import NullFormatter

from jaxff import System, bind, neighbor_list, observe, physics, stack, units
from jaxff.interfaces import spookynet
from jaxff.potential import Bound
from jaxff.report import canvas

HERE = Path(__file__).resolve()
DISTANCES = np.append(np.geomspace(4.0, 100.0, 20), 1e5)  # Å; the last is the zero of energies
FAR = 14.0  # Å, of the sums over pairs in cells
PAIRS = {"ethylguanidinium and acetate": (0, 0.0), "ethylguanidinium and ethane": (2, 1.0)}


def fragments():
    """Molecules around their centres of mass, the dipole of water along z."""
    water = molecule("H2O")
    water.positions *= [1, 1, -1]  # oxygen towards what lies below
    corners = 1.02 / np.sqrt(3) * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    found = {
        "water": water, "ammonium": Atoms("NH4", np.vstack([np.zeros((1, 3)), corners])),
        "argon": Atoms("Ar"), "sodium": Atoms("Na"), "chlorine": Atoms("Cl"),
    }  # fmt: skip
    for atoms in found.values():
        atoms.positions -= atoms.get_center_of_mass()
    return found


# First, second, charges that they should have, and the term that is looked at.
DIMERS = {
    "two ammonium ions": ("ammonium", "ammonium", (1, 1), "electrostatic"),
    "sodium and chloride ion": ("sodium", "chlorine", (1, -1), "electrostatic"),
    "ammonium ion and water": ("ammonium", "water", (1, 0), "electrostatic"),
    "two water molecules": ("water", "water", (0, 0), "electrostatic"),
    "two argon atoms": ("argon", "argon", (0, 0), "dispersion"),
}


def padded(positions, numbers, charge, room, **more):
    """A system with atoms of number 0 at its end, so that all have one shape."""
    rest = room - len(numbers)
    return System(
        np.vstack([positions, np.zeros((rest, 3))]), np.append(numbers, np.zeros(rest, int)),
        charge=float(charge), spin=0.0, **more,
    )  # fmt: skip


def dimers(potential, params):
    """Terms between the molecules of each dimer, and closed forms of them, in eV."""
    parts, systems = fragments(), []
    for one, other, charges, _ in DIMERS.values():
        numbers = np.append(parts[one].numbers, parts[other].numbers)
        for distance in DISTANCES:
            moved = parts[other].positions + np.array([0, 0, distance])
            positions = np.vstack([parts[one].positions, moved])
            systems.append(padded(positions, numbers, sum(charges), 10))
    # Free molecules, with the charges that they should have.
    free = {(name, q) for one, other, qs, _ in DIMERS.values() for name, q in
            zip((one, other), qs, strict=True)}  # fmt: skip
    free = sorted(free)
    systems += [padded(parts[name].positions, parts[name].numbers, q, 10) for name, q in free]
    neighbors = neighbor_list(potential.cutoffs).allocate_stack(stack(systems))
    outputs = jax.jit(Bound.outputs)(bind(potential, params), stack(systems), neighbors)
    outputs = {name: np.asarray(value) for name, value in outputs.items()}
    dipoles = dict(zip(free, outputs["dipole"][-len(free) :, 2], strict=True))
    found = {}
    step = np.log(DISTANCES[-2] / DISTANCES[-3])
    for index, (name, (one, other, charges, term)) in enumerate(DIMERS.items()):
        rows = slice(index * len(DISTANCES), (index + 1) * len(DISTANCES))
        sizes = len(parts[one]), len(parts[other])
        own = {key: value[rows] for key, value in outputs.items()}
        first, second = (parts[key].positions[:, 2] for key in (one, other))
        q = own["partial_charges"][-1]
        q_first, q_second = q[: sizes[0]], q[sizes[0] : sum(sizes)]
        model = multipoles(q_first.sum(), q_second.sum(), q_first @ first, q_second @ second)
        ideal = multipoles(*charges, *(dipoles[key] for key in zip((one, other), charges,
                                                                  strict=True)))  # fmt: skip
        if term == "dispersion":
            model = ideal = -own["atomic_c6"][-1][0] / DISTANCES[:-1] ** 6
            between = own["dispersion_energy"] - own["dispersion_energy"][-1]
        else:
            between = electrostatics(own["partial_charges"], parts, one, other)
        total = own["energy"] - own["energy"][-1]
        found[name] = {
            "term": term, "between": between[:-1].tolist(), "closed_form": model.tolist(),
            "ideal": ideal.tolist(), "energy": total[:-1].tolist(),
            "charge_of_first": float(q_first.sum()), "right_charge": charges[0],
            "dipole_of_second": float(q_second @ second),
            "dipole_of_free_second": float(dipoles[other, charges[1]]),
            "power": float(np.log(between[-2] / between[-3]) / step),
            "ratio_to_closed_form": float(between[-2] / model[-1]),
            "ratio_to_ideal": float(between[-2] / ideal[-1]) if ideal[-1] else None,
        }  # fmt: skip
    return found


def multipoles(charge, other_charge, dipole, other_dipole):
    """Electrostatics of charges and dipoles along the axis, eV."""
    distances = DISTANCES[:-1]
    return units.COULOMB * (
        charge * other_charge / distances
        + (other_charge * dipole - charge * other_dipole) / distances**2
        - 2 * dipole * other_dipole / distances**3
    )


def electrostatics(charges, parts, one, other):
    """Between the charges of both molecules, at all distances, eV."""
    first, second = parts[one].positions, parts[other].positions
    result = []
    for q, distance in zip(charges, DISTANCES, strict=True):
        apart = np.linalg.norm(first[:, None] - second - [0, 0, distance], axis=2)
        bare = physics.softened(apart, reach=5.291772105638412)
        pairs = np.outer(q[: len(first)], q[len(first) : len(first) + len(second)])
        result.append(units.COULOMB * float(np.sum(pairs * np.asarray(bare))))
    return np.array(result)


def reference(data):
    """Frames of each pair in the order of their distances."""
    found = {}
    for name, (number, charge) in PAIRS.items():
        files = [Path(data, "lode_dimers", f"{part}-id{number}.xyz") for part in ("train", "test")]
        frames = [atoms for file in files for atoms in ase.io.read(file, ":")]
        found[name] = sorted(frames, key=lambda atoms: atoms.info["distance"]), charge
    return found


def against_reference(weights, data):
    """Energies from the largest distance on, eV, and forces between the molecules, eV/Å."""
    known = reference(data)
    found, room = {}, max(len(frames[0]) for frames, _ in known.values())
    for name, (frames, _) in known.items():
        energy = np.array([atoms.get_potential_energy() for atoms in frames])
        found[name] = {
            "distances": [float(atoms.info["distance"]) for atoms in frames],
            "HSE06+MBD": {
                "energy": (energy - energy[-1]).tolist(),
                "force": [between(atoms, atoms.get_forces()) for atoms in frames],
                "zero": float(frames[-1].info["inter_energy"]),
            },
        }  # fmt: skip
    for where in ("vacuum", "cell"):
        options, systems = {}, []
        for frames, charge in known.values():
            for atoms in frames:
                more = {} if where == "vacuum" else {"cell": np.asarray(atoms.cell)}
                systems.append(padded(atoms.positions, atoms.numbers, charge, room, **more))
        if where == "cell":
            plan = physics.ewald_plan(systems[0].cell, cutoff=FAR)
            options = {"long_range_cutoff": FAR, "ewald": plan}
        potential, params = spookynet.load(weights, dtype="float64", **options)
        neighbors = neighbor_list(potential.cutoffs).allocate_stack(stack(systems))
        names = ("energy", "forces", "partial_charges")
        predicted = jax.jit(observe(bind(potential, params), names))(stack(systems), neighbors)
        energy, forces, charges = (np.asarray(predicted[key]) for key in names)
        begin = 0
        for name, (frames, _) in known.items():
            rows = np.arange(begin, begin + len(frames))
            begin += len(frames)
            own = {
                "energy": (energy[rows] - energy[rows[-1]]).tolist(),
                "force": [between(a, forces[k]) for a, k in zip(frames, rows, strict=True)],
            }
            right = found[name]["HSE06+MBD"]
            off = {key: np.subtract(own[key], right[key]) for key in own}
            first = int(frames[0].info["indexB"])
            found[name][where] = own | {
                "rmse": {key: float(np.sqrt(np.mean(value**2))) for key, value in off.items()},
                "charge_of_first": charges[rows, :first].sum(axis=1).tolist(),
            }
    return found


def between(atoms, forces):
    """Force on the first molecule towards the second, along the line of their centres."""
    cut = int(atoms.info["indexB"])
    axis = atoms.positions[cut:].mean(axis=0) - atoms.positions[:cut].mean(axis=0)
    return float(np.asarray(forces)[:cut].sum(axis=0) @ axis / np.linalg.norm(axis))


def draw(record):
    figure = canvas.new_figure(15, 7)
    rows = figure.subplots(2, 4).ravel()
    for axes, (name, own) in zip(rows, record["dimers"].items(), strict=False):
        axes.loglog(DISTANCES[:-1], np.abs(own["between"]), "-", color=canvas.BLUE, label="model")
        axes.loglog(
            DISTANCES[:-1], np.abs(own["closed_form"]), "--", color=canvas.ORANGE,
            label="closed form, charges and dipoles of the model",
        )  # fmt: skip
        if own["term"] == "electrostatic":
            axes.loglog(
                DISTANCES[:-1], np.abs(own["ideal"]), ":", color=canvas.GREY,
                label="whole charges, dipoles of free molecules",
            )  # fmt: skip
        axes.set_title(f"{name}: {own['term']}\npower {own['power']:.2f} at 100 Å", fontsize=9)
        axes.set(xlabel="distance, Å", ylabel="|energy|, eV")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_formatter(NullFormatter())
        canvas.tidy(axes)
    for axes, (name, own) in zip(rows[5:], record["reference"].items(), strict=False):
        distances = own["distances"]
        axes.plot(distances, own["HSE06+MBD"]["energy"], "o", ms=4, color="k", label="HSE06+MBD")
        for where, color in (("vacuum", canvas.GREEN), ("cell", canvas.PURPLE)):
            label = f"model, {'all images of the cell' if where == 'cell' else 'in vacuum'}"
            axes.plot(distances, own[where]["energy"], color=color, label=label)
        axes.set_title(f"{name}\nenergy", fontsize=9)
        axes.set(xlabel="distance, Å", ylabel="energy from that at 15 Å, eV")
        axes.legend(fontsize=7)
        canvas.tidy(axes)
    rows[7].axis("off")
    rows[7].legend(*rows[2].get_legend_handles_labels(), loc="upper left", fontsize=8)
    canvas.save(HERE.with_suffix(".png"), figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--weights", type=Path, help="pretrained model, fetched otherwise")
    parser.add_argument("--data", default=os.environ.get("JAXFF_DATA", "../shared/data"))
    options = parser.parse_args()
    options.weights = options.weights or spookynet.download()
    record = {
        "distances": DISTANCES[:-1].tolist(),
        "dimers": dimers(*spookynet.load(options.weights, dtype="float64")),
        "reference": against_reference(options.weights, options.data),
        "units": {"energy": "eV", "force": "eV/Å", "distance": "Å", "charge": "e"},
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "flax", "numpy", "ase")},
    }
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    HERE.with_suffix(".json").write_text(text)
    draw(record)
    for name, own in record["dimers"].items():
        print(name, {k: v for k, v in own.items() if not isinstance(v, list)})
    for name, own in record["reference"].items():
        print(name, {where: own[where]["rmse"] for where in ("vacuum", "cell")})


if __name__ == "__main__":
    main()
