"""The deep equilibrium model converges, says so, learns, and is the same on two processes."""

import os
import socket
from pathlib import Path

import pytest
import torch
from torch import Tensor, multiprocessing, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.parallel import DistributedDataParallel

from mammoprep.core.errors import ConfigError
from mammotrain.models.deq import Config, build
from mammotrain.nn.fixed_point import BACKWARDS, SOLVERS

SMALL = {"width": 12, "groups": 4}
HALF = {"cell_precision": "autocast", "tol": 5e-3, "adjoint_tol": 5e-3}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def model(**settings: object) -> nn.Module:
    torch.manual_seed(0)
    return build(Config(**(SMALL | settings)), channels=1, outputs=1, size=(64, 64))


def gradient(of: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in of.parameters()])


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_finds_the_same_features(solver):
    images = torch.rand(3, 1, 64, 48)
    exact = model(solver="picard", tol=1e-7, max_iter=99).train(False)(images)
    found = model(solver=solver, tol=1e-5, max_iter=99).train(False)(images)
    assert found.stats["solver_unconverged"].sum() == 0
    assert found.stats["solver_residual"].max() <= 1e-5
    assert torch.allclose(found.logits, exact.logits, atol=1e-4)


def test_the_filters_start_as_a_contraction():
    found = model(radius_iterations=30, width=48).train(False)(torch.rand(4, 1, 64, 64))
    assert 0.05 < found.stats["spectral_radius"].max() < 0.5
    assert found.stats["solver_steps"].max() < 8


def test_the_radius_is_measured_only_when_asked_for_and_evaluating():
    images = torch.rand(2, 1, 64, 64)
    assert "spectral_radius" not in model().train(False)(images).stats
    assert "spectral_radius" not in model(radius_iterations=4)(images).stats
    with torch.no_grad():
        assert model(radius_iterations=4).train(False)(images).stats["spectral_radius"].shape == (
            2,
        )


def test_a_map_that_does_not_contract_is_reported():
    found = model(gain=3, max_iter=12, adjoint_max_iter=12)(torch.rand(4, 1, 64, 64))
    assert found.stats["solver_unconverged"].tolist() == [1] * 4
    assert found.stats["solver_steps"].tolist() == [12] * 4
    assert (found.stats["solver_residual"] > 1e-3).all()
    found.logits.sum().backward()
    assert found.stats["adjoint_unconverged"].sum() > 0


def test_the_adjoint_is_reported_once_backward_has_run():
    found = model()(torch.rand(2, 1, 64, 64))
    assert found.stats["adjoint_steps"].isnan().all()
    found.logits.sum().backward()
    assert (found.stats["adjoint_steps"] >= 1).all()
    assert (found.stats["adjoint_residual"] <= 1e-3).all()
    assert found.stats["adjoint_unconverged"].tolist() == [0, 0]


@pytest.mark.parametrize("kind", BACKWARDS)
def test_every_backward_gives_every_parameter_a_gradient(kind):
    net = model(backward=kind, jacobian_weight=0.1)
    found = net(torch.rand(2, 1, 64, 64))
    assert found.penalty is not None
    (found.logits.sum() + found.penalty).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_the_penalty_shrinks_the_radius():
    images = torch.rand(8, 1, 64, 64)
    net = model(gain=1.2, jacobian_weight=1.0, radius_iterations=20)
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    before = net.train(False)(images).stats["spectral_radius"].mean()
    net.train()
    for _ in range(10):
        optimiser.zero_grad()
        net(images).penalty.backward()
        optimiser.step()
    assert net.train(False)(images).stats["spectral_radius"].mean() < 0.8 * before


def test_the_penalty_is_left_out_when_evaluating_and_for_its_share_of_steps():
    images = torch.rand(1, 1, 32, 32)
    net = model(jacobian_weight=0.5, jacobian_share=0.3)
    drawn = [net(images).penalty is not None for _ in range(40)]
    assert 4 <= sum(drawn) <= 22
    assert net.train(False)(images).penalty is None


def test_autocast_changes_little_and_the_state_stays_float32():
    images = torch.rand(4, 1, 64, 64)
    gradients, outputs = [], []
    for half, settings in ((False, {}), (True, {}), (True, HALF)):
        net = model(**settings)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            found = net(images)
        found.logits.float().sum().backward()
        assert found.stats["solver_unconverged"].sum() == 0
        assert found.stats["adjoint_unconverged"].sum() == 0
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in net.parameters())
        gradients.append(gradient(net))
        outputs.append(found.logits.float())
    for other, output in zip(gradients[1:], outputs[1:], strict=True):
        assert not torch.equal(other, gradients[0])
        assert (other - gradients[0]).norm() < 0.1 * gradients[0].norm()
        assert torch.allclose(output, outputs[0], atol=0.02)


