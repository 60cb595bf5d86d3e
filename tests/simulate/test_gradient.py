"""Gradients are held to finite differences, to the law that only relative positions count, and to bounded memory."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from afmid.errors import DataError
from afmid.molecule import Molecule
from afmid.simulate import Scene, Tip, oscillation_weights
from afmid.simulate.batch import Batch
from afmid.simulate.gradient import LONGEST
from afmid.simulate.reference import sample_law, tip_law
from afmid.simulate.torch_engine import TorchSimulator, _Law
from afmid.units import N_per_m

X, Y = np.linspace(-3.07, 3.03, 11), np.linspace(-2.91, 3.11, 9)
Z = 3.3 + 0.1 * np.arange(18)[::-1]
TIP = Tip(charge=-0.05, quadrupole=-0.1, offset=(0.2, -0.1))
WEIGHTS = oscillation_weights(0.1, 0.5, 30_300.0, 1800 * N_per_m)
SOFT = 5e-3  # eV/Å²: pixels whose smallest curvature is below, at any height, are left out: there the probe snaps
DIFFERENTIABLE = (
    "positions", "charges", "radii", "depths", "charge", "quadrupole", "lateral_stiffness", "radial_stiffness",
    "length", "offset", "probe_radius", "probe_depth", "x", "y", "z",
)  # fmt: skip


@pytest.fixture
def sticking_out(bent) -> Molecule:
    """A molecule with a hydrogen that points at the tip."""
    up = np.array([[0.6, -0.4, 0.9]])
    return Molecule(np.append(bent.numbers, 1), np.vstack([bent.positions, up]), np.append(bent.charges, 0.15))


@pytest.fixture
def engine() -> TorchSimulator:
    return TorchSimulator(precision="double")


def upstream(engine: TorchSimulator, scene: Scene, images: int) -> Tensor:
    """Return a random gradient (1, X, Y, Z') that is 0 at soft pixels; see SOFT."""
    batch = Batch.of([scene], torch.float64)
    pixels, heights = batch.pixels(), batch.z - batch.springs()[5]
    _, _, u, _ = engine._descend(_Law.of(batch), pixels, heights, tangents=True)
    centred = replace(scene.molecule, positions=batch.positions[0].numpy())
    curvature = []
    for k, z in enumerate(heights[0]):
        base, at = torch.cat([pixels, z.expand(1, *pixels.shape[1:])])[:, 0].T.numpy(), u[:, 0, :, k].T.numpy()
        hessian = sample_law(centred, scene.tip, base + at)[2] + tip_law(scene.tip, at)[2]
        curvature.append(np.linalg.eigvalsh(hessian)[:, 0])
    stiff = (np.min(curvature, axis=0) > SOFT).reshape(scene.shape[:2])
    assert stiff.mean() > 0.9
    random = torch.randn(1, *scene.shape[:2], images, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    return random * torch.from_numpy(stiff)[..., None]


def with_leaves(batch: Batch, *names: str) -> Batch:
    return replace(batch, **{name: getattr(batch, name).clone().requires_grad_() for name in names})


def gradients(engine: TorchSimulator, scenes: list[Scene], weight: Tensor, *names: str) -> list[Tensor]:
    batch = with_leaves(Batch.of(scenes, engine.dtype), *names)
    values = engine.batch_images(batch, WEIGHTS).values
    return list(torch.autograd.grad((values * weight.to(values)).sum(), [getattr(batch, name) for name in names]))


@pytest.mark.parametrize("weights", [(1.0,), WEIGHTS], ids=["force", "df"])
def test_gradients_equal_finite_differences(engine, sticking_out, weights):
    scene = Scene(sticking_out, TIP, X, Y, Z)
    weight = upstream(engine, scene, len(Z) - len(weights) + 1)
    batch = with_leaves(Batch.of([scene], torch.float64), *DIFFERENTIABLE)

    def total(batch: Batch) -> Tensor:
        return (engine.batch_images(batch, weights).values * weight).sum()

    total(batch).backward()
    generator = torch.Generator().manual_seed(0)
    errors = {}
    for name in DIFFERENTIABLE:
        leaf = getattr(batch, name)
        with torch.no_grad():
            scale = 1e-4 * leaf if name in ("depths", "probe_depth") else 1e-5
            way = scale * torch.randn(leaf.shape, dtype=torch.float64, generator=generator)
            ahead, behind = (total(replace(batch, **{name: leaf + sign * way})) for sign in (1, -1))
            errors[name] = float(abs((ahead - behind) / 2 / (leaf.grad * way).sum() - 1))
    assert np.median(list(errors.values())) < 1e-8, errors
    assert max(errors.values()) < 1e-5, errors


def test_each_coordinate_of_the_atom_that_sticks_out_has_its_own_gradient(engine, sticking_out):
    scene = Scene(sticking_out, TIP, X, Y, Z)
    weight = upstream(engine, scene, len(Z) - len(WEIGHTS) + 1)
    (gradient,) = gradients(engine, [scene], weight, "positions")
    batch = Batch.of([scene], torch.float64)
    for axis in range(3):
        step = torch.zeros_like(batch.positions)
        step[0, -1, axis] = 1e-5
        ahead, behind = (
            (engine.batch_images(replace(batch, positions=batch.positions + s), WEIGHTS).values * weight).sum()
            for s in (step, -step)
        )
        assert_allclose(gradient[0, -1, axis], (ahead - behind) / 2e-5, rtol=1e-6)


def test_moving_all_atoms_is_moving_the_grid_the_other_way(engine, sticking_out):
    scene = Scene(sticking_out, TIP, X, Y, Z)
    weight = upstream(engine, scene, len(Z) - len(WEIGHTS) + 1)
    positions, *grid = gradients(engine, [scene], weight, "positions", "x", "y", "z")
    assert_allclose(positions.sum((0, 1)), [-axis.sum() for axis in grid], rtol=1e-9)


def parametrised(batch: Batch, *names: str) -> tuple[Callable[[Tensor], Batch], Tensor]:
    """Return a function that makes `batch` of the tensors of these names in one row, and that row."""
    given = [getattr(batch, name) for name in names]

    def scenes(at: Tensor) -> Batch:
        parts = torch.split(at, [leaf.numel() for leaf in given])
        return replace(batch, **{n: p.reshape(leaf.shape) for n, p, leaf in zip(names, parts, given, strict=True)})

    return scenes, torch.cat([leaf.flatten() for leaf in given])


def test_the_jacobian_equals_the_gradients_whatever_the_chunk(sticking_out, bent):
    scenes = [Scene(sticking_out, TIP, X, Y, Z), Scene(bent, Tip(), X, Y, Z + 0.2)]
    weight = torch.randn(2, len(X), len(Y), len(Z) - len(WEIGHTS) + 1, dtype=torch.float64)
    names = [name for name in DIFFERENTIABLE if name not in "xyz"]
    gradient = gradients(TorchSimulator(precision="double"), scenes, weight, *names)
    in_parts = gradients(TorchSimulator(precision="double", chunk=300), scenes, weight, *names)
    engine, batch = TorchSimulator(precision="double", chunk=300), Batch.of(scenes, torch.float64)
    values, jacobian = engine.jacobian(*parametrised(batch, *names), WEIGHTS)
    assert_allclose(values, engine.batch_images(batch, WEIGHTS).values, atol=1e-7)
    assert jacobian.shape == (*weight.shape, sum(part.numel() for part in gradient))
    whole, whole_in_parts = (torch.cat([part.flatten() for part in found]) for found in (gradient, in_parts))
    assert_allclose(whole_in_parts, whole, rtol=1e-9, atol=1e-12)
    assert_allclose(torch.einsum("bxyzq,bxyz->q", jacobian, weight), whole, rtol=1e-8, atol=1e-11)


def test_the_jacobian_follows_parameters_that_move_several_things_at_once(engine, sticking_out):
    """Here the height of all atoms and the size of all atoms and of the probe."""
    batch = Batch.of([Scene(sticking_out, TIP, X, Y, Z)], torch.float64)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)

    def scenes(at: Tensor) -> Batch:
        sizes = {name: at[1] * getattr(batch, name) for name in ("radii", "probe_radius")}
        return replace(batch, positions=batch.positions + at[0] * up, **sizes)

    at = torch.tensor([0.0, 1.0], dtype=torch.float64)
    _, jacobian = engine.jacobian(scenes, at, WEIGHTS)
    weight = upstream(engine, Scene(sticking_out, TIP, X, Y, Z), jacobian.shape[3])
    for column, step in zip(jacobian.unbind(-1), 1e-5 * torch.eye(2, dtype=torch.float64), strict=True):
        ahead, behind = (engine.batch_images(scenes(at + sign * step), WEIGHTS).values for sign in (1, -1))
        assert_allclose((column * weight).sum(), ((ahead - behind) * weight).sum() / 2e-5, rtol=1e-5)


def test_single_precision_gradients_are_those_of_double_precision(engine, sticking_out):
    scene = Scene(sticking_out, TIP, X, Y, Z)
    weight = upstream(engine, scene, len(Z) - len(WEIGHTS) + 1)
    double = gradients(engine, [scene], weight, "positions", "charges", "lateral_stiffness")
    single = gradients(TorchSimulator(), [scene], weight, "positions", "charges", "lateral_stiffness")
    for expected, found in zip(double, single, strict=True):
        assert (found - expected).norm() < 1e-3 * expected.norm()


@pytest.mark.parametrize("precision", ["single", "double"])
def test_gradients_stay_finite_where_the_probe_is_about_to_snap_to_one_side(precision):
    """Right above an atom."""
    engine = TorchSimulator(precision=precision)
    one = Molecule(np.array([8]), np.zeros((1, 3)), np.zeros(1))
    scene = Scene(one, Tip(), np.linspace(-0.01, 0.01, 21), np.array([0.0]), 2.4 + 0.02 * np.arange(80)[::-1])
    batch = Batch.of([scene], engine.dtype)
    springs = batch.springs()
    _, unsettled, _, t = engine._descend(_Law.of(batch), batch.pixels(), batch.z - springs[5], tangents=True)
    assert not unsettled.any()
    assert_allclose(t.norm(dim=0).max(), LONGEST, rtol=1e-6)
    assert engine.jacobian(*parametrised(batch, "positions"))[1].isfinite().all()


def test_in_a_potential_only_charges_have_no_gradients(engine, bent, waves):
    batch = Batch.of([Scene(bent, TIP, X, Y, Z, waves)], torch.float64)
    leaves = with_leaves(batch, "positions", "length", "z")
    engine.batch_images(leaves, WEIGHTS).values[:, ::5, ::4].sum().backward()
    for name in ("positions", "length", "z"):
        leaf = getattr(leaves, name)
        way = 1e-5 * torch.randn(leaf.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        moved = [replace(batch, **{name: leaf.detach() + sign * way}) for sign in (1, -1)]
        ahead, behind = (engine.batch_images(b, WEIGHTS).values[:, ::5, ::4].sum() for b in moved)
        assert_allclose((ahead - behind) / 2, (leaf.grad * way).sum(), rtol=1e-5)
    with pytest.raises(DataError, match="no gradients with respect to charges"):
        engine.batch_images(with_leaves(batch, "quadrupole"))


def test_values_are_the_same_with_and_without_gradients(sticking_out):
    scene = Scene(sticking_out, TIP, X, Y, Z)
    engine, batch = TorchSimulator(), Batch.of([scene])
    plain = engine.batch_images(batch)
    with_gradient = engine.batch_images(with_leaves(batch, "charges"))
    with torch.no_grad():
        assert not engine.batch_images(with_leaves(batch, "charges")).values.requires_grad
    assert with_gradient.values.requires_grad
    assert not plain.values.requires_grad
    assert_allclose(with_gradient.values.detach(), plain.values, atol=2e-5)


def test_memory_does_not_grow_with_the_number_of_pairs():
    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            made = [made for made in (result if isinstance(result, tuple) else [result]) if isinstance(made, Tensor)]
            self.numel = max([self.numel, *(tensor.numel() for tensor in made)])
            return result

    grid = 1.4 * np.array([[i, j, 0] for i in range(-3, 4) for j in range(-3, 4)])
    sheet = Molecule(np.full(49, 6), grid, np.zeros(49))
    batch = with_leaves(Batch.of([Scene(sheet, Tip(), X, Y, Z)], torch.float64), "positions", "lateral_stiffness")
    kept = []
    keeps = torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda x: x)
    with Largest() as largest, keeps:
        values = TorchSimulator(precision="double", chunk=49 * len(Z)).batch_images(batch).values
        values.sum().backward()
    points = values.numel()
    assert batch.positions.grad.abs().min() > 0
    assert sum(kept) < 8 * points  # 6 of them the probes and their tangents; 49 if it were one per pair
    assert largest.numel <= 2 * points


def test_a_displaced_atom_is_pulled_back_by_a_few_steps_down_the_gradient(engine, sticking_out):
    batch = Batch.of([Scene(sticking_out, TIP, X, Y, Z)], torch.float64)
    measured = engine.batch_images(batch, WEIGHTS).values
    displaced = batch.positions.clone()
    displaced[0, -1] += torch.tensor([0.1, -0.08, 0.05])
    positions = displaced.clone().requires_grad_()
    optimizer = torch.optim.SGD([positions], lr=1e-5)
    misfits = []
    for _ in range(8):
        optimizer.zero_grad()
        misfit = (engine.batch_images(replace(batch, positions=positions), WEIGHTS).values - measured).square().sum()
        misfit.backward()
        optimizer.step()
        misfits.append(misfit.item())
    assert misfits[-1] < 0.3 * misfits[0]
