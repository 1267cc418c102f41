r"""Phonons of a fitted crystal: by the exact Hessian, by phonopy on the same model, by the engine.

    python experiments/bigdml_phonons.py Si --frames 14 --lengthscale 16
    python experiments/bigdml_phonons.py graphene --frames 50 --lengthscale 4 --engine

Data, groups and fits are those of ``bigdml_curves.py``; the first frames of its split 0 are
fitted with the given length scale (that is where its record says which one is best).  phonopy moves
atoms by 0.01 Å in both directions and takes the forces of the model, with ``--engine`` also those
of GFN1-xTB.  Compared are all modes at the wave vectors that repeat with the supercell.  Record and
figures, renewed crystal by crystal: ``bigdml_phonons.json``, ``bigdml_phonons_NAME.png``.
"""

import argparse
import json
import os
import platform
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import bigdml_curves as curves  # switches to one thread and float64
import jax
import numpy as np
import phonopy
from phonopy.structure.atoms import PhonopyAtoms

from jaxff import bind, forces, gdml, report, units, vibrations
from jaxff.data import npz
from jaxff.kernels.images import lattice_of, nearest_distances
from jaxff.linalg import solvers

HERE = Path(__file__).resolve()
DISTANCE = 0.01  # Å


def fitted(name, data, group, options):
    train = data[curves.parts(name, data, 0)[0][: options.frames]]
    potential = gdml.potential(curves.kernel_of(options.symmetry, group, data.systems))
    hyper = {"lengthscale": options.lengthscale}
    params = potential.init(jax.random.key(0), train.systems, hyper=hyper)
    params, _ = gdml.fit(
        potential, params, train.labels("forces"), solver=solvers.auto(), **curves.REGULARIZATION,
    )  # fmt: skip
    return bind(potential, params)


def by_displacements(pull, ideal, crystal, points, symmetric=True):
    """Frequencies in THz from forces of displaced supercells, in the order of the data.

    Of models that do not have the crystal's point symmetry phonopy must not suppose it.
    """
    own = crystal.representatives
    cell = PhonopyAtoms(
        numbers=crystal.numbers[own], positions=crystal.positions[own], cell=crystal.cell,
        masses=units.masses(crystal.numbers[own]),
    )  # fmt: skip
    other = phonopy.Phonopy(cell, crystal.repeats.T, primitive_matrix=np.eye(3), log_level=0,
                            is_symmetry=symmetric)  # fmt: skip
    other.generate_displacements(distance=DISTANCE, is_plusminus=True)
    lattice = lattice_of(ideal.cell, ideal.pbc)
    places = nearest_distances(np.asarray(ideal.positions), other.supercell.positions, lattice)
    order, found = places.argmin(axis=1), []
    for moved in other.supercells_with_displacements:
        values = np.empty_like(moved.positions)
        values[order] = pull(moved.positions[order])
        found.append(values)
    other.forces = found
    other.produce_force_constants()
    other.run_qpoints(points)
    return np.sort(other.qpoints.frequencies, axis=1), len(found)


def engine_of(ideal):
    """Forces of the engine that labelled graphene."""
    from ase import Atoms
    from tblite.ase import TBLite

    atoms = Atoms(np.asarray(ideal.numbers), cell=np.asarray(ideal.cell), pbc=True)
    atoms.calc = TBLite(method="GFN1-xTB", verbosity=0, accuracy=0.1)

    def pull(positions):
        atoms.positions = positions
        return atoms.get_forces()

    return pull


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=["Li", "Mo", "Si", "graphene"])
    parser.add_argument("--folder", type=Path, default=curves.HERE.with_name("bigdml"))
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--lengthscale", type=float, required=True)
    parser.add_argument("--symmetry", choices=curves.SYMMETRIES, default="full")
    parser.add_argument("--engine", action="store_true")
    parser.add_argument("--record", type=Path, default=HERE.with_suffix(".json"))
    options = parser.parse_args()
    name, files = options.name, curves.FILES
    path = curves.DATA / files[name] if name in files else options.folder / f"{name}.npz"
    data = npz.read(path)
    ideal, group = curves.ideal_of(name, data, options.folder)
    start = time.process_time()
    model = fitted(name, data, group, options)
    between = time.process_time()
    found = vibrations.phonons(model, ideal, average=options.symmetry == "none")
    spent = time.process_time()
    points = found.commensurate_points
    exact = found.frequencies(points)
    compiled = jax.jit(lambda model, r: forces(model)(ideal.replace(positions=r)))
    displaced, moves = by_displacements(
        lambda r: np.asarray(compiled(model, r)),
        ideal,
        found.crystal,
        points,
        options.symmetry == "full",
    )
    gamma = exact[np.argmin(np.abs(points).sum(axis=1))]
    entry = {
        "symmetry": options.symmetry, "order": len(group) if options.symmetry == "full" else None,
        "frames": options.frames, "lengthscale": options.lengthscale,
        "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "phonopy", "spglib")},
        "cpu_s_fit": between - start, "cpu_s_phonons": spent - between,
        "points": len(points), "highest_thz": float(exact.max()), "lowest_thz": float(exact.min()),
        "acoustic_at_gamma_thz": np.sort(np.abs(gamma))[:3].tolist(),
        "sum_rule_ev_per_ang2": found.sum_rule, "asymmetry_ev_per_ang2": found.asymmetry,
        "displaced_supercells": moves,
        "largest_difference_from_phonopy_thz": float(np.abs(exact - displaced).max()),
    }  # fmt: skip
    if options.engine:
        truth, _ = by_displacements(engine_of(ideal), ideal, found.crystal, points)
        entry["engine_mean_difference_thz"] = float(np.abs(exact - truth).mean())
        entry["engine_largest_difference_thz"] = float(np.abs(exact - truth).max())
        entry["engine_highest_thz"] = float(truth.max())
    record = json.loads(options.record.read_text()) if options.record.exists() else {}
    options.record.write_text(json.dumps(record | {name: entry}, indent=1) + "\n")
    periodic = [True, True, name != "graphene"]
    way = vibrations.band_path(found.crystal.cell, pbc=periodic)
    figure = report.bands(found.modes(way.points), way, f"{name}, {options.frames} geometries")
    report.save(options.record.with_name(f"{options.record.stem}_{name}.png"), figure, dpi=110)
    print(json.dumps(entry, indent=1))


if __name__ == "__main__":
    main()