def test_under_autocast_a_float32_cell_meets_a_tolerance_that_bfloat16_cannot():
    with torch.autocast("cpu", torch.bfloat16):
        found = model(tol=1e-6, adjoint_tol=1e-6)(torch.rand(2, 1, 64, 64))
    assert found.stats["solver_residual"].max() <= 1e-6


def test_a_bfloat16_cell_meets_the_tolerance_it_is_allowed():
    with torch.autocast("cpu", torch.bfloat16):
        net = model(**HALF, width=48, gain=1.1)
        found = net(torch.rand(4, 1, 64, 64))
    found.logits.float().sum().backward()
    assert found.stats["solver_unconverged"].sum() == 0
    assert found.stats["adjoint_unconverged"].sum() == 0


def test_evaluating_first_in_the_same_autocast_loses_no_gradient():
    net, images = model(**HALF), torch.rand(2, 1, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            net(images)
        net(images).logits.float().sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_brightness_and_contrast_of_the_picture_hardly_matter():
    net, images = model().train(False), torch.rand(2, 1, 64, 64)
    darker = 0.1 * images - 2
    assert torch.allclose(net(images).logits, net(darker).logits, atol=0.1)
    assert not torch.allclose(net(images).logits, net(images.flip(0)).logits, atol=1e-3)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (96, 64)])
@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16])
def test_any_size_and_stride_works(size, stride):
    torch.manual_seed(0)
    net = build(Config(**SMALL, stem_stride=stride), channels=2, outputs=3, size=size)
    found = net(torch.rand(2, 2, *size))
    assert found.logits.shape == (2, 3)
    assert found.logits.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"solver": "newton"}, "anderson, broyden, picard"),
        ({"backward": "bptt"}, "implicit, phantom, one-step"),
        ({"stem_stride": 3}, "got 3"),
        ({"kernel_sizes": (3, 4)}, "odd"),
        ({"width": 0}, "at least 1"),
        ({"phantom_damping": 0.0}, "above 0"),
        ({"cell_precision": "autocast", "tol": 1e-3}, "cell_precision = 'float32'"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        model(**settings)


def test_a_picture_that_is_too_small_is_refused():
    with pytest.raises(ConfigError, match="at least 32"):
        build(Config(), channels=1, outputs=1, size=(64, 24))


def blobs(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noise of 32 x 32 pixels; every second picture has a blob at an unknown place."""
    images = torch.randn(count, 1, 32, 32, generator=generator)
    targets = (torch.arange(count) % 2).float()
    centres = torch.rand(count, 2, 1, generator=generator) * 16 + 8
    rows, columns = torch.exp(-((torch.arange(32) - centres) ** 2) / 18).unbind(1)
    images[:, 0] += 2.0 * targets[:, None, None] * rows[:, :, None] * columns[:, None, :]
    return images * 0.12 + 0.5, targets


@pytest.mark.slow
def test_it_learns_to_find_a_blob_anywhere():
    generator = torch.Generator().manual_seed(0)
    net = model(width=24)
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(60):
        images, targets = blobs(32, generator)
        optimiser.zero_grad()
        found = net(images)
        bce(found.logits[:, 0], targets).backward()
        optimiser.step()
        assert found.stats["solver_unconverged"].sum() == 0
    images, targets = blobs(200, generator)
    scores = net.train(False)(images).logits[:, 0]
    higher = scores[targets == 1][:, None] > scores[targets == 0][None]
    assert higher.float().mean() > 0.9


def step_of(net: nn.Module, images: Tensor, targets: Tensor) -> None:
    bce(net(images).logits[:, 0], targets).backward()


def part_of_two(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    net = model(tol=1e-6, adjoint_tol=1e-6)
    images, targets = blobs(8, torch.Generator().manual_seed(5))
    step_of(DistributedDataParallel(net), images[rank * 4 :][:4], targets[rank * 4 :][:4])
    torch.save(gradient(net), Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_the_gradient_of_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.start_processes(
        part_of_two, args=(port, str(tmp_path)), nprocs=2, start_method="spawn"
    )
    net = model(tol=1e-6, adjoint_tol=1e-6)
    step_of(net, *blobs(8, torch.Generator().manual_seed(5)))
    first, second = (torch.load(tmp_path / f"{i}.pt", weights_only=True) for i in (0, 1))
    assert torch.equal(first, second)
    assert (first - gradient(net)).norm() < 1e-6 * gradient(net).norm()
