"""The pretrained SO3LR: fetched once, or from files.

The published files are ``params.pkl`` and ``hyperparameters.json``. The former is a pickle, which
is not opened as such: it is read as data (:mod:`jaxff.data.npz_safety`), and a stream that holds
more than arrays by name is refused. A single file of NumPy will do too, with the entries
``params/<name>``, the parameters by name (``/`` between the levels of the tree), and
``hyperparameters``, the text of ``hyperparameters.json``.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxff.data.npz_safety import read_plain
from jaxff.interfaces.arrays import Reader, require, to_params
from jaxff.interfaces.download import Published, cache_folder, fetch
from jaxff.physics import EwaldPlan
from jaxff.potential import Potential
from jaxff.types import Params

__all__ = ["download", "from_arrays", "load"]

_COMMIT = "5ec39b9d8d83872107cd3f1bc5904387eb9ff4c8"  # of January 2026
_FOLDER = "https://raw.githubusercontent.com/general-molecular-simulations/so3lr"
_FILES = {
    "hyperparameters.json": Published(
        f"{_FOLDER}/{_COMMIT}/so3lr/params/hyperparameters.json",
        "02a95f777f394dc9ae43529b3ac5e7e0e2e89f60c1fa9e6697926d31308853a9",
    ),
    "params.pkl": Published(
        f"{_FOLDER}/{_COMMIT}/so3lr/params/params.pkl",
        "1c481bd2d9280f8b7b131ec65e92d25ff73deda76956bc137754c2acb98d93fd",
    ),
}

_MODEL = {
    "activation_fn": "silu",
    "cutoff_fn": "phys",
    "dispersion_energy_bool": True,
    "electrostatic_energy_bool": True,
    "energy_activation_fn": "silu",
    "energy_learn_atomic_type_scales": True,
    "energy_learn_atomic_type_shifts": True,
    "layer_normalization_1": True,
    "layer_normalization_2": True,
    "message_normalization": "avg_num_neighbors",
    "qk_non_linearity": "identity",
    "radial_basis_fn": "bernstein",
    "residual_mlp_1": True,
    "residual_mlp_2": False,
    "use_charge_embed": True,
    "use_spin_embed": True,
    "zbl_repulsion_bool": True,
}
_DECAY = float(np.float32(0.944863062918464))
"""Exponent of the radial basis in 1/Å: half an inverse Bohr radius, in single precision there."""


def download(folder: str | os.PathLike | None = None, *, timeout: float = 30.0) -> Path:
    """The folder of the published model, fetched from its repository the first time.

    ``load(download())`` is the model. Both files are of one commit and are kept only with the
    SHA-256 known here; they are under the MIT licence, © 2024 Thorben Frank. Fetching was tested
    against a local server, reading with these very files, the address itself was not.

    Args:
        folder: Where to keep them; by default ``so3lr`` in
            :func:`jaxff.interfaces.download.cache_folder`.
        timeout: Seconds without an answer after which to give up.

    Raises:
        ConnectionError: If a file cannot be had from the server.
        ValueError: If one is not what is known here.
        OSError: If one cannot be written.
    """
    place = cache_folder() / "so3lr" if folder is None else Path(folder)
    for name, file in _FILES.items():
        fetch(file, place / name, timeout=timeout)
    return place


def load(
    path: str | os.PathLike,
    *,
    long_range_cutoff: float | None = 12.0,
    ewald: EwaldPlan | None = None,
    outputs: Sequence[str] = (),
    dtype: Any = "float32",
) -> tuple[Potential, Params]:
    """Potential and parameters of a pretrained SO3LR.

    Its outputs are those of :func:`jaxff.networks.so3lr`. It was trained on molecules of H, C, N,
    O, F, P, S and Cl, and on differences of energies only: the sum of the energies of the atoms is
    no part of it.

    Args:
        path: A file ``.npz``, or the folder of ``params.pkl`` and ``hyperparameters.json``.
        long_range_cutoff: Of electrostatics and dispersion, Å; ``None`` for all pairs of molecules.
        ewald: Plan of electrostatics with all periodic images,
            ``jaxff.physics.ewald_plan(cell, width=4.0)``.
        outputs: Further ones: ``"features"``, ``"euclidean_variables"``.
        dtype: Precision of the network.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds something else.
    Reference:
        Kabylda et al., J. Am. Chem. Soc. 147, 33723 (2025), doi:10.1021/jacs.5c09558.
    """
    arrays, hyperparameters = _folder(path) if os.path.isdir(path) else _archive(path)
    return from_arrays(
        arrays,
        hyperparameters,
        long_range_cutoff=long_range_cutoff,
        ewald=ewald,
        outputs=outputs,
        dtype=dtype,
    )


def _archive(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with np.load(path, allow_pickle=False) as file:
        if "hyperparameters" not in file.files:
            raise ValueError(f"{os.fspath(path)}: no entry 'hyperparameters': this is no SO3LR")
        arrays = {name: file[name] for name in file.files if name.startswith("params/")}
        return arrays, json.loads(str(file["hyperparameters"]))


def _folder(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """As published."""
    file = Path(path) / "params.pkl"
    try:
        arrays = dict(_leaves(read_plain(file.read_bytes())))
    except ValueError as error:
        raise ValueError(f"{file}: {error}: this is no SO3LR, or it is damaged") from error
    return arrays, json.loads((file.parent / "hyperparameters.json").read_text())


def _leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Arrays of nested dictionaries, by the path to them."""
    if isinstance(tree, np.ndarray):
        yield prefix, tree
    elif isinstance(tree, dict) and all(isinstance(name, str) for name in tree):
        for name, value in tree.items():
            yield from _leaves(value, f"{prefix}/{name}" if prefix else name)
    else:
        raise ValueError(f"expected arrays by name, got {type(tree).__name__} at {prefix!r}")


