"""All-atom alanine dipeptide in implicit solvent: positions and forces for coarse graining.

    python experiments/alanine_dipeptide/generate.py FOLDER --frames 40000 --seed 5 --workers 2
    python experiments/alanine_dipeptide/generate.py FOLDER --subset

Amber ff99SB-ILDN with the implicit solvent OBC2 at 300 K, no constraints, time step 1 fs, on
OpenMM's Reference platform (pip install openmm), which is deterministic. Four chains, one from each
basin (αR, C7eq, PPII, αL), are written as blocks FOLDER/chain<c>_<block>.npz, data sets of all 22
atoms that jaxff reads; each block begins where the one before it ends, with a seed of its own. A
run that is interrupted goes on with the same command, and gives what it would have given.

αL is rare and slow to leave. So a bias acts on φ alone, a Fourier series that is found first by
variational enhanced sampling (towards a uniform φ, then scaled down). Forces are stored without it.
It is a function of the beads C, N, CA, CB, C, N, at which mean forces are the same with and without
it; averages over frames need their ``weights``, exp(bias/kT).

``--subset`` writes the six beads of 2000 frames, with forces of the map of least noise, and what
the trajectory is and how it was checked, beside this script.

References: Hornak et al., Proteins 65, 712 (2006), doi:10.1002/prot.21123 and Lindorff-Larsen et
al., Proteins 78, 1950 (2010), doi:10.1002/prot.22711 (force field); Onufriev, Bashford & Case,
Proteins 55, 383 (2004), doi:10.1002/prot.20033 (solvent); Valsson & Parrinello, Phys. Rev. Lett.
113, 090601 (2014), doi:10.1103/PhysRevLett.113.090601 (bias); Zhang et al., J. Phys. Chem. A 123,
6056 (2019), doi:10.1021/acs.jpca.9b02771 (integrator); Krämer et al., J. Phys. Chem. Lett. 14, 3970
(2023), doi:10.1021/acs.jpclett.3c00444 (forces of beads).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

try:
    import openmm
    from openmm import app, unit
except ImportError as error:
    raise SystemExit("this script needs OpenMM: pip install openmm") from error

HERE = Path(__file__).resolve().parent
KELVIN, TIMESTEP, FRICTION = 300.0, 1.0, 1.0  # K, fs, 1/ps
THERMAL = 8.31446261815324e-3 * KELVIN  # kJ/mol
BLOCK = 500  # frames
BASINS = {"alpha_R": (-70, -30), "C7eq": (-85, 75), "PPII": (-70, 150), "alpha_L": (55, 40)}
PHI, PSI = (4, 6, 8, 14), (6, 8, 14, 16)
BEADS = (4, 6, 8, 10, 14, 16)  # C, N, CA, CB, C, N
HARMONICS, SCALE = 6, 0.7  # of the bias
FORCES, BIAS, RESTRAINT = 0, 1, 2  # groups of forces

ELEMENTS = "HCHHCONHCHCHHHCONHCHHH"
RESIDUES = (("ACE", 0), ("ALA", 6), ("NME", 16))  # and their first atoms
# Atom, and the three that its bond (Å), angle and dihedral (degrees) refer to; f and p stand for
# φ and ψ.
GEOMETRY = (
    (5, 6, 1, 4, 1.23, 120.5, "180"), (8, 1, 4, 6, 1.45, 122.0, "180"),
    (7, 8, 4, 6, 1.01, 119.0, "180"), (14, 4, 6, 8, 1.525, 110.0, "f"),
    (10, 4, 6, 8, 1.53, 110.0, "f-122"), (9, 4, 6, 8, 1.09, 109.0, "f+119"),
    (16, 6, 8, 14, 1.335, 116.5, "p"), (15, 6, 8, 14, 1.23, 120.5, "p+180"),
    (18, 8, 14, 16, 1.45, 122.0, "180"), (17, 18, 14, 16, 1.01, 119.0, "180"),
    (0, 6, 4, 1, 1.09, 109.5, "60"), (2, 6, 4, 1, 1.09, 109.5, "180"),
    (3, 6, 4, 1, 1.09, 109.5, "300"), (11, 6, 8, 10, 1.09, 109.5, "60"),
    (12, 6, 8, 10, 1.09, 109.5, "180"), (13, 6, 8, 10, 1.09, 109.5, "300"),
    (19, 14, 16, 18, 1.09, 109.5, "60"), (20, 14, 16, 18, 1.09, 109.5, "180"),
    (21, 14, 16, 18, 1.09, 109.5, "300"),
)  # fmt: skip


# --- the molecule ------------------------------------------------------------------------------


def built(phi: float, psi: float) -> np.ndarray:
    """L-alanine dipeptide with these dihedrals (degrees), Å."""
    places = np.zeros((len(ELEMENTS), 3))
    bend = np.radians(180.0 - 116.5)
    places[4] = [1.52, 0.0, 0.0]
    places[6] = places[4] + 1.335 * np.array([np.cos(bend), np.sin(bend), 0.0])
    for atom, a, b, c, length, angle, text in GEOMETRY:
        base = {"f": phi, "p": psi}.get(text[0], 0.0)
        turn = np.radians(base + float(text.lstrip("fp") or 0.0))
        along = places[c] - places[b]
        along /= np.linalg.norm(along)
        normal = np.cross(places[b] - places[a], along)
        normal /= np.linalg.norm(normal)
        across = np.cross(normal, along)
        bend = np.radians(180.0 - angle)
        sides = np.sin(bend) * (np.cos(turn) * across + np.sin(turn) * normal)
        places[atom] = places[c] + length * (np.cos(bend) * along + sides)
    return places


def topology() -> app.Topology:
    made = app.Topology()
    chain = made.addChain()
    firsts = [first for _, first in RESIDUES] + [len(ELEMENTS)]
    for (name, first), last in zip(RESIDUES, firsts[1:], strict=True):
        residue = made.addResidue(name, chain)
        for index in range(first, last):
            element = app.Element.getBySymbol(ELEMENTS[index])
            made.addAtom(f"{ELEMENTS[index]}{index}", element, residue)
    atoms = list(made.atoms())
    for i, j in [(1, 4), (4, 6), *((row[0], row[3]) for row in GEOMETRY)]:
        made.addBond(atoms[i], atoms[j])
    return made


def molecule(bias: np.ndarray) -> openmm.System:
    """Force field, bias and a restraint of φ and ψ that is off, each in a group of its own."""
    field = app.ForceField("amber99sbildn.xml", "amber99_obc.xml")
    system = field.createSystem(
        topology(), nonbondedMethod=app.NoCutoff, constraints=None, removeCMMotion=False
    )
    for force in system.getForces():
        force.setForceGroup(FORCES)
    biased, restrained = openmm.PeriodicTorsionForce(), openmm.PeriodicTorsionForce()
    for n, (a, b) in enumerate(bias, start=1):
        biased.addTorsion(*PHI, n, float(np.arctan2(b, a)), float(np.hypot(a, b)))
    for dihedral in (PHI, PSI):
        restrained.addTorsion(*dihedral, 1, 0.0, 0.0)
    biased.setForceGroup(BIAS)
    restrained.setForceGroup(RESTRAINT)
    system.addForce(biased)
    system.addForce(restrained)
    return system


def simulation(bias: np.ndarray, seed: int) -> openmm.Context:
    integrator = openmm.LangevinMiddleIntegrator(
        KELVIN * unit.kelvin, FRICTION / unit.picosecond, TIMESTEP * unit.femtosecond
    )
    integrator.setRandomNumberSeed(seed)
    reference = openmm.Platform.getPlatformByName("Reference")
    return openmm.Context(molecule(bias), integrator, reference)


def restrain(context: openmm.Context, basin: tuple[float, float], stiffness: float) -> None:
    """Hold φ and ψ by k (1 - cos(φ - φ0)), k in kJ/mol."""
    (force,) = (f for f in context.getSystem().getForces() if f.getForceGroup() == RESTRAINT)
    for index, (atoms, angle) in enumerate(zip((PHI, PSI), basin, strict=True)):
        force.setTorsionParameters(index, *atoms, 1, np.radians(angle) + np.pi, stiffness)
    force.updateParametersInContext(context)


def started(context: openmm.Context, basin: tuple[float, float], seed: int) -> None:
    """Built in a basin, relaxed and heated there for 20 ps, let go for 20 ps."""
    context.setPositions(built(*basin) * unit.angstrom)
    restrain(context, basin, 200.0)
    openmm.LocalEnergyMinimizer.minimize(context)
    context.setVelocitiesToTemperature(KELVIN * unit.kelvin, seed)
    steps = round(20e3 / TIMESTEP)
    context.getIntegrator().step(steps)
    restrain(context, basin, 0.0)
    context.getIntegrator().step(steps)


def seed_of(*numbers: int) -> int:
    """A seed that OpenMM takes, not 0 (which it draws at random)."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0] % (2**31 - 1)) + 1


