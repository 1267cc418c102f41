"""Polarizabilities and dispersion coefficients of free atoms."""

import jax.numpy as jnp
import numpy as np

from jaxff.types import Array, Float, Int

__all__ = ["C6", "POLARIZABILITIES", "of_elements"]

# Index is the atomic number, hydrogen to radon; atomic units. Tkatchenko & Scheffler, Phys. Rev.
# Lett. 102, 073005 (2009), doi:10.1103/PhysRevLett.102.073005 (light elements: Chu & Dalgarno, J.
# Chem. Phys. 121, 4083 (2004), doi:10.1063/1.1779576), the others as compiled by Gobre, doctoral
# thesis, Technische Universität Berlin (2016), table A.1, but caesium as SO3LR has it.
# fmt: off
POLARIZABILITIES = np.array([
    np.nan,
    4.5, 1.38,
    164.2, 38.0, 21.0, 12.0, 7.4, 5.4, 3.8, 2.67,
    162.7, 71.0, 60.0, 37.0, 25.0, 19.6, 15.0, 11.1,
    292.9, 160.0, 120.0, 98.0, 84.0, 78.0, 63.0, 56.0, 50.0, 48.0, 42.0, 40.0,
    60.0, 41.0, 29.0, 25.0, 20.0, 16.8,
    319.2, 199.0, 126.74, 119.97, 101.6, 88.42, 80.08, 65.89, 56.1, 23.68, 50.6, 39.7,
    70.22, 55.95, 43.67, 37.65, 35.0, 27.3,
    399.9, 275.0, 213.7, 204.7, 215.8, 208.4, 200.2, 192.1, 184.2, 158.3, 169.5, 164.64, 156.3,
    150.2, 144.3, 138.9, 137.2, 99.52, 82.53, 71.04, 63.04, 55.06, 42.51, 39.68, 36.5, 33.9,
    69.92, 61.8, 49.02, 45.01, 38.93, 33.54,
])
"""Static dipole polarizabilities in Bohr³."""

C6 = np.array([
    np.nan,
    6.5, 1.46,
    1387.0, 214.0, 99.5, 46.6, 24.2, 15.6, 9.52, 6.38,
    1556.0, 627.0, 528.0, 305.0, 185.0, 134.0, 94.6, 64.3,
    3897.0, 2221.0, 1383.0, 1044.0, 832.0, 602.0, 552.0, 482.0, 408.0, 373.0, 253.0, 284.0,
    498.0, 354.0, 246.0, 210.0, 162.0, 129.6,
    4691.0, 3170.0, 1968.58, 1677.91, 1263.61, 1028.73, 1390.87, 609.75, 469.0, 157.5, 339.0, 452.0,
    707.05, 587.42, 459.32, 396.0, 385.0, 285.9,
    6846.0, 5727.0, 3884.5, 3708.33, 3911.84, 3908.75, 3847.68, 3708.69, 3511.71, 2781.53, 3124.41,
    2984.29, 2839.95, 2724.12, 2576.78, 2387.53, 2371.8, 1274.8, 1019.92, 847.93, 710.2, 596.67,
    359.1, 347.1, 298.0, 392.0,
    717.44, 697.0, 571.0, 530.92, 457.53, 390.63,
])
"""Dipole-dipole dispersion coefficients between equal atoms in Hartree Bohr⁶."""
# fmt: on


def of_elements(
    table: Float[np.ndarray, " elements"], numbers: Int[Array, " atoms"], dtype: jnp.dtype
) -> Float[Array, " atoms"]:
    """Entries for atomic numbers: 1 for padding, NaN for elements that the table lacks."""
    values = jnp.take(jnp.asarray(table, dtype), numbers, mode="fill", fill_value=jnp.nan)
    return jnp.where(numbers > 0, values, 1.0)
