r"""What the pretrained SpookyNet has learnt of the interaction of atoms: maps in a plane.

    python experiments/interaction_maps.py [--weights PATH]

*Interaction functions.* In the local interaction each atom receives from a neighbour at
:math:`\mathbf r` functions of the distance, times what the neighbour is, times nothing, the
direction, or a harmonic of degree 2: as from s, p and d orbitals. Drawn are those of the first
module, of a carbon atom in the middle from a hydrogen atom in the plane, both of a neutral molecule
without unpaired electrons: of each kind the features with the largest values, p along x, d as
:math:`xy`. They act on features, which have no unit; each is scaled to one.

*A probe.* An ion is moved in the plane of a water molecule that stays as it is: energy less that
with the ion 100 Å away, of all and of the network alone, and the sum of the charges of the
molecule, which should be zero there. It is a map of the model, not of nature: nothing is known of
the ions that it was trained on. Within 1.5 Å of an atom nothing is drawn;
``lowest_energy_closer``, down to 0.5 Å, shows whether the model keeps the ion out.

The record goes to ``interaction_maps.json``, the figure to ``interaction_maps.png``.
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

from jaxff import System, bind, neighbor_list
from jaxff.interfaces import spookynet
from jaxff.networks.spookynet_blocks import Branches, NuclearEmbedding, RadialFunctions, Residuals
from jaxff.potential import Bound
from jaxff.report import canvas

HERE = Path(__file__).resolve()
SHOWN, EXTENT, POINTS = 3, 4.0, 81  # features of each kind, Å, points of each axis
NEAREST = 0.9  # Å; hydrogen does not come closer to carbon
CLOSEST, TOO_CLOSE = 1.5, 0.5  # Å, of the probe: what is drawn, what is computed
PROBES = {"Na⁺": (11, 1.0), "Cl⁻": (17, -1.0)}  # number, charge
LIMIT = 1.5  # eV, of colours


def plane(extent, points):
    axis = np.linspace(-extent, extent, points)
    return np.meshgrid(axis, axis)


def interaction_functions(potential, params):
    """Maps of s, p and d functions, scaled to one, with their features and largest values."""
    options, network = potential.spec.arguments, params["network"]
    cutoff, size = options["cutoff"], options["features"]
    count, module = options["residuals"], network["module_0"]
    x, y = plane(EXTENT, POINTS)
    distances = np.hypot(x, y)
    radial = RadialFunctions(options["radial_functions"], cutoff).apply(
        {"params": network["radial"]}, np.where(distances < cutoff, distances, cutoff).ravel()
    )
    filters = np.asarray(radial) @ np.asarray(module["local"]["radial"]["kernel"])
    hydrogen = NuclearEmbedding(size, options["max_number"]).apply(
        {"params": network["nuclei"]}, np.array([1])
    )
    inner = Residuals(count).apply({"params": module["before"]}, hydrogen)
    sent = Branches(4, count, "branches").apply({"params": module["local"]["branches"]}, inner)
    safe = np.where(distances > 0, distances, 1.0)
    harmonics = {"s": np.ones_like(x), "p": x / safe, "d": np.sqrt(3) * x * y / safe**2}
    found = {}
    for k, (kind, harmonic) in enumerate(harmonics.items()):
        own = filters[:, k * size : (k + 1) * size] * np.asarray(sent)[k + 1, 0]
        maps = np.moveaxis(own.reshape(*x.shape, size), -1, 0) * harmonic
        maps = np.where(distances > NEAREST, maps, np.nan)
        largest = np.nanmax(np.abs(maps), axis=(1, 2))
        chosen = np.argsort(-largest)[:SHOWN]
        found[kind] = {
            "features": chosen.tolist(), "largest": largest[chosen].tolist(),
            "maps": maps[chosen] / largest[chosen, None, None],
        }  # fmt: skip
    return found


def probe_maps(potential, params):
    """Energies in eV and charges of the molecule with each probe on the grid."""
    water = molecule("H2O")
    water.positions -= water.positions[0]  # in the plane x = 0
    y, z = plane(EXTENT, POINTS)
    sites = np.stack([np.zeros_like(y), y, z], axis=-1).reshape(-1, 3)
    sites = np.vstack([sites, [0.0, 0.0, 100.0]])
    evaluate, found = jax.jit(Bound.outputs), {}
    near = np.linalg.norm(sites[:, None] - water.positions, axis=2).min(axis=1)
    for name, (number, charge) in PROBES.items():
        numbers = np.append(water.numbers, number)
        moved = np.where(near[:, None] > TOO_CLOSE, sites, sites[-1])
        fixed = np.broadcast_to(water.positions, (len(sites), 3, 3))
        positions = np.concatenate([fixed, moved[:, None]], axis=1)
        systems = System(positions, numbers, charge=charge, spin=0.0)
        neighbors = neighbor_list(potential.cutoffs).allocate_stack(systems)
        outputs = evaluate(bind(potential, params), systems, neighbors)
        own = {"positions": water.positions[:, 1:]}
        for term in ("energy", "network_energy"):
            values = np.asarray(outputs[term], float) - float(outputs[term][-1])
            own[term] = np.where(near > CLOSEST, values, np.nan)[:-1].reshape(y.shape)
            own[f"{term}_closer"] = float(values[(near <= CLOSEST) & (near > TOO_CLOSE)].min())
        charges = np.asarray(outputs["partial_charges"], float)[:, :3].sum(axis=1)
        own["charge"] = np.where(near > CLOSEST, charges, np.nan)[:-1].reshape(y.shape)
        own["charge_far"] = float(charges[-1])
        found[name] = own
    return found


def lowest(own):
    """Where the probe is bound best, and how."""
    y, z = plane(EXTENT, POINTS)
    at = np.unravel_index(np.nanargmin(own["energy"]), y.shape)
    place = np.array([y[at], z[at]])
    return {
        "lowest_energy": float(own["energy"][at]), "lowest_energy_closer": own["energy_closer"],
        "place_y_z": place.tolist(),
        "distance_from_oxygen": float(np.linalg.norm(place)),
        "charge_of_water_there": float(own["charge"][at]),
        "charge_of_water_far_away": own["charge_far"],
    }  # fmt: skip


def draw(functions, probes):
    figure = canvas.new_figure(13, 6.4)
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.1))
    span = (-EXTENT, EXTENT, -EXTENT, EXTENT)
    rows = left.subplots(3, SHOWN, sharex=True, sharey=True)
    for row, (kind, own) in zip(rows, functions.items(), strict=True):
        for axes, feature, values in zip(row, own["features"], own["maps"], strict=True):
            axes.imshow(values, origin="lower", extent=span, cmap="RdBu_r", vmin=-1, vmax=1)
            axes.plot(0, 0, "k.", ms=4)
            axes.set_title(f"{kind}, feature {feature}", fontsize=8)
    left.supxlabel("x, Å", fontsize=9)
    left.supylabel("y, Å", fontsize=9)
    left.suptitle("received by carbon from hydrogen", fontsize=10)
    panels = right.subplots(len(probes), 2, sharex=True, sharey=True, squeeze=False)
    for row, (name, own) in zip(panels, probes.items(), strict=True):
        for axes, term in zip(row, ("energy", "network_energy"), strict=True):
            image = axes.imshow(
                own[term], origin="lower", extent=span, cmap="RdBu_r", vmin=-LIMIT, vmax=LIMIT
            )
            axes.plot(*own["positions"].T, "ko", ms=3)
            for symbol, place in zip("OHH", own["positions"], strict=True):
                axes.annotate(symbol, place, xytext=(3, 3), textcoords="offset points", fontsize=8)
            kind = "all terms" if term == "energy" else "network alone"
            axes.set_title(f"{name} around water, {kind}", fontsize=8)
    right.colorbar(image, ax=panels, label="eV", shrink=0.8, extend="both")
    right.supxlabel("y, Å", fontsize=9)
    right.supylabel("z, Å", fontsize=9)
    right.suptitle("energy of a probe", fontsize=10)
    canvas.save(HERE.with_suffix(".png"), figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--weights", type=Path, help="pretrained model, fetched otherwise")
    potential, params = spookynet.load(parser.parse_args().weights or spookynet.download())
    functions = interaction_functions(potential, params)
    probes = probe_maps(potential, params)
    record = {
        "functions": {
            kind: {name: own[name] for name in ("features", "largest")}
            for kind, own in functions.items()
        },
        "probes": {name: lowest(own) for name, own in probes.items()},
        "units": {"energy": "eV", "length": "Å", "charge": "e"},
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": {p: version(p) for p in ("jaxff", "jax", "flax", "numpy", "ase")},
    }
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    HERE.with_suffix(".json").write_text(text)
    print(text)
    draw(functions, probes)


if __name__ == "__main__":
    main()
