import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh
from kernel_models import water

from gdml import shared_fit
from jaxff.gdml import sharding
from jaxff.gdml.operator import GdmlOperator
from jaxff.linalg.parallel import check_mesh

SCRIPT = Path(shared_fit.__file__)


@pytest.fixture(scope="module")
def expected():
    """The fit on one device, without a mesh."""
    return shared_fit.solve(None)


def run(path, devices, *more, virtual=1):
    flags = f"--xla_force_host_platform_device_count={virtual}"
    arguments = map(str, (SCRIPT, path, devices, *more))
    root = str(SCRIPT.parents[2])
    done = subprocess.run(
        [sys.executable, *arguments], text=True, capture_output=True, timeout=200,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": root},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(path) as file:
        return dict(file)


def difference(found, expected):
    """Largest error relative to the largest entry."""
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()


def check(found, expected, devices, here):
    assert difference(found["product"], expected["product"]) < 1e-10
    assert found["iterations"] == expected["iterations"] > 3
    assert difference(found["solution"], expected["solution"]) < 1e-3
    rows = -(-shared_fit.COUNT // devices) * 10
    for form in shared_fit.FORMS:
        for name in ("scores", "applied"):
            assert difference(found[f"{form} {name}"], expected[f"{form} {name}"]) < 1e-9
        # The factor of a device has as many rows as it has labels, and all columns.
        assert np.array_equal(found[f"{form} shards"], [[shared_fit.RANK, rows]] * here)
        assert found[f"{form} bytes"] == here * rows * shared_fit.RANK * 8


def test_three_devices_of_one_process_give_the_numbers_of_one(tmp_path, expected):
    """Eight references: the devices have three, three and two."""
    check(run(tmp_path / "found.npz", 3, virtual=4), expected, devices=3, here=3)


def test_two_processes_give_the_numbers_of_one(tmp_path, expected):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]

    def one(process):
        return run(tmp_path / f"{process}.npz", 2, process, 2, port)

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(one, (0, 1)))
    check(found[0], expected, devices=2, here=1)
    for name, value in found[0].items():
        assert np.array_equal(value, found[1][name])


def test_every_reference_has_one_device_and_every_label_one_row():
    for count, devices in ((8, 4), (8, 3), (5, 4)):
        owned = sharding.assign(count, devices)
        assert np.array_equal(np.concatenate(owned), np.arange(count))
        assert max(map(len, owned)) - min(map(len, owned)) <= 1
        for energies in (False, True):
            rows = [sharding.labels_of(of, count, 9, energies) for of in owned]
            assert all((np.diff(of) > 0).all() for of in rows)
            size = count * (9 + energies)
            assert np.array_equal(np.sort(np.concatenate(rows)), np.arange(size))


def test_unsuitable_meshes_are_refused():
    hyper = {"lengthscale": jax.numpy.asarray(1.0)}
    square = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("a", "b"))
    with pytest.raises(ValueError, match="one axis"):
        GdmlOperator(shared_fit.KERNEL, hyper, water(2), mesh=square)


def test_more_devices_than_references_are_refused():
    class Wide:
        axis_names, size = ("references",), 3

    with pytest.raises(ValueError, match="3 devices for 2 references"):
        check_mesh.__wrapped__(Wide(), 2)
