import jax
from kernel_models import water

from jaxff import gdml
from jaxff.descriptors import inverse_distances
from jaxff.kernels import Kernel, matern52, rbf
from jaxff.training.leakage import shared_geometries


def test_references_of_composed_kernels_are_recognised():
    model = gdml.potential(Kernel(inverse_distances, matern52) + Kernel(inverse_distances, rbf))
    hyper = {"0.lengthscale": 1.0, "1.lengthscale": 1.0}
    params = model.init(jax.random.key(0), water(3), hyper=hyper)
    mixed = jax.tree.map(lambda a, b: a.at[1].set(b[2]), water(3, seed=4), water(3))
    assert shared_geometries(model, params, mixed).tolist() == [False, True, False]
