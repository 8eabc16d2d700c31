"""Reconstruction learns from the usual alone, and says how unusual a picture is."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

import mammoprep
from mammoprep.core.errors import ConfigError
from mammotrain import config as configs
from mammotrain import folder, losses, scores
from mammotrain.contracts import Output, Shown, ask
from mammotrain.models import cvae
from mammotrain.run import Request, run
from mammotrain.tasks import reconstruct
from mammotrain.trainer import Watcher

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("negative", "cancer")
CANCER = [0, 0, 1, 0, None, 1, 0, 0]
COUNT, SIDE = len(CANCER), 32


def column(values: list[Any]) -> np.ndarray:
    found = np.empty(len(values), object)
    found[:] = values
    return found


def table() -> dict[str, np.ndarray]:
    return {
        "label": column([0] * COUNT),
        "labels.cancer": column(CANCER),
        "view": column(["CC", "MLO", "ML", None] * 2),
        "labels.density": column(["A", "D", None, "B"] * 2),
    }


def build(**options: Any) -> reconstruct.Reconstruct:
    return reconstruct.build(reconstruct.Config(**options), table(), NAMES, np.arange(COUNT))


def pictures(count: int = COUNT, side: int = SIDE) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return functional.avg_pool2d(
        torch.rand(count, 1, side + 4, side + 4, generator=generator), 5, 1
    )


def shown(images: Tensor | None = None) -> Shown:
    given = pictures() if images is None else images
    return Shown(given, None, np.arange(len(given)))


def saying(images: Tensor, **stats: Tensor) -> Output:
    """Return the output whose reconstruction is these pictures."""
    return Output(torch.logit(images.clamp(1e-6, 1 - 1e-6)), stats=stats)


def small(**options: Any) -> nn.Module:
    given = {"latent": 4, "widths": (4, 4, 8, 8, 8), **options}
    torch.manual_seed(0)
    return cvae.build(cvae.Config(**given), channels=1, outputs=1, size=(SIDE, SIDE))


# The model


def test_the_divergence_is_that_of_torch_and_of_the_closed_form() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, spread = torch.randn(2, 5, 7, generator=generator)
    theirs = kl_divergence(Normal(mean, (spread / 2).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(cvae.divergence(mean, spread), theirs)
    one = cvae.divergence(torch.full((1, 3), 2.0), torch.zeros(1, 3))
    assert one.item() == pytest.approx(3 * 2**2 / 2)
    assert cvae.divergence(torch.zeros(1, 3), torch.zeros(1, 3)).item() == 0


def test_the_penalty_is_beta_times_the_divergence_a_pixel() -> None:
    model = small(beta=0.5).eval()
    found = model(pictures())
    cost = 0.5 * found.stats["kl"] / SIDE**2
    torch.testing.assert_close(found.stats["kl_cost"], cost)
    torch.testing.assert_close(found.penalty, cost.mean())
    mean, spread = model.encode(pictures())
    torch.testing.assert_close(found.stats["kl"], cvae.divergence(mean, spread).detach())


def test_beta_rises_while_it_learns_and_is_whole_when_it_is_asked() -> None:
    model = small(beta=1.0, warmup_steps=4)
    model.train()
    shares = []
    for _ in range(6):
        found = model(pictures())
        shares.append(float((found.stats["kl_cost"] / found.stats["kl"]).mean()) * SIDE**2)
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    fresh = small(beta=1.0, warmup_steps=4).eval()
    found = fresh(pictures())
    torch.testing.assert_close(found.stats["kl_cost"] * SIDE**2, found.stats["kl"])
    assert fresh.seen == 0


def test_the_warm_up_goes_on_where_a_checkpoint_stands() -> None:
    model, other = small(beta=1.0, warmup_steps=8), small(beta=1.0, warmup_steps=8)
    for _ in range(3):
        model(pictures())
    other.load_state_dict(model.state_dict())
    torch.manual_seed(1)
    one = model(pictures())
    torch.manual_seed(1)
    assert torch.equal(other(pictures()).penalty, one.penalty)


def test_chance_has_a_part_in_training_only() -> None:
    model = small()
    model.train()
    assert not torch.equal(model(pictures()).logits, model(pictures()).logits)
    model.eval()
    assert torch.equal(model(pictures()).logits, model(pictures()).logits)


@pytest.mark.parametrize("size", [(64, 32), (48, 40), (33, 95)])
def test_pictures_of_any_size_come_back_in_their_own(size: tuple[int, int]) -> None:
    model = cvae.build(
        cvae.Config(latent=4, widths=(4, 4, 4, 4, 4)), channels=2, outputs=2, size=size
    )
    assert model(torch.rand(2, 2, *size)).logits.shape == (2, 2, *size)


def test_what_is_told_matters_and_must_fit() -> None:
    model = small(conditions=3).eval()
    same = pictures(1).expand(2, -1, -1, -1)
    told = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    encoded, decoded = model.encode(same, told)[0], model.decode(torch.zeros(2, 4), told)
    assert not torch.allclose(encoded[0], encoded[1])
    assert not torch.allclose(decoded[0], decoded[1])
    assert not torch.allclose(*model(same, told).logits)
    with pytest.raises(ConfigError, match=r"--set model\.conditions=0"):
        model(same)
    with pytest.raises(ConfigError, match=r"--set model\.conditions=2"):
        model(same, torch.zeros(2, 2))
    with pytest.raises(ConfigError, match="takes images"):
        small()(torch.rand(2, 1, 64, 32))


@pytest.mark.parametrize(
    ("options", "named"),
    [({"widths": (4, 4)}, "widths"), ({"widths": (4, 4, 4, 4, 0)}, "widths"),
     ({"latent": 0}, "latent"), ({"beta": -1.0}, "beta"), ({"conditions": -1}, "conditions"),
     ({"warmup_steps": -1}, "warmup_steps"), ({"dropout": 1.0}, "dropout")],
)  # fmt: skip
def test_settings_of_the_model_out_of_range_are_refused(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=rf"model\.{named} "):
        small(**options)


@pytest.mark.parametrize("half", [False, True])
def test_a_huge_latent_vector_still_has_a_finite_loss(half: bool) -> None:
    model = small()
    with torch.no_grad():
        model.to_latent.weight.mul_(1e3)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        found = model(pictures())
    assert found.penalty.dtype == torch.float32
    (found.penalty + found.logits.float().square().mean()).backward()
    assert found.penalty.isfinite()
    assert all(value.grad.isfinite().all() for value in model.parameters())


# The task


def test_it_learns_from_those_that_are_known_not_to_have_the_target() -> None:
    assert build().learns_from(np.arange(COUNT)).tolist() == [0, 1, 3, 6, 7]
    with pytest.raises(ConfigError, match="learns from the others"):
        build().learns_from(np.array([2, 5]))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_loss_and_score_follow_from_error_and_similarity(share: float) -> None:
    images, made = pictures(), pictures().flip(0) * 0.8
    task = build(ssim=share, scale=0.02)
    cost = torch.linspace(0, 0.1, COUNT)
    found = saying(made, kl=cost * 100, kl_cost=cost)
    each = torch.stack([functional.mse_loss(a, b) for a, b in zip(images, made, strict=True)])
    error = (1 - share) * each + share * (1 - losses.ssim(images, made)) / 2
    torch.testing.assert_close(task.loss(found, images), error.mean())
    expected = (error + cost) / (error + cost + 0.02)
    torch.testing.assert_close(task.scores(found, shown(images))[:, 1], expected)


def test_a_worse_picture_has_a_higher_score_however_bad_it_is() -> None:
    task, images = build(), torch.zeros(6, 1, SIDE, SIDE)
    said = torch.tensor([0.01, 0.1, 0.3, 0.7, 0.9, 0.99]).view(-1, 1, 1, 1).expand_as(images)
    found = task.scores(saying(said), shown(images))[:, 1]
    assert (found.diff() > 0).all()


def test_ssim_is_that_of_the_paper_by_opencvs_window() -> None:
    one, two = pictures(3, 40), (pictures(3, 40).flip(0) * 0.7 + 0.1)

    def blurred(image: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(image, (11, 11), 1.5)[5:-5, 5:-5]

    for place in range(3):
        a, b = (each[place, 0].double().numpy() for each in (one, two))
        ma, mb = blurred(a), blurred(b)
        va, vb = blurred(a * a) - ma**2, blurred(b * b) - mb**2
        together = blurred(a * b) - ma * mb
        c1, c2 = 0.01**2, 0.03**2
        expected = ((2 * ma * mb + c1) * (2 * together + c2)) / (
            (ma**2 + mb**2 + c1) * (va + vb + c2)
        )
        assert losses.ssim(one, two)[place].item() == pytest.approx(expected.mean(), abs=1e-5)
    torch.testing.assert_close(losses.ssim(one, one), torch.ones(3))
    assert losses.ssim(one[..., :5, :7], two[..., :5, :7]).isfinite().all()


def test_ssim_is_as_exact_under_autocast() -> None:
    one, two = pictures(3), pictures(3) * 0.9
    with torch.autocast("cpu", torch.bfloat16):
        half = losses.ssim(one, two)
    assert torch.equal(half, losses.ssim(one, two))


def test_the_error_map_shows_where_and_its_mean_is_the_error() -> None:
    task, images = build(), pictures()
    made = images.clone()
    made[:, :, 4:9, 10:20] += 0.2
    found = task.error_map(saying(made), shown(images))
    assert found.shape == (COUNT, 1, SIDE, SIDE)
    assert (found[:, :, 4:9, 10:20] > 0.03).all()
    found_mean = found.mean((1, 2, 3))
    torch.testing.assert_close(found_mean, losses.squared_error(images, made), atol=1e-6, rtol=1e-4)
    found[:, :, 4:9, 10:20] = 0
    assert found.max() < 1e-6


def test_conditions_have_a_category_for_what_is_not_known() -> None:
    told = build(conditions=("view", "density")).conditions(np.array([3, 0, 2]))
    assert told.tolist() == [
        [0, 0, 0, 1, 0, 1, 0, 0, 0],  # view unknown, B
        [1, 0, 0, 0, 1, 0, 0, 0, 0],  # CC, A
        [0, 0, 1, 0, 0, 0, 0, 0, 1],  # other view, density unknown
    ]
    assert build().conditions(np.arange(3)) is None
    bare = {"labels.cancer": column([0, 1]), "label": column([0, 1])}
    config = reconstruct.Config(conditions=("view", "density"))
    asked = reconstruct.build(config, bare, NAMES, np.zeros(0, np.int64))
    assert asked.conditions(np.arange(2)).tolist() == [[0, 0, 0, 1, 0, 0, 0, 0, 1]] * 2
    with pytest.raises(ConfigError, match="Did you mean 'density'"):
        reconstruct.Config(conditions=("densty",))


def collapsed(found: Output, images: Tensor) -> list[float]:
    return build().measures(found, shown(images))["collapsed"][:, 0].tolist()


def test_a_model_that_always_says_nothing_is_flagged() -> None:
    images = pictures()
    assert collapsed(Output(torch.full_like(images, -50.0)), images) == [1] * COUNT
    assert collapsed(Output(torch.zeros_like(images)), images) == [1] * COUNT
    flat = images.mean((1, 2, 3), keepdim=True).expand_as(images)
    assert collapsed(saying(flat * 1.001), images) == [1] * COUNT


def test_a_model_whose_latent_vector_says_nothing_is_flagged_however_good_its_mean_is() -> None:
    images = pictures()
    near = 0.5 * images + 0.5 * images.mean((1, 2, 3), keepdim=True)
    assert collapsed(saying(near), images) == [0] * COUNT
    assert collapsed(saying(near, kl=torch.full((COUNT,), 1e-3)), images) == [1] * COUNT
    assert collapsed(saying(near, kl=torch.full((COUNT,), 20.0)), images) == [0] * COUNT


def test_errors_are_measured_by_class() -> None:
    images = pictures()
    made = images.clone()
    made[[2, 5]] += 0.1
    found = build().measures(saying(made), shown(images))
    assert found["squared_error_cancer"][:, 1].tolist() == [0, 0, 1, 0, 0, 1, 0, 0]
    assert found["squared_error_not_cancer"][:, 1].tolist() == [1, 1, 0, 1, 0, 0, 1, 1]
    above, below = found["squared_error_cancer"].sum(0).tolist()
    assert above / below == pytest.approx(0.01, rel=1e-3)
    assert found["squared_error_not_cancer"][:, 0].max() < 1e-6


def test_a_classifier_and_the_wrong_channels_are_refused_in_words() -> None:
    task = build()
    with pytest.raises(ConfigError, match=r"model\.name=cvae"):
        task.loss(Output(torch.zeros(COUNT, 1)), pictures())
    with pytest.raises(ConfigError, match=r"--set task\.channels=3"):
        task.loss(Output(torch.zeros(2, 1, 8, 8)), torch.zeros(2, 3, 8, 8))
    with pytest.raises(ConfigError, match="yes or no"):
        reconstruct.build(
            reconstruct.Config(target="label"), table(), ("a", "b", "c"), np.arange(COUNT)
        )


# Together


def crosses(count: int, seed: int) -> Tensor:
    """Return pictures of one bright cross each, at some place: what is usual."""
    rng = np.random.default_rng(seed)
    found = np.full((count, 1, SIDE, SIDE), 0.1, np.float32)
    for image, (x, y) in zip(found, rng.integers(6, SIDE - 6, (count, 2)), strict=True):
        image[0, y - 1 : y + 2, :] = image[0, :, x - 1 : x + 2] = 0.8
    return torch.from_numpy(found)


def batches(images: Tensor, size: int = 32) -> Iterator[Tensor]:
    for first in range(0, len(images), size):
        yield images[first : first + size]


@pytest.mark.slow
def test_what_was_never_seen_comes_back_worse_than_what_was() -> None:
    torch.manual_seed(0)
    model = cvae.build(
        cvae.Config(latent=8, widths=(8, 16, 16, 32, 32), beta=1e-3), channels=1, outputs=1,
        size=(SIDE, SIDE),
    )  # fmt: skip
    task, optimiser = build(), torch.optim.AdamW(model.parameters(), lr=3e-3)
    images = crosses(512, 0)
    for epoch in range(12):
        order = torch.from_numpy(np.random.default_rng(epoch).permutation(len(images)))
        for part in batches(images[order]):
            optimiser.zero_grad()
            found = model(part)
            (task.loss(found, part) + found.penalty).backward()
            optimiser.step()
    model.eval()

    def said(given: Tensor) -> tuple[Tensor, Output]:
        with torch.no_grad():
            found = ask(model, replace(shown(), images=given))
        return task.scores(found, Shown(given, None, np.zeros(len(given), np.int64)))[:, 1], found

    fresh = crosses(64, 1)
    usual, found = said(fresh)
    assert torch.quantile(usual, 0.95) < said(1 - fresh)[0].min()
    assert torch.quantile(usual, 0.95) < said(torch.maximum(fresh, crosses(64, 2)))[0].median()
    assert found.stats["kl"].min() > 1
    some = Output(found.logits[:COUNT], stats={"kl": found.stats["kl"][:COUNT]})
    assert collapsed(some, fresh[:COUNT]) == [0] * COUNT


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("reconstructing")
    mammoprep.phantom("rsna", home / "raw", patients=20, seed=4, size_scale=0.05, prevalence=0.5)
    mammoprep.build(
        source="rsna", input=home / "raw", out=home / "shards", size="32x64", folds=4, workers=1
    )
    return home / "shards"


SMALL = (
    "data.size=[32, 64]", "model.widths=[4, 8, 8, 8, 8]", "model.latent=8", "train.batch_size=8",
    "train.epochs=2", "data.workers=1", "train.amp=none", "train.validate=next-fold",
)  # fmt: skip


@pytest.mark.slow
def test_a_run_of_the_recipe_learns_from_the_healthy_and_scores_all(
    shards: Path, tmp_path: Path
) -> None:
    found = configs.load("cvae", SMALL)
    report = run(Request(found, (str(shards),), tmp_path / "run", device="cpu"), Watcher())
    assert report["measures"].keys() == {
        "collapsed", "squared_error_cancer", "squared_error_not_cancer"
    }  # fmt: skip
    assert 0 < report["threshold"] < 1
    assert 0 < report["prevalence"] < 1
    table = scores.read(tmp_path / "run" / "scores.csv")
    assert set(table.label.tolist()) == {0, 1}


VARIANTS = (*configs.load("cvae").ablate.values(), ("train.accumulate=2",))


@pytest.mark.slow
@pytest.mark.parametrize("changes", VARIANTS, ids=" ".join)
def test_without_conditions_and_with_other_losses_it_runs(
    changes: tuple[str, ...], shards: Path, tmp_path: Path
) -> None:
    found = configs.load("cvae", (*SMALL, "train.max_steps=1", *changes))
    run(Request(found, (str(shards),), tmp_path / "run", device="cpu"), Watcher())


@pytest.mark.slow
def test_a_run_goes_on_bit_for_bit_within_the_warm_up(shards: Path, tmp_path: Path) -> None:
    def losses_of(name: str, epochs: int, *, resume: bool = False) -> list[str]:
        changes = ("model.warmup_steps=50", "model.beta=9.0", f"train.epochs={epochs}",
                   "train.warmup=0", "train.schedule=constant")  # fmt: skip
        found = configs.load("cvae", (*SMALL, *changes))
        asked = Request(found, (str(shards),), tmp_path / name, resume=resume, device="cpu")
        run(asked, Watcher())
        return [line["loss_hex"] for line in folder.read_log(asked.out) if "loss_hex" in line]

    first = losses_of("stopped", 1)
    both = losses_of("stopped", 2, resume=True)
    assert len(both) == 2 * len(first)
    assert both == losses_of("whole", 2)