def dihedral(places: np.ndarray, atoms: tuple[int, ...]) -> np.ndarray:
    """Radians, ``(*frames)``."""
    a, b, c, d = (places[..., i, :] for i in atoms)
    axis = (c - b) / np.linalg.norm(c - b, axis=-1, keepdims=True)
    one, two = np.cross(b - a, axis), np.cross(axis, d - c)
    return np.arctan2(np.sum(np.cross(one, two) * axis, -1), np.sum(one * two, -1))


# --- the bias ----------------------------------------------------------------------------------


def find_bias(seed: int, iterations: int = 60, length: float = 5.0) -> np.ndarray:
    """Amplitudes (cos, sin) of each harmonic in kJ/mol, by four walkers.

    Newton's step towards the series that makes φ uniform, where its curvature is β/2; the mean over
    the second half of the iterations, scaled.
    """
    series, kept = np.zeros((HARMONICS, 2)), []
    walkers = [simulation(series, seed_of(seed, 0, i)) for i in range(len(BASINS))]
    for i, (walker, basin) in enumerate(zip(walkers, BASINS.values(), strict=True)):
        started(walker, basin, seed_of(seed, 1, i))
    orders = np.arange(1, HARMONICS + 1)
    for iteration in range(iterations):
        seen = []
        for walker in walkers:
            (force,) = (f for f in walker.getSystem().getForces() if f.getForceGroup() == BIAS)
            for n, (a, b) in enumerate(series, start=1):
                force.setTorsionParameters(
                    n - 1, *PHI, n, float(np.arctan2(b, a)), float(np.hypot(a, b))
                )
            force.updateParametersInContext(walker)
            for _ in range(round(length / 0.1)):
                walker.getIntegrator().step(round(100 / TIMESTEP))
                seen.append(dihedral(places_of(walker), PHI))
        angles = orders[:, None] * np.array(seen)
        gradient = np.stack([np.cos(angles).mean(axis=1), np.sin(angles).mean(axis=1)], axis=1)
        rate = 0.5 * 2.0 * THERMAL / (1.0 + iteration / 20.0)
        series = series + rate * gradient
        kept.append(series)
    return SCALE * np.mean(kept[iterations // 2 :], axis=0)


def places_of(context: openmm.Context) -> np.ndarray:
    state = context.getState(getPositions=True)
    return state.getPositions(asNumpy=True).value_in_unit(unit.angstrom)


# --- the trajectory ----------------------------------------------------------------------------


def block_path(folder: Path, chain: int, block: int) -> Path:
    return folder / f"chain{chain}_{block:04d}.npz"


def run_block(folder: Path, bias: np.ndarray, seed: int, stride: float, chain: int, block: int):
    """One block of a chain, from the end of the one before it; written in full or not at all."""
    path = block_path(folder, chain, block)
    if path.exists():
        return path
    began = time.process_time()
    context = simulation(bias, seed_of(seed, 2, chain, block))
    basin = list(BASINS.values())[chain]
    if block == 0:
        started(context, basin, seed_of(seed, 3, chain))
    else:
        with np.load(block_path(folder, chain, block - 1)) as before:
            context.setPositions(before["end_positions"])
            context.setVelocities(before["end_velocities"])
    names = ("R", "F", "E", "bias", "temperature")
    found: dict[str, list[Any]] = {name: [] for name in names}
    for _ in range(BLOCK):
        context.getIntegrator().step(round(1e3 * stride / TIMESTEP))
        for name, value in zip(names, observed(context), strict=True):
            found[name].append(value)
    end = context.getState(getPositions=True, getVelocities=True)
    arrays = {name: np.array(values) for name, values in found.items()}
    if not all(np.isfinite(values).all() for values in arrays.values()):
        raise FloatingPointError(f"chain {chain}, block {block}: not finite")
    content = {
        "type": "d", "name": f"alanine dipeptide, chain {chain}, block {block}",
        "theory": "Amber ff99SB-ILDN, OBC2", "r_unit": "Ang", "e_unit": "kJ/mol",
        "z": np.array([{"H": 1, "C": 6, "N": 7, "O": 8}[symbol] for symbol in ELEMENTS]),
        "R": arrays["R"].astype(np.float32), "F": arrays["F"].astype(np.float32),
        "E": arrays["E"], "weights": np.exp(arrays["bias"] / THERMAL),
        "kelvin": arrays["temperature"],
        "end_positions": end.getPositions(asNumpy=True).value_in_unit(unit.nanometer),
        "end_velocities": end.getVelocities(asNumpy=True)
        .value_in_unit(unit.nanometer / unit.picosecond),
        "cpu_seconds": time.process_time() - began,
    }  # fmt: skip
    partial_path = path.with_suffix(".part")
    with open(partial_path, "wb") as stream:
        np.savez(stream, **content)
    os.replace(partial_path, path)
    return path


def observed(context: openmm.Context) -> tuple[np.ndarray, np.ndarray, float, float, float]:
    """Positions (Å), unbiased forces (kJ/mol/Å) and energy, bias (kJ/mol), temperature (K)."""
    per_angstrom = unit.kilojoule_per_mole / unit.angstrom
    state = context.getState(getPositions=True, getForces=True, getEnergy=True, groups={FORCES})
    bias = context.getState(getEnergy=True, groups={BIAS})
    kinetic = energy_of(state.getKineticEnergy())
    return (
        state.getPositions(asNumpy=True).value_in_unit(unit.angstrom),
        state.getForces(asNumpy=True).value_in_unit(per_angstrom),
        energy_of(state.getPotentialEnergy()), energy_of(bias.getPotentialEnergy()),
        2.0 * kinetic / (3 * len(ELEMENTS) * THERMAL / KELVIN),
    )  # fmt: skip


def energy_of(quantity: Any) -> float:
    return float(quantity.value_in_unit(unit.kilojoule_per_mole))


def settings(seed: int, stride: float) -> dict[str, Any]:
    return {
        "seed": seed, "stride_ps": stride, "kelvin": KELVIN, "timestep_fs": TIMESTEP,
        "friction_per_ps": FRICTION, "block_frames": BLOCK, "basins": BASINS,
        "bias": {"harmonics": HARMONICS, "scale": SCALE}, "openmm": openmm.__version__,
    }  # fmt: skip


def prepared(folder: Path, seed: int, stride: float) -> np.ndarray:
    """The bias of a run, found where it is new; refuses a folder made with other settings."""
    folder.mkdir(parents=True, exist_ok=True)
    path, asked = folder / "settings.json", json.loads(json.dumps(settings(seed, stride)))
    if path.exists():
        found = json.loads(path.read_text())
        series = np.array(found.pop("bias_kJ_per_mol"))
        if found != asked:
            raise SystemExit(f"{folder} was made with other settings: {found}; choose another one")
        return series
    series = find_bias(seed)
    text = json.dumps({**asked, "bias_kJ_per_mol": series.tolist()}, indent=1) + "\n"
    path.with_suffix(".part").write_text(text)
    os.replace(path.with_suffix(".part"), path)
    return series


def generate(folder: Path, frames: int, seed: int, stride: float, workers: int) -> None:
    bias = prepared(folder, seed, stride)
    chains = range(len(BASINS))
    with ProcessPoolExecutor(workers) as pool:
        for block in range(-(-frames // (BLOCK * len(chains)))):
            work = partial(run_block, folder, bias, seed, stride, block=block)
            done = list(pool.map(work, chains))
            print(f"{date.today()} block {block}: {[path.name for path in done]}", flush=True)


# --- subset and checks -------------------------------------------------------------------------


def read(folder: Path) -> list[dict[str, np.ndarray]]:
    """The chains, their blocks one after the other."""
    chains = []
    for chain in range(len(BASINS)):
        blocks = []
        while (path := block_path(folder, chain, len(blocks))).exists():
            with np.load(path) as archive:
                blocks.append({k: archive[k] for k in ("R", "F", "E", "weights", "kelvin")}
                              | {"cpu_seconds": archive["cpu_seconds"][None]})  # fmt: skip
        if not blocks:
            raise SystemExit(f"{folder}: chain {chain} has no blocks yet")
        chains.append({k: np.concatenate([b[k] for b in blocks]) for k in blocks[0]})
    return chains


def checked(chains: list[dict[str, np.ndarray]], bias: np.ndarray) -> dict[str, Any]:
    """Forces of some frames by OpenMM again and by differences of energies; kT by the momenta."""
    context = simulation(bias, 1)
    again, differences = 0.0, 0.0
    rng = np.random.default_rng(0)
    for chain in chains:
        for frame in rng.choice(len(chain["R"]), 5, replace=False):
            places = chain["R"][frame].astype(np.float64)
            context.setPositions(places * unit.angstrom)
            _, forces, *_ = observed(context)
            again = max(again, float(np.abs(forces - chain["F"][frame]).max()))
            way, step = rng.normal(size=places.shape), 1e-4
            energies = []
            for sign in (1, -1):
                context.setPositions((places + sign * step * way) * unit.angstrom)
                energies.append(observed(context)[2])
            slope = (energies[0] - energies[1]) / (2.0 * step)
            differences = max(differences, abs(slope + float(np.sum(way * forces))))
    kelvin = np.concatenate([chain["kelvin"] for chain in chains])
    spread = KELVIN * np.sqrt(2.0 / (3 * len(ELEMENTS)))
    return {
        "largest_force_difference_kJ_per_mol_A": again,
        "largest_difference_from_energies_kJ_per_mol_A": differences,
        "kinetic_kelvin": [kelvin.mean(), kelvin.std(ddof=1) / np.sqrt(len(kelvin))],
        "kinetic_spread_over_canonical": kelvin.std() / spread,
    }


def visits(chains: list[dict[str, np.ndarray]]) -> dict[str, Any]:
    """Passages between φ < 0 and φ > 0, and the share of the latter in each chain, reweighted."""
    crossings, shares = [], []
    for chain in chains:
        angle = np.degrees(dihedral(chain["R"].astype(float), PHI))
        side = np.where(
            (angle > 20) & (angle < 110), 1, np.where((angle < -40) & (angle > -170), -1, 0)
        )
        known = side[side != 0]
        crossings.append(int(np.sum(known[1:] != known[:-1])))
        right = (angle > 0) & (angle < 130)
        shares.append(float(np.sum(chain["weights"] * right) / np.sum(chain["weights"])))
    weights = np.concatenate([chain["weights"] for chain in chains])
    return {
        "passages": crossings, "share_of_positive_phi": shares,
        "effective_share_of_frames": float(weights.sum() ** 2 / (weights**2).sum() / len(weights)),
    }  # fmt: skip


def force_map(forces: np.ndarray) -> np.ndarray:
    """Force of a bead: that of its atom, and the others' as makes it least in the mean square.

    No bond is rigid and beads are single atoms, so that any coefficients of the others will do.
    """
    others = [i for i in range(len(ELEMENTS)) if i not in BEADS]
    given, wanted = (
        np.swapaxes(forces[:, index], 1, 2).reshape(-1, len(index)) for index in (others, BEADS)
    )
    weights = np.eye(len(ELEMENTS))[list(BEADS)]
    weights[:, others] = -np.linalg.lstsq(given, wanted, rcond=None)[0].T
    return weights


def subset(folder: Path, count: int) -> None:
    """Six beads of some frames at equal intervals of the chains, and the record."""
    made = json.loads((folder / "settings.json").read_text())
    chains = read(folder)
    weights = force_map(np.concatenate([chain["F"].astype(np.float64) for chain in chains]))
    picked = [np.linspace(0, len(c["R"]) - 1, count // len(chains)).astype(int) for c in chains]
    places, atomic = (
        np.concatenate([c[name][i] for c, i in zip(chains, picked, strict=True)])
        for name in ("R", "F")
    )
    places, forces = places[:, list(BEADS)], np.einsum("Ii,fix->fIx", weights, atomic)
    np.savez_compressed(
        HERE / "beads.npz", type="d", name="alanine dipeptide, 6 beads",
        theory="Amber ff99SB-ILDN, OBC2", r_unit="Ang", e_unit="kJ/mol",
        z=np.array([6, 7, 6, 6, 6, 7]), R=places.astype(np.float32), F=forces.astype(np.float32),
        weights=np.concatenate([c["weights"][i] for c, i in zip(chains, picked, strict=True)]),
    )  # fmt: skip
    record = {
        "date": str(date.today()), "machine": platform.machine(), "settings": made,
        "frames": [len(chain["R"]) for chain in chains],
        "cpu_hours": float(sum(chain["cpu_seconds"].sum() for chain in chains) / 3600.0),
        "checks": checked(chains, np.array(made["bias_kJ_per_mol"])), "visits": visits(chains),
        "subset": len(places), "force_map": weights.tolist(),
        "mean_square_of_force_map_over_slice": float(
            np.mean(forces**2) / np.mean(atomic[:, list(BEADS)] ** 2)
        ),
    }  # fmt: skip
    (HERE / "record.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=40_000, help="in all, rounded up to blocks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stride", type=float, default=1.0, help="ps between frames")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--subset", action="store_true", help="write beads.npz and record.json")
    asked = parser.parse_args()
    if asked.subset:
        subset(asked.folder, 2000)
    else:
        generate(asked.folder, asked.frames, asked.seed, asked.stride, asked.workers)


if __name__ == "__main__":
    main()
