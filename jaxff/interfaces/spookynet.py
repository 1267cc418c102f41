"""The pretrained SpookyNet.

The published file is one of PyTorch, which is read as data, without PyTorch. A file of NumPy will
do as well, with the arrays of the model's state by their names there and the entry
``hyperparameters``, the arguments of its constructor as JSON.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxff.interfaces.arrays import Reader, require, to_params
from jaxff.interfaces.download import Published, cache_folder, fetch
from jaxff.interfaces.torch_file import read_tensors
from jaxff.physics import D4Tables, EwaldPlan
from jaxff.potential import Potential
from jaxff.types import Params

__all__ = ["download", "from_arrays", "load"]

_FILE = Published(
    "https://raw.githubusercontent.com/OUnke/SpookyNet/"
    "d57b1fc02c4f1304a9445b2b9aa55a906818dd1b/parameters.pth",  # of May 2022
    "604026ed148310d09cd6ae6c0e67e3c8905b5fc35ef3bd30714fd8776985e5cc",
)

_MODEL = {
    "activation": "swish",
    "basis_functions": "exp-bernstein",
    "exp_weighting": True,
    "use_irreps": True,
    "use_nonlinear_embedding": False,
}
_RESIDUALS = (
    "electron", "local", "local_d", "local_p", "local_s", "local_x", "nonlocal_k", "nonlocal_q",
    "nonlocal_v", "output", "post", "pre",
)  # fmt: skip
_ABOUT = ("hyperparameters", "licence", "source")  # entries of a file that are no arrays


def download(folder: str | os.PathLike | None = None, *, timeout: float = 30.0) -> Path:
    """The published model, fetched from its repository the first time.

    ``load(download())`` is the model. The file is of one commit and is kept only with the SHA-256
    known here; it is under the MIT licence, © 2021 Oliver T. Unke. Fetching was tested against a
    local server and reading with this very file, the address itself was not.

    Args:
        folder: Where to keep it; by default ``spookynet`` in
            :func:`jaxff.interfaces.download.cache_folder`.
        timeout: Seconds without an answer after which to give up.

    Raises:
        ConnectionError: If the file cannot be had from the server.
        ValueError: If it is not what is known here.
        OSError: If it cannot be written.
    """
    place = cache_folder() / "spookynet" if folder is None else Path(folder)
    return fetch(_FILE, place / "parameters.pth", timeout=timeout)


def load(
    path: str | os.PathLike,
    *,
    long_range_cutoff: float | None = None,
    ewald: EwaldPlan | None = None,
    outputs: Sequence[str] = (),
    dtype: Any = "float32",
) -> tuple[Potential, Params]:
    """Potential and parameters of a pretrained SpookyNet.

    Its outputs are those of :func:`jaxff.networks.spookynet`. Random features of the nonlocal
    attention and reference data of D4 are those of the file.

    Args:
        path: The published file ``.pth``, or one ``.npz``.
        long_range_cutoff: Of electrostatics and dispersion, Å; ``None`` for all pairs of molecules.
        ewald: Plan of electrostatics with all periodic images,
            ``jaxff.physics.ewald_plan(cell, cutoff=long_range_cutoff)``.
        outputs: Further ones: ``"features"``.
        dtype: Precision of the network.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds something else.
    Reference:
        Unke et al., Nat. Commun. 12, 7273 (2021), doi:10.1038/s41467-021-27504-0.
    """
    read = _published if Path(path).suffix in (".pth", ".pt") else _arrays
    return from_arrays(
        *read(path),
        long_range_cutoff=long_range_cutoff,
        ewald=ewald,
        outputs=outputs,
        dtype=dtype,
    )


def _published(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arguments of the constructor stand beside the state."""
    content = read_tensors(path)
    if not isinstance(content, dict) or "state_dict" not in content:
        raise ValueError(f"{os.fspath(path)}: no entry 'state_dict': this is no SpookyNet")
    return dict(content.pop("state_dict")), content


