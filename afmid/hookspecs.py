"""The hooks a plugin may implement, and nothing else.

A plugin is a module named under `[project.entry-points.afmid]` in its pyproject. All hooks are called once per command
that needs them, and return descriptions (afmid.offers): import torch and read files in their `load`, not here.
Two offers of one kind and name are an error that names both plugins.
"""

from collections.abc import Iterable

import pluggy

from afmid.offers import Augmentation, Engine, Identifier, Metric, Trainer

hookspec = pluggy.HookspecMarker("afmid")
hookimpl = pluggy.HookimplMarker("afmid")


@hookspec
def afmid_simulate() -> Iterable[Engine]:  # type: ignore[empty-body]
    """Return the simulation engines this package adds: scenes to forces, batched; chosen by `--engine`."""


@hookspec
def afmid_augment() -> Iterable[Augmentation]:  # type: ignore[empty-body]
    """Return the augmentations this package adds: stacks and aligned targets to new ones; chosen by `--steps`."""


@hookspec
def afmid_train() -> Iterable[Trainer]:  # type: ignore[empty-body]
    """Return the trainers this package adds: molecules to weights; chosen by `afmid train METHOD`."""


@hookspec
def afmid_identify() -> Iterable[Identifier]:  # type: ignore[empty-body]
    """Return the identification methods this package adds: scans to an Identification; chosen by `--method`."""


@hookspec
def afmid_evaluate() -> Iterable[Metric]:  # type: ignore[empty-body]
    """Return the metrics this package adds: an Identification and the truth to figures; chosen by `--metrics`."""
