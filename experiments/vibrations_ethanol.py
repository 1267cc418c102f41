"""Vibrations of ethanol from a fitted sGDML model: modes, spectra, and the engine's own Hessian.

    python experiments/vibrations_ethanol.py MODEL.npz [--peer HESSIAN.npz ...]

MODEL is an sGDML model file of ethanol (``experiments/rmd17.py --models FOLDER`` writes one);
HESSIAN.npz comes from ``experiments/peers/pyscf_hessian.py``, started from the file that
``--write-start`` writes. In float64 the molecule is relaxed and its normal modes computed. A run at
constant energy so cold that vibrations are harmonic must show a peak at every mode; another at
300 K shows what temperature does to them. The record goes to ``vibrations_ethanol.json``, the
figure to ``vibrations_ethanol.png``.
"""

import argparse
import json
import os
import platform
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np
import scipy.optimize

import jaxff
from jaxff import System, bind, dynamics, elements, report, units
from jaxff.interfaces import sgdml
from jaxff.vibrations import (
    Spectrum,
    density_of_states,
    find_peaks,
    modes_of,
    normal_modes,
    project,
    undo_verlet,
)

TIMESTEP, EVERY = 0.5, 8  # fs, steps; frames every 4 fs show vibrations up to 4170 cm⁻¹
COLD, WARM = 10.0, 300.0  # K
RESOLUTION = {COLD: 4.0, WARM: 10.0}  # cm⁻¹


def minimum(energy_fn, data_folder):
    """The minimum next to the frame of lowest energy."""
    path = Path(data_folder, "rmd17", "rmd17_ethanol.npz")
    data = jaxff.data.npz.read(path, energy_key="E_md17", forces_key="F_md17")
    lowest = int(np.argmin(data.values["energy"]))
    start = System(data.positions[lowest], data.numbers)
    return lowest, dynamics.relax(energy_fn, start, max_force=1e-7, max_steps=3000)


def cold_or_warm(energy_fn, system, kelvin, steps):
    """A run from the minimum: half of the initial kinetic energy goes into the vibrations."""
    masses = units.masses(np.asarray(system.numbers))
    velocities = np.asarray(
        dynamics.maxwell_boltzmann(jax.random.key(0), system.positions, masses, kelvin)
    )
    freedom = 3 * len(masses) - 6
    drawn = dynamics.temperature(dynamics.kinetic_energy(velocities, masses), freedom)
    return dynamics.run(
        energy_fn, system, ensemble=dynamics.nve(TIMESTEP), steps=steps,
        velocities=velocities * np.sqrt(2 * kelvin / drawn), every=EVERY, chunk=8000,
    )  # fmt: skip


def spectrum_of(run, kelvin, freedom):
    seen = density_of_states(
        run.velocities, run.masses, EVERY * TIMESTEP, resolution=RESOLUTION[kelvin], modes=freedom
    )
    return Spectrum(undo_verlet(seen.wavenumbers, TIMESTEP), seen.density, seen.resolution)


def peaks_of_modes(run, modes, resolution):
    """Where each mode's own spectrum has its highest peak, cm⁻¹."""
    rows = project(run.velocities, modes, EVERY * TIMESTEP, resolution=resolution)
    found = []
    for row in rows.density:
        peaks = find_peaks(Spectrum(rows.wavenumbers, row, resolution), prominence=0.2)
        found.append(peaks.wavenumbers[np.argmax(peaks.heights)])
    return undo_verlet(np.array(found), TIMESTEP)


def compare(modes, positions, peer_file):
    """Modes beside those of another Hessian at its own minimum, paired by their displacements."""
    peer = np.load(peer_file, allow_pickle=False)
    masses = units.masses(peer["numbers"])
    other = normal_modes(peer["hessian"], masses, peer["positions"])
    rotation, rms = aligned(positions, peer["positions"], masses)
    root = np.sqrt(masses)[:, None]
    ours, theirs = (
        (d * root / np.linalg.norm(d * root, axis=(1, 2), keepdims=True)).reshape(len(modes), -1)
        for d in (modes.displacements @ rotation, other.displacements)
    )
    overlap = np.abs(ours @ theirs.T)
    _, partner = scipy.optimize.linear_sum_assignment(-overlap)
    difference = modes.frequencies - other.frequencies[partner]
    ratio = float(modes.frequencies @ other.frequencies[partner])
    ratio /= float(np.sum(other.frequencies**2))
    return other, {
        "method": str(peer["method"]).replace("tzvp", "TZVP").replace("svp", "SVP"),
        "program": str(peer["program"]),
        "peer_max_force_ev_per_angstrom": float(peer["max_force"]),
        "rms_distance_of_minima_angstrom": rms,
        "wavenumbers_per_cm": other.frequencies.tolist(),
        "partner_of_mode": partner.tolist(),
        "overlap_with_partner": overlap[np.arange(len(modes)), partner].tolist(),
        "difference_per_cm": difference.tolist(),
        "mean_absolute_deviation_per_cm": float(np.abs(difference).mean()),
        "mean_deviation_per_cm": float(difference.mean()),
        "largest_deviation_per_cm": float(np.abs(difference).max()),
        "mean_absolute_deviation_below_2000_per_cm":
            float(np.abs(difference[modes.frequencies < 2000]).mean()),
        "best_scale_factor": ratio,
        "zero_point_energies_mev":
            [1e3 * modes.zero_point_energy, 1e3 * other.zero_point_energy],
    }  # fmt: skip