def _arrays(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with np.load(path, allow_pickle=False) as file:
        if "hyperparameters" not in file.files:
            raise ValueError(f"{os.fspath(path)}: no entry 'hyperparameters': this is no SpookyNet")
        arrays = {name: file[name] for name in file.files if name not in _ABOUT}
        return arrays, json.loads(str(file["hyperparameters"]))


def from_arrays(
    arrays: Mapping[str, np.ndarray],
    hyperparameters: Mapping[str, Any],
    *,
    long_range_cutoff: float | None = None,
    ewald: EwaldPlan | None = None,
    outputs: Sequence[str] = (),
    dtype: Any = "float32",
) -> tuple[Potential, Params]:
    """As :func:`load`, from arrays by name and hyperparameters.

    Raises:
        ValueError: If arrays are missing or unknown, or the model does what is not known here.
    """
    from jaxff import networks

    options = _options(hyperparameters)
    reader = Reader(arrays, "SpookyNet")
    count = options["residuals"]
    radial, rounding = _radial(reader, options["radial_functions"])
    modules = range(options["modules"])
    params: dict[str, Any] = {
        "network": {
            "nuclei": _nuclei(reader),
            "charge": _total(reader, "charge_embedding", count),
            "spin": _total(reader, "magmom_embedding", count),
            "radial": radial,
            **{f"module_{k}": _module(reader, f"module.{k}", count, rounding) for k in modules},
            "readout": _linear(reader, "output"),
            "elements": reader.take("element_bias"),
        }
    }  # fmt: skip
    if options["repulsion"]:
        params["repulsion"] = _repulsion(reader, "zbl_repulsion_energy.")
    if options["dispersion"]:
        params["dispersion"], options["dispersion_tables"] = _dispersion(
            reader, "d4_dispersion_energy."
        )
    options["directions"] = np.stack(
        [reader.take(f"module.{k}.nonlocal_interaction.attention.omega") for k in modules]
    )
    _skip(reader)
    reader.finish("the network and its repulsion, electrostatics and dispersion")
    options["max_number"] = len(params["network"]["elements"]) - 1
    potential = networks.spookynet(
        **options,
        nonlocal_attention="features",
        long_range_cutoff=long_range_cutoff,
        ewald=ewald,
        outputs=outputs,
        dtype=dtype,
    )
    return potential, to_params(params, dtype)


def _options(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the network; what it does not know is refused."""
    try:
        require("the model", hyperparameters, _MODEL)
        counts = {hyperparameters[f"num_residual_{name}"] for name in _RESIDUALS}
        if len(counts) > 1:
            raise ValueError(
                f"the model has stacks of {sorted(counts)} residual blocks, only the same number "
                "in all is known here"
            )
        return {
            "cutoff": float(hyperparameters["cutoff"]),
            "features": hyperparameters["num_features"],
            "radial_functions": hyperparameters["num_basis_functions"],
            "modules": hyperparameters["num_modules"],
            "residuals": counts.pop(),
            "keep_last_module": hyperparameters["module_keep_prob"],
            "repulsion": hyperparameters["use_zbl_repulsion"],
            "electrostatics": hyperparameters["use_electrostatics"],
            "dispersion": hyperparameters["use_d4_dispersion"],
        }
    except (KeyError, TypeError) as error:
        raise ValueError(f"these are no hyperparameters of SpookyNet: {error!r}") from error


def _linear(reader: Reader, name: str) -> dict[str, np.ndarray]:
    """There weights stand as (out, in)."""
    bias = f"{name}.bias"
    return {"kernel": reader.take(f"{name}.weight").T} | (
        {"bias": reader.take(bias)} if bias in reader else {}
    )


def _swish(reader: Reader, name: str) -> dict[str, np.ndarray]:
    return {part: reader.take(f"{name}.{part}") for part in ("alpha", "beta")}


def _residuals(reader: Reader, name: str, count: int) -> dict[str, Any]:
    result = {}
    for k in range(count):
        block = f"{name}.stack.{k}"
        for number, layer in enumerate(("inner", "outer")):
            result[f"swish_{2 * k + number}"] = _swish(reader, f"{block}.activation{number + 1}")
            result[f"{layer}_{k}"] = _linear(reader, f"{block}.linear{number + 1}")
    return result


def _mlp(reader: Reader, name: str, count: int) -> dict[str, Any]:
    return {
        "residuals": _residuals(reader, f"{name}.residual", count),
        "swish": _swish(reader, f"{name}.activation"),
        "linear": _linear(reader, f"{name}.linear"),
    }


def _branches(reader: Reader, names: Sequence[str], count: int) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *(_mlp(reader, n, count) for n in names))


def _nuclei(reader: Reader) -> dict[str, Any]:
    """Electron configurations are rounded there; vectors of the elements make up for it."""
    from jaxff.networks.electrons import configurations

    name = "nuclear_embedding"
    electrons = _linear(reader, f"{name}.config_linear")
    theirs = reader.take(f"{name}.electron_config").astype(np.float64)
    rounding = theirs - configurations()[: len(theirs)]
    if np.abs(rounding).max() > 1e-6:
        raise ValueError("the model has electron configurations that are not known here")
    free = reader.take(f"{name}.element_embedding") + rounding @ electrons["kernel"]
    return {"elements": free, "electrons": electrons}


def _total(reader: Reader, name: str, count: int) -> dict[str, Any]:
    return {
        **{part: _linear(reader, f"{name}.linear_{part[0]}") for part in ("query", "key", "value")},
        "mlp": _mlp(reader, f"{name}.resblock", count),
    }


def _radial(reader: Reader, count: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The exponent, and the factors by which rounding there makes the functions larger."""
    name = "radial_basis_functions"
    rising, falling = (reader.take(f"{name}.{part}") for part in ("v", "n"))
    order = np.arange(count)
    logarithms = reader.take(f"{name}.logc").astype(np.float64)
    factors = np.exp(logarithms) / np.array([math.comb(count - 1, k) for k in order])
    if (
        not np.array_equal(rising, order)
        or not np.array_equal(falling, order[::-1])
        or np.abs(factors - 1.0).max() > 1e-5
    ):
        raise ValueError("the model has radial functions that are not known here")
    return {"decay": reader.take(f"{name}._alpha").squeeze()}, factors


def _module(reader: Reader, name: str, count: int, rounding: np.ndarray) -> dict[str, Any]:
    local, far = f"{name}.local_interaction", f"{name}.nonlocal_interaction"
    radial = [(reader.take(f"{local}.radial_{kind}.weight") * rounding).T for kind in "spd"]
    return {
        "before": _residuals(reader, f"{name}.residual_pre", count),
        "local": {
            "branches": _branches(reader, [f"{local}.resblock_{k}" for k in "xspd"], count),
            # Radial functions are numbered from the other end there.
            "radial": {"kernel": np.concatenate(radial, axis=1)[::-1]},
            "product_1": _linear(reader, f"{local}.projection_p"),
            "product_2": _linear(reader, f"{local}.projection_d"),
            "mlp": _mlp(reader, f"{local}.resblock", count),
        },
        "nonlocal": {"branches": _branches(reader, [f"{far}.resblock_{k}" for k in "qkv"], count)},
        "after": _residuals(reader, f"{name}.residual_post", count),
        "mlp": _mlp(reader, f"{name}.resblock", count),
    }


def _repulsion(reader: Reader, prefix: str) -> dict[str, np.ndarray]:
    def numbers(letter: str) -> np.ndarray:
        return np.concatenate([reader.take(f"{prefix}_{letter}{k}") for k in (1, 2, 3, 4)])

    return {
        "amplitudes": numbers("c"),
        "decays": numbers("a"),
        "exponent": reader.take(f"{prefix}_apow").squeeze(),
        "inverse_length": reader.take(f"{prefix}_adiv").squeeze(),
    }


def _dispersion(reader: Reader, prefix: str) -> tuple[dict[str, np.ndarray], D4Tables]:
    """Parameters, and reference data."""

    def take(name: str) -> np.ndarray:
        return reader.take(prefix + name)

    names = {"s8": "_s8", "a1": "_a1", "a2": "_a2", "charge_scale": "_scaleq"}
    raw = {own: take(name).squeeze() for own, name in names.items()}
    coordination, gaussians, powers = take("cn"), take("ncount_mask") > 0, take("ncount_weight")
    usual = np.broadcast_to([1.0, 2.0, 3.0], gaussians.shape)
    if (
        abs(np.logaddexp(0.0, take("_s6")).item() - 1.0) > 1e-6
        or not np.array_equal(coordination, np.broadcast_to(coordination[..., :1], powers.shape))
        or not np.array_equal(powers[gaussians], usual[gaussians])
        or (np.diff(gaussians.astype(int), axis=-1) > 0).any()
    ):
        raise ValueError("the model has a dispersion that is not known here")
    if f"{prefix}alpha" in reader:
        take("alpha")  # follows from the rest
    tables = D4Tables(
        radii=take("rcov"),
        electronegativities=take("en"),
        nuclear_charges=take("zeff"),
        hardnesses=take("gam"),
        moments=take("sqrt_r4r2").astype(np.float64) ** 2,
        coordination=coordination[..., 0],
        gaussians=gaussians.sum(axis=-1),
        fallback=take("fixgweights"),
        charges=take("refq"),
        polarizabilities=take("alphaiw"),
        scales=take("ascale"),
        partners=take("refsys"),
        partner_counts=take("hcount"),
        partner_charges=take("refh"),
        partner_scales=take("sscale"),
        partner_polarizabilities=take("secaiw"),
        frequency_weights=take("casimir_polder_weights"),
    )
    return raw, tables


def _skip(reader: Reader) -> None:
    """What matters in training only."""
    if "keep_prob" in reader:
        reader.take("keep_prob")
