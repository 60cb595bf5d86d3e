"""Scenes as tensors."""

from dataclasses import fields, replace

import numpy as np
import torch
from numpy.testing import assert_allclose

from afmid.simulate import Batch, Scene, Scenes, Tip
from afmid.simulate.batch import groups
from afmid.simulate.reference import sample_law

X, Y, Z = np.linspace(4, 7, 5), np.linspace(-3, 1, 4), np.array([3.6, 3.4, 3.2])


def scenes(bent):
    small = replace(bent, numbers=bent.numbers[:2], positions=bent.positions[:2], charges=bent.charges[:2])
    return [Scene(molecule, Tip(charge=0.1, offset=(0.2, 0.1)), X, Y, Z) for molecule in (bent, small)]


def test_positions_and_axes_are_those_of_the_scenes_about_the_centre_of_the_grid(bent):
    batch = Batch.of(scenes(bent), torch.float64)
    assert batch.counts.tolist() == [6, 2]
    for b, scene in enumerate(scenes(bent)):
        at = batch.positions[b, : batch.counts[b]] + batch.centres[b]
        assert_allclose(at, scene.molecule.positions, atol=1e-12)
        for i, axis in enumerate("xyz"):
            assert_allclose(getattr(batch, axis)[b] + batch.centres[b, i], getattr(scene, axis), atol=1e-12)
    x, y = batch.pixels()[:, 0] + batch.centres[0, :2, None]
    assert_allclose(np.stack([x, y]), np.stack(np.meshgrid(X, Y, indexing="ij")).reshape(2, -1), atol=1e-12)


def test_the_coefficients_make_the_reference_law_and_atoms_that_fill_up_are_not_felt(bent):
    batch, (_, scene) = Batch.of(scenes(bent), torch.float64), scenes(bent)
    point = np.array([[5.2, -0.7, 3.3]])
    x, y, z, c6, c12, monopole, quadrupole = batch.atoms()[:, 1].numpy()
    d = point - batch.centres[1].numpy() - np.stack([x, y, z], 1)
    s, up = (d**2).sum(1), d[:, 2]
    a = (c6 - c12 / s**3) / s**4 - monopole / s**1.5 + quadrupole / s**2.5 * (9 - 15 * up**2 / s)
    assert_allclose(-(a * up).sum(), sample_law(scene.molecule, scene.tip, point)[1][0, 2], rtol=1e-10)


def test_groups_keep_the_order_and_the_limit(bent):
    many = scenes(bent) * 3
    made = list(groups(many, points=6 * 20 * 2))
    assert [scene for group in made for scene in group] == many
    assert max(len(group) for group in made) == 2
    assert [len(group) for group in groups(many, points=1)] == [1] * 6


def test_groups_of_columns_are_those_of_a_list(bent):
    many = scenes(bent) * 3
    for points in (1, 6 * 20 * 2, 10**9):
        sizes = [len(group) for group in groups(many, points)]
        assert [len(group) for group in groups(Scenes.of(many), points)] == sizes


def test_a_batch_of_columns_is_that_of_a_list_and_no_part_of_them(bent):
    columns = Scenes.of(scenes(bent))
    batch, other = Batch.of(columns, torch.float64), Batch.of(scenes(bent), torch.float64)
    for field in fields(Batch):
        assert field.name == "splines" or torch.equal(getattr(batch, field.name), getattr(other, field.name))
    batch.charge.add_(1)
    assert columns.charge.tolist() == [0.1, 0.1]
