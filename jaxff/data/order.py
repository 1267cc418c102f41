"""Order of the frames in an epoch: at random, with batches of nearly equal size."""

import numpy as np
from jaxtyping import Float, Int

__all__ = ["balanced_order"]


def balanced_order(
    sizes: Float[np.ndarray, " frames"], batch_size: int, devices: int, seed: int, epoch: int
) -> Int[np.ndarray, " frames"]:
    """Each frame once, in random batches that draw one frame of each class of sizes.

    A step takes ``batch_size * devices`` frames. They are ranked by size into as many classes, of
    which each step draws one frame: its sum varies less than that of frames drawn from all, less of
    it is padding, and each step sees small and large structures. Frames of one size are shuffled.

    Args:
        sizes: Work that a frame is, in any unit.
        batch_size: Frames per device and step.
        devices: Their number; each draws from the whole range of sizes.
        seed: Seed of all epochs.
        epoch: Each has its own order.
    """
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(sizes))
    if (sizes == sizes[0]).all():
        return order
    step = batch_size * devices
    whole = len(order) // step * step
    first, rest = order[:whole], order[whole:]
    classes = first[np.argsort(sizes[first], kind="stable")].reshape(step, -1)
    drawn = rng.permuted(classes, axis=1).T
    dealt = np.arange(step).reshape(batch_size, devices)
    dealt[1::2] = dealt[1::2, ::-1]  # not the larger one of each row to the same device
    return np.concatenate([drawn[:, dealt.T.ravel()].ravel(), rest])