def aligned(positions, reference, masses):
    """The rotation that brings positions onto the reference (Kabsch), and the rms left."""
    a, b = (x - masses @ x / masses.sum() for x in (np.asarray(positions), reference))
    u, _, v = np.linalg.svd(a.T @ (masses[:, None] * b))
    rotation = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ v))]) @ v
    return rotation, float(np.sqrt(np.mean(np.sum((a @ rotation - b) ** 2, axis=1))))


def matches(run, modes, spectrum):
    """Peaks of a cold run against the modes, both ways.

    A peak of the whole spectrum that is no fundamental is compared with sums and differences of two
    modes, which anharmonicity shows faintly.
    """
    own = peaks_of_modes(run, modes, spectrum.resolution)
    waves = modes.frequencies
    pairs = np.abs(np.concatenate([np.add.outer(waves, waves), np.subtract.outer(waves, waves)]))
    peaks, others = find_peaks(spectrum, prominence=1e-3), []
    fundamentals = 0
    for wave, height in zip(*vars(peaks).values(), strict=True):
        if np.abs(wave - waves).min() <= spectrum.resolution:
            fundamentals += 1
            continue
        others.append({
            "wavenumber_per_cm": float(wave),
            "height_relative_to_highest": float(height / peaks.heights.max()),
            "distance_from_a_mode": float(np.abs(wave - waves).min()),
            "distance_from_a_combination": float(np.abs(wave - pairs).min()),
        })  # fmt: skip
    distance = np.abs(own - waves)
    return {
        "peak_of_each_mode_per_cm": own.tolist(),
        "peak_minus_mode_per_cm": (own - waves).tolist(),
        "largest_distance_of_a_mode_from_its_peak_per_cm": float(distance.max()),
        "mean_distance_of_a_mode_from_its_peak_per_cm": float(distance.mean()),
        "peaks_within_resolution_of_a_mode": fundamentals,
        "other_peaks": others,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", default=os.environ.get("JAXFF_DATA", "../shared/data"))
    parser.add_argument("--peer", type=Path, nargs="*", default=[])
    parser.add_argument("--steps", type=int, default=80_000)
    parser.add_argument("--write-start", type=Path)
    options = parser.parse_args()
    begin = time.process_time()
    potential, params = sgdml.load(options.model)
    energy_fn = bind(potential, params)
    frame, relaxed = minimum(energy_fn, options.data)
    system = relaxed.system
    print(relaxed)
    if options.write_start is not None:
        names = elements.symbols(np.asarray(system.numbers))
        rows = zip(names, np.asarray(system.positions).tolist(), strict=True)
        lines = [f"{name} {x:.12f} {y:.12f} {z:.12f}" for name, (x, y, z) in rows]
        options.write_start.write_text("\n".join([str(len(names)), "", *lines, ""]))
        return
    modes = modes_of(energy_fn, system)
    print(np.round(modes.frequencies, 1), modes.rigid_frequencies)
    spectra, record = {}, {}
    for kelvin in (COLD, WARM):
        run = cold_or_warm(energy_fn, system, kelvin, options.steps)
        drift = dynamics.energy_drift(run.times, run.total_energy, len(run.masses))
        one = spectrum_of(run, kelvin, len(modes))
        spectra[f"{kelvin:g} K"] = one
        record[f"run_{kelvin:g}_K"] = {
            "picoseconds": options.steps * TIMESTEP / 1000,
            "mean_temperature_k": float(np.mean(run.temperature)),
            "drift_mev_per_atom_ps": drift.slope,
            "drift_standard_error": drift.standard_error,
            "resolution_per_cm": one.resolution,
            **(matches(run, modes, one) if kelvin == COLD else
               {"peaks_per_cm": find_peaks(one).wavenumbers.tolist()}),
        }  # fmt: skip
        print(json.dumps(record[f"run_{kelvin:g}_K"]), flush=True)
    peers = [compare(modes, system.positions, path) for path in options.peer]
    for _, found in peers:
        print(found["method"], found["mean_absolute_deviation_per_cm"])
    marks = {} if not peers else {
        "reference": peers[0][0].frequencies,
        "names": ("sGDML modes", str(peers[0][1]["method"]).partition(",")[0]),
    }  # fmt: skip
    figure = report.spectrum(spectra, modes.frequencies, "Ethanol, sGDML", **marks)
    report.save(Path(__file__).with_suffix(".png"), figure, dpi=110)
    record = {
        "model": options.model.name, "permutations": potential.kernel.order,
        "references": int(params["expansion"]["features"].shape[0]),
        "labels": "PBE with Tkatchenko-Scheffler dispersion (MD17)",
        "start_frame": frame, "relaxation": str(relaxed), "timestep_fs": TIMESTEP,
        "interval_fs": EVERY * TIMESTEP,
        "wavenumbers_per_cm": modes.frequencies.tolist(),
        "translations_and_rotations_per_cm": modes.rigid_frequencies.tolist(),
        **record, "peers": [found for _, found in peers],
        "cpu_s": time.process_time() - begin,
        "date": date.today().isoformat(), "load": os.getloadavg()[0],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "numpy")},
    }  # fmt: skip
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