def from_arrays(
    arrays: Mapping[str, np.ndarray],
    hyperparameters: Mapping[str, Any],
    *,
    long_range_cutoff: float | None = 12.0,
    ewald: EwaldPlan | None = None,
    outputs: Sequence[str] = (),
    dtype: Any = "float32",
) -> tuple[Potential, Params]:
    """As :func:`load`, from parameters by name and hyperparameters.

    Raises:
        ValueError: If arrays are missing or unknown, or the model does what is not known here.
    """
    from jaxff import networks

    names = {name.removeprefix("params/"): value for name, value in arrays.items()}
    reader = Reader(names, "SO3LR")
    options = _options(hyperparameters)
    head = "observables_0"
    charges = f"{head}/electrostatic_energy/partial_charges"
    table = reader.take(f"{charges}/Embed_0/embedding")
    options["max_number"] = elements = len(table) - 1
    network: dict[str, Any] = {
        "embedding": _embedding(reader, elements),
        **{f"layer_{k}": _layer(reader, f"layers_{k}") for k in range(options["layers"])},
        "energy": {
            "stack": _stack(reader, *(f"{head}/energy_dense_{k}" for k in ("regression", "final"))),
            "scale": reader.take(f"{head}/atomic_scales")[: elements + 1],
            "shift": reader.take(f"{head}/energy_offset")[: elements + 1],
        },
        "charges": {
            "elements": {"table": table},
            "stack": _stack(reader, f"{charges}/charge_dense_regression_vec",
                            f"{charges}/charge_dense_final_vec"),
        },
        "hirshfeld": _hirshfeld(reader, "observables_2"),
    }  # fmt: skip
    repulsion = _repulsion(reader, f"{head}/zbl_repulsion")
    reader.finish("the network, its charges and Hirshfeld ratios, and the repulsion")
    potential = networks.so3lr(
        long_range_cutoff, **options, ewald=ewald, outputs=outputs, dtype=dtype
    )
    params = {"network": network, "repulsion": repulsion}
    return potential, to_params(params, dtype)


