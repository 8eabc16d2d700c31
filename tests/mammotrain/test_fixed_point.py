"""The solvers find fixed points, say so when they do not, and gradients pass through them."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mammotrain.nn import _anderson
from mammotrain.nn.fixed_point import (
    BACKWARDS,
    SOLVERS,
    Backward,
    Settings,
    equilibrium,
    jacobian_penalty,
    solve,
    spectral_radius,
)

Cell = Callable[[Tensor], Tensor]
EVERY = pytest.mark.parametrize("solver", SOLVERS)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def matrix(radius: float, size: int = 12) -> Tensor:
    """A matrix, not symmetric, with this spectral radius; float64."""
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return a * radius / torch.linalg.eigvals(a).abs().max()


def conv_cell(strength: float, dtype: torch.dtype) -> tuple[Cell, list[Tensor]]:
    """A multiscale cell of 8 channels and what it closes over: filters, mixing, injection."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64) * scale
        return drawn.to(dtype).requires_grad_()

    filters = [draw(8, 8, k, k, scale=strength / (8 * k * k) ** 0.5) for k in (3, 5, 7)]
    mixing, injected = draw(8, 24, 1, 1, scale=24**-0.5), draw(3, 8, 10, 10)

    def f(z: Tensor) -> Tensor:
        scales = [functional.conv2d(z, w, padding=w.shape[-1] // 2) for w in filters]
        mixed = functional.conv2d(torch.cat(scales, 1), mixing)
        return 0.9 * functional.group_norm(torch.tanh(mixed + injected), 4)

    return f, [*filters, mixing, injected]


def relative(found: list[Tensor], wanted: list[Tensor]) -> float:
    error = sum(
        (a.double() - b.double()).square().sum() for a, b in zip(found, wanted, strict=True)
    )
    return float((error / sum(b.double().square().sum() for b in wanted)).sqrt())


@EVERY
def test_an_affine_map_has_the_known_fixed_point_and_gradient(solver):
    a, b = matrix(0.8).requires_grad_(), torch.randn(5, 12, dtype=torch.float64, requires_grad=True)
    settings = Settings(solver, tol=1e-13, max_iter=300)
    found = equilibrium(
        lambda z: z @ a.T + b,
        torch.zeros(5, 12, dtype=torch.float64),
        forward=settings,
        backward=Backward(settings=settings),
    )
    inverse = torch.linalg.inv(torch.eye(12, dtype=torch.float64) - a.detach())
    z = b.detach() @ inverse.T
    assert relative([found.z.detach()], [z]) < 1e-11
    given = torch.randn_like(z)
    gradients = torch.autograd.grad(found.z, (a, b), given)
    adjoint = given @ inverse  # u' = g' (I - A)^-1
    assert relative(list(gradients), [adjoint.T @ z, adjoint]) < 1e-11


@EVERY
@pytest.mark.parametrize(("strength", "low"), [(0.9, 0.6), (1.1, 0.93)])
def test_the_gradient_is_that_of_300_unrolled_iterations(solver, strength, low):
    f, closed_over = conv_cell(strength, torch.float64)
    z = zero = torch.zeros(3, 8, 10, 10, dtype=torch.float64)
    for _ in range(300):
        z = f(z)
    weights = torch.randn_like(zero)
    wanted = torch.autograd.grad((z * weights).sum(), closed_over)
    radius = spectral_radius(f, z, iterations=100).max()
    assert low < radius < 0.945
    for dtype, tol, limit in ((torch.float64, 1e-10, 1e-6), (torch.float32, 2e-6, 1e-4)):
        f, closed_over = conv_cell(strength, dtype)
        settings = Settings(solver, tol=tol, max_iter=600)
        found = equilibrium(
            f, zero.to(dtype), forward=settings, backward=Backward(settings=settings)
        )
        gradient = torch.autograd.grad((found.z * weights.to(dtype)).sum(), closed_over)
        assert found.forward.unconverged.sum() == 0
        assert relative(list(gradient), list(wanted)) < limit


@EVERY
def test_a_sample_does_not_depend_on_its_neighbours(solver):
    a = matrix(0.9)
    b = torch.cat((torch.randn(1, 12), 1e3 * torch.randn(3, 12))).double()
    settings = Settings(solver, tol=1e-6, max_iter=200)
    speed = torch.tensor([0.1, 1, 0.9, 0.5], dtype=torch.float64)[:, None]
    together = solve(lambda z: speed * (z @ a.T) + b, torch.zeros_like(b), settings)
    alone = [
        solve(lambda z, i=i: speed[i] * (z @ a.T) + b[i : i + 1], torch.zeros_like(b[:1]), settings)
        for i in range(4)
    ]
    assert together.steps.tolist() == [float(one.steps) for one in alone]
    assert len(set(together.steps.tolist())) > 1
    assert torch.allclose(together.z, torch.cat([one.z for one in alone]), rtol=1e-9)


@EVERY
def test_the_residual_is_that_of_the_point_returned(solver):
    a, b = matrix(0.9), torch.randn(4, 12, dtype=torch.float64)
    found = solve(lambda z: z @ a.T + b, b, Settings(solver, tol=1e-3, max_iter=200))
    value = found.z @ a.T + b
    residual = (value - found.z).norm(dim=1) / value.norm(dim=1)
    assert torch.allclose(found.residual.double(), residual, rtol=1e-5)
    assert found.converged.all()
    assert (residual <= 1e-3).all()


@EVERY
def test_divergence_is_reported_and_the_best_point_kept(solver):
    def f(z: Tensor) -> Tensor:
        return z.square() * 3 + 2  # no real fixed point; overflows

    found = solve(f, torch.full((2, 4), 0.5), Settings(solver, tol=1e-6, max_iter=50))
    assert not found.converged.any()
    assert found.z.isfinite().all()
    assert (found.residual > 1e-3).all()
    assert (found.residual <= (f(found.z) - found.z).norm(dim=1) / f(found.z).norm(dim=1)).all()


@EVERY
def test_one_diverging_sample_leaves_the_others_alone(solver):
    slope = torch.tensor([[0.5], [torch.nan], [0.2]])
    found = solve(lambda z: slope * z + 1, torch.ones(3, 4), Settings(solver, 1e-5, 40))
    assert found.converged.tolist() == [True, False, True]
    assert torch.allclose(found.z[::2], 1 / (1 - slope[::2]).expand(2, 4), rtol=1e-4)
    assert found.residual[1].isinf()


@EVERY
def test_the_limit_counts_evaluations(solver):
    calls = []

    def f(z: Tensor) -> Tensor:
        calls.append(1)
        return -z + 1  # neither contracts nor moves on

    found = solve(f, torch.zeros(2, 3), Settings(solver, tol=0.0, max_iter=7))
    assert len(calls) <= 7
    assert found.steps.tolist() == [len(calls)] * 2


def test_anderson_needs_fewer_steps_than_picard_and_a_ridge_that_scales(monkeypatch):
    a, b = matrix(0.95, 40), torch.randn(4, 40, dtype=torch.float64)

    def steps(solver: str) -> float:
        settings = Settings(solver, tol=1e-8, max_iter=900, memory=6)
        return solve(lambda z: z @ a.T + b, torch.zeros_like(b), settings).steps.max().item()

    scaled, picard = steps("anderson"), steps("picard")
    monkeypatch.setattr(_anderson, "RIDGE", {torch.float64: 1e-1})
    assert scaled < 0.5 * picard
    assert scaled < 0.7 * steps("anderson")


def test_anderson_is_as_fast_in_single_precision():
    a, b = matrix(0.95, 40), torch.randn(4, 40, dtype=torch.float64)
    settings = Settings(tol=1e-5, max_iter=300, memory=6)
    counts = [
        solve(lambda z, t=t: z @ a.to(t).T + b.to(t), torch.zeros(4, 40, dtype=t), settings).steps
        for t in (torch.float32, torch.float64)
    ]
    assert counts[0].mean() < 1.2 * counts[1].mean()


@EVERY
def test_autocast_does_not_reach_the_sums_of_the_solver(solver):
    a, b = matrix(0.8).float(), torch.randn(4, 12)

    def f(z: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return z @ a.T + b

    settings = Settings(solver, tol=1e-6, max_iter=100)
    outside = solve(f, b, settings)
    with torch.autocast("cpu", torch.bfloat16):
        inside = solve(f, b, settings)
    assert inside.converged.all()
    assert torch.equal(inside.z, outside.z)


def test_the_ridge_is_relative_so_the_scale_of_the_problem_does_not_matter():
    a, b = matrix(0.9), torch.randn(4, 12, dtype=torch.float64)
    counts = [
        solve(lambda z, s=s: z @ a.T + s * b, torch.zeros_like(b), Settings(tol=1e-8, max_iter=300))
        for s in (1e-6, 1.0, 1e6)
    ]
    assert counts[0].steps.tolist() == counts[1].steps.tolist() == counts[2].steps.tolist()


def test_a_map_that_returns_its_input_is_solved_at_once():
    z0 = torch.randn(2, 5)
    for solver in SOLVERS:
        found = solve(lambda z: z, z0, Settings(solver, tol=1e-6))
        assert found.steps.tolist() == [1, 1]
        assert torch.equal(found.z, z0)


def saved_bytes(kind: str, iterations: int) -> int:
    f, _ = conv_cell(0.9, torch.float32)
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        seen[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    settings = Settings(tol=0.0, max_iter=iterations)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        equilibrium(
            f, torch.zeros(3, 8, 10, 10), forward=settings, backward=Backward(kind, settings)
        )
    return sum(seen.values())


@pytest.mark.parametrize("kind", BACKWARDS)
def test_memory_for_backward_does_not_grow_with_iterations(kind):
    few, many = saved_bytes(kind, 5), saved_bytes(kind, 40)
    assert few > 0
    assert abs(many / few - 1) < 0.01


@pytest.mark.parametrize(
    ("backward", "least"),
    [(Backward("phantom", steps=30, damping=1.0), 0.9999), (Backward("one-step"), 0.7)],
)
def test_approximate_gradients_point_the_right_way(backward, least):
    f, closed_over = conv_cell(0.8, torch.float64)
    zero, settings = (
        torch.zeros(3, 8, 10, 10, dtype=torch.float64),
        Settings(tol=1e-10, max_iter=99),
    )
    weights = torch.randn_like(zero)

    def gradient(how: Backward) -> Tensor:
        found = equilibrium(f, zero, forward=settings, backward=how)
        parts = torch.autograd.grad((found.z * weights).sum(), closed_over)
        return torch.cat([part.flatten() for part in parts])

    exact, found = gradient(Backward(settings=settings)), gradient(backward)
    assert functional.cosine_similarity(exact, found, dim=0) > least
    assert not torch.equal(exact, found)


def test_the_adjoint_reports_what_it_did_after_backward():
    f, closed_over = conv_cell(1.1, torch.float32)
    found = equilibrium(
        f,
        torch.zeros(3, 8, 10, 10),
        forward=Settings(tol=1e-4, max_iter=99),
        backward=Backward(settings=Settings(tol=1e-7, max_iter=3)),
    )
    assert found.adjoint.steps.isnan().all()
    torch.autograd.grad(found.z.sum() + found.z.square().sum(), closed_over)
    assert found.adjoint.steps.tolist() == [3, 3, 3]
    assert found.adjoint.unconverged.tolist() == [1, 1, 1]
    assert (found.adjoint.residual > 1e-7).all()  # stopped by the limit: it shows


def test_the_penalty_is_the_squared_norm_of_the_jacobian_and_has_a_gradient():
    a = matrix(0.7).requires_grad_()
    point = torch.randn(4000, 12, dtype=torch.float64, requires_grad=True)
    penalty = jacobian_penalty(point @ a.T, point)
    exact = a.square().sum() / 12
    assert penalty.item() == pytest.approx(exact.item(), rel=0.05)
    (found,) = torch.autograd.grad(penalty, a)
    assert relative([found], [2 * a.detach() / 12]) < 0.1


@pytest.mark.parametrize("turn", [0.0, 1.0])
def test_the_spectral_radius_is_found_for_real_and_complex_pairs(turn):
    angle = torch.tensor(turn, dtype=torch.float64)
    block = 0.9 * torch.tensor(
        [[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]], dtype=torch.float64
    )
    basis = torch.eye(6, dtype=torch.float64) + 0.3 * torch.randn(6, 6, dtype=torch.float64)
    core = torch.block_diag(block, 0.3 * torch.eye(4, dtype=torch.float64))
    a = basis @ core @ torch.linalg.inv(basis)
    found = spectral_radius(lambda z: z @ a.T, torch.zeros(3, 6).double(), iterations=80)
    assert torch.allclose(found, torch.full((3,), 0.9), atol=0.02)


def test_the_state_is_float32_when_the_map_computes_in_bfloat16():
    f, closed_over = conv_cell(0.8, torch.float32)
    settings = Settings(tol=3e-3, max_iter=40)
    exact = equilibrium(f, torch.zeros(3, 8, 10, 10), forward=settings, backward=Backward())
    with torch.autocast("cpu", torch.bfloat16):
        found = equilibrium(
            f, torch.zeros(3, 8, 10, 10).bfloat16(), forward=settings, backward=Backward()
        )
    assert found.z.dtype == torch.float32
    assert found.forward.unconverged.sum() == 0
    assert found.forward.residual.max() <= 3e-3
    assert relative([found.z.detach()], [exact.z.detach()]) < 0.02
    gradients = [torch.autograd.grad(one.z.square().mean(), closed_over) for one in (exact, found)]
    assert relative(list(gradients[1]), list(gradients[0])) < 0.05


def test_without_gradients_the_value_is_the_same():
    f, _ = conv_cell(0.8, torch.float32)
    zero, settings = torch.zeros(3, 8, 10, 10), Settings()
    with torch.no_grad():
        quiet = equilibrium(f, zero, forward=settings, backward=Backward(), penalise=True)
    loud = equilibrium(f, zero, forward=settings, backward=Backward())
    assert not quiet.z.requires_grad
    assert quiet.penalty is None
    assert torch.equal(quiet.z, loud.z)


@EVERY
def test_a_solver_leaves_its_start_alone(solver):
    z0 = torch.randn(2, 6)
    kept = copy.deepcopy(z0)
    solve(lambda z: 0.5 * z + 1, z0, Settings(solver, tol=1e-6))
    assert torch.equal(z0, kept)


def test_looking_at_the_radius_draws_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    spectral_radius(lambda z: 0.5 * z, torch.randn(2, 4, generator=torch.Generator()))
    assert torch.equal(before, torch.get_rng_state())


def test_torchdeq_finds_the_same_point_and_gradient():
    torchdeq = pytest.importorskip("torchdeq")
    f, closed_over = conv_cell(0.9, torch.float64)
    zero = torch.zeros(3, 8, 10, 10, dtype=torch.float64)
    weights, settings = torch.randn_like(zero), Settings(tol=1e-9, max_iter=200)
    found = equilibrium(f, zero, forward=settings, backward=Backward(settings=settings))
    deq = torchdeq.get_deq(
        ift=True, f_solver="fixed_point_iter", b_solver="fixed_point_iter", f_max_iter=400,
        b_max_iter=400, f_tol=1e-9, b_tol=1e-9, f_stop_mode="rel", b_stop_mode="rel",
    )  # fmt: skip
    theirs = deq(f, zero)[0][-1]
    assert relative([found.z.detach()], [theirs.detach()]) < 1e-8
    gradients = [torch.autograd.grad((z * weights).sum(), closed_over) for z in (found.z, theirs)]
    assert relative(list(gradients[0]), list(gradients[1])) < 1e-7


@EVERY
def test_the_layout_in_memory_does_not_change_the_result(solver):
    f, _ = conv_cell(0.8, torch.float64)
    z0 = torch.randn(3, 8, 10, 10, dtype=torch.float64)
    settings = Settings(solver, tol=1e-10, max_iter=200)
    plain = solve(f, z0, settings)
    turned = solve(f, z0.contiguous(memory_format=torch.channels_last), settings)
    assert turned.converged.all()
    assert torch.allclose(plain.z, turned.z, rtol=1e-8)
    assert turned.z.is_contiguous(memory_format=torch.channels_last)
