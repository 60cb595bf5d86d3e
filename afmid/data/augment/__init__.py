"""Augmentation: make simulated stacks look measured.

A step takes stacks (B, X, Y, Z), Z from far to near, their aligned targets, and a generator. It returns new stacks and
targets, and changes nothing that it was given. Each sample of the batch is drawn on its own. The draws come from the
generator alone, which may live on another device: neither their number nor their order depends on what the stacks show.

The options of the steps, with the published values as defaults, are in afmid.augmentations.
"""

from afmid.data.augment.distortion import Drift, PlaneShift, Shear, TipTilt
from afmid.data.augment.heights import MissingHeights, TipHeight
from afmid.data.augment.intensity import Background, Blur, Cutout, LineNoise, Noise, Normalise, normalised
from afmid.data.augment.motion import Flip, Rotate, Shift, Zoom
from afmid.data.augment.scan import augment_scan

__all__ = [
    "Background",
    "Blur",
    "Cutout",
    "Drift",
    "Flip",
    "LineNoise",
    "MissingHeights",
    "Noise",
    "Normalise",
    "PlaneShift",
    "Rotate",
    "Shear",
    "Shift",
    "TipHeight",
    "TipTilt",
    "Zoom",
    "augment_scan",
    "normalised",
]