def _options(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the network; what it does not know is refused."""
    try:
        model = hyperparameters["model"]
        require("the model", model, _MODEL)
        return {
            "cutoff": float(model["cutoff"]),
            "features": model["num_features"],
            "layers": model["num_layers"],
            "heads": model["num_heads"],
            "degrees": tuple(model["degrees"]),
            "radial_functions": model["num_radial_basis_fn"],
            "radial_decay": _DECAY,
            "attention_norm": float(hyperparameters["data"]["avg_num_neighbors"]),
            "head_features": model["energy_regression_dim"],
            "charge_width": float(model["electrostatic_energy_scale"]),
            "dispersion_damping": float(model["dispersion_energy_scale"]),
        }
    except (KeyError, TypeError) as error:
        raise ValueError(f"these are no hyperparameters of SO3LR: {error!r}") from error


def _embedding(reader: Reader, elements: int) -> dict[str, Any]:
    def table(name: str) -> dict[str, np.ndarray]:
        return {"table": reader.take(f"{name}/embedding")[: elements + 1]}

    result: dict[str, Any] = {"elements": table("feature_embeddings_0/Embed_0")}
    for number, total in ((1, "charge"), (2, "spin")):
        name = f"feature_embeddings_{number}/ChargeSpinEmbedSparse_0"
        result[f"{total}_query"] = table(f"{name}/Embed_0")
        # The second row is for negative totals, which multiply it there, but not here.
        value = reader.take(f"{name}/Embed_2/embedding") * np.asarray([[1.0], [-1.0]], np.float32)
        result[total] = {
            "key": {"kernel": reader.take(f"{name}/Embed_1/embedding")},
            "value": {"kernel": value},
            "inner": reader.group(f"{name}/Residual_0/layers_0"),
            "outer": reader.group(f"{name}/Residual_0/layers_1"),
        }
    return result


def _layer(reader: Reader, name: str) -> dict[str, Any]:
    block = f"{name}/attention_block"

    def heads(kind: str) -> dict[str, np.ndarray]:
        """There they stand as (head, out, in)."""
        return {"kernel": np.swapaxes(reader.take(f"{block}/W{kind}"), 1, 2)}

    attention: dict[str, Any] = {"value": heads("v1")}
    for number, part in ((1, "features"), (2, "variables")):
        attention[part] = {
            "query": heads(f"q{number}"),
            "key": heads(f"k{number}"),
            **{
                kind: _stack(reader, *(f"{block}/{kind}_filter{number}_layer_{k}" for k in (1, 2)))
                for kind in ("radial", "spherical")
            },
        }
    return {
        "attention": attention,
        "exchange": {"mix": reader.group(f"{name}/exchange_block/mlp_layer_2")},
        **{f"norm_{k}": reader.group(f"{name}/layer_normalization_{k}") for k in (1, 2)},
        "mlp_1": {
            part: reader.group(f"{name}/res_mlp_1_layer_{k}")
            for k, part in ((1, "inner"), (2, "outer"))
        },
    }


def _hirshfeld(reader: Reader, name: str) -> dict[str, Any]:
    return {
        "elements": {"table": reader.take(f"{name}/Embed_0/embedding")},
        "query": {"table": reader.take(f"{name}/Embed_1/embedding")},
        "key": _stack(reader, *(f"{name}/hirshfeld_ratios_dense_{k}" for k in
                                ("regression", "final"))),
    }  # fmt: skip


def _repulsion(reader: Reader, name: str) -> dict[str, np.ndarray]:
    def numbers(*names: str) -> list[np.ndarray]:
        return [reader.take(f"{name}/{own}").squeeze() for own in names]

    return {
        "amplitudes": np.stack(numbers("c1", "c2", "c3", "c4")),
        "decays": np.stack(numbers("a1", "a2", "a3", "a4")),
        "exponent": numbers("p")[0],
        "inverse_length": numbers("d")[0],
    }


def _stack(reader: Reader, *layers: str) -> dict[str, Any]:
    return {f"dense_{k}": reader.group(name) for k, name in enumerate(layers)}
