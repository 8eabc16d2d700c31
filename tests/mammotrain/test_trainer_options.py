"""Every option of training does what it says, or is refused before any work."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_trainer import ALONE, BATCH, Diary, Net, job, showing
from torch import nn
from torch.nn import functional

from mammoprep.core.errors import ConfigError, DivergedError
from mammotrain import checkpoint, folder, losses, optim, trainer
from mammotrain._torchvision import ensure_importable
from mammotrain.config import TrainConfig
from mammotrain.contracts import Output
from mammotrain.data.loader import Loader, Options
from mammotrain.data.shards import open_table
from mammotrain.distributed import World
from mammotrain.models import deq
from mammotrain.run import Logging
from mammotrain.tasks import classify
from mammotrain.trainer import Job, Progress
from mammotrain.watching import SMALLEST_SCALE, Watcher

CPU = torch.device("cpu")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[folder.Log]:
    with closing(folder.Log(tmp_path)) as opened:
        yield opened


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class Steady(nn.Module):
    """A net whose parts of a batch do not know of each other; says what it is shown."""

    def __init__(self, channels: int = 1, stats: Callable[[torch.Tensor], dict] | None = None):
        super().__init__()
        self.seen: list[torch.Tensor] = []
        self.stats = stats or (lambda _: {})
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(),
            nn.Linear(4 * 36, 1),
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> Output:
        self.seen.append(images)
        return Output(self.layers(images), stats=self.stats(images))


def with_model(one: Job, model: nn.Module, **changes: object) -> Job:
    return replace(
        one,
        model=model,
        optimiser=optim.optimiser(model, one.config),
        average=optim.average(model, one.config),
        **changes,
    )


def steady(where: Path, diary: Diary | None = None, **changes: object) -> Job:
    options = {"ema": 0.0, "optimiser": "sgd", "lr": 0.1, "momentum": 0.0, **changes}
    one = job(where, diary, **options)
    torch.manual_seed(0)
    return with_model(one, Steady())


def trained(one: Job) -> dict[str, torch.Tensor]:
    trainer.fit(one, Progress())
    return {name: value.detach().clone() for name, value in one.bare.state_dict().items()}


def close(one: dict, two: dict, **tolerance: float) -> bool:
    return all(torch.allclose(value, two[name], **tolerance) for name, value in one.items())


# --- mixed precision


def test_fp16_steps_whose_gradients_overflow_are_left_out_and_training_goes_on(
    tmp_path: Path,
) -> None:
    diary = Diary()
    one = steady(tmp_path, diary, amp="fp16", lr=1e-3, max_steps=1)
    loss = one.task.loss
    one.task.loss = lambda output, targets: 30 * loss(output, targets)
    before = {name: value.clone() for name, value in one.bare.state_dict().items()}
    assert all(torch.equal(value, before[name]) for name, value in trained(one).items())
    assert diary.lines[0]["loss_scale"] == 2.0**15
    one = replace(one, config=replace(one.config, max_steps=20))
    diary.lines.clear()
    assert not close(trained(one), before, atol=1e-6)
    scales = [line["loss_scale"] for line in diary.lines]
    assert scales == sorted(scales, reverse=True)
    assert scales[-1] == scales[-2] > 1
    assert all(np.isfinite(line["loss"]) for line in diary.lines)


def test_fp16_learns_what_fp32_learns(tmp_path: Path) -> None:
    half = trained(steady(tmp_path / "half", amp="fp16", epochs=2, lr=0.01))
    full = trained(steady(tmp_path / "full", epochs=2, lr=0.01))
    assert close(half, full, atol=2e-3)


def test_fp16_without_any_usable_gradient_ends_instead_of_learning_nothing(tmp_path: Path) -> None:
    one = steady(tmp_path, amp="fp16", epochs=20)
    one.bare.layers[4].weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(DivergedError, match="no gradient up to step 41 was a number"):
        trainer.fit(one, Progress())
    assert SMALLEST_SCALE == 2.0**-24


@pytest.mark.parametrize(("amp", "tolerance"), [("none", 1e-6), ("bf16", 5e-4)])
@pytest.mark.parametrize("parts", [2, 3, 5, 8])
def test_a_clipped_step_in_parts_is_that_of_the_whole_batch(
    tmp_path: Path, amp: str, tolerance: float, parts: int
) -> None:
    options = {"amp": amp, "max_steps": 3, "clip_norm": 0.05}
    whole = trained(steady(tmp_path / "whole", **options))
    diary, pieces = Diary(), steady(tmp_path / "pieces", **options, accumulate=parts)
    pieces.watcher = diary
    assert close(trained(pieces), whole, atol=tolerance)
    assert not close(whole, trained(steady(tmp_path / "free", amp=amp, max_steps=3)), atol=1e-3)
    sizes = [len(images) for images in pieces.bare.seen[:parts]]
    assert sum(sizes) == BATCH
    assert max(sizes) - min(sizes) <= 1


def test_more_parts_than_samples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="accumulate is 9, but a batch has only 8 samples"):
        steady(tmp_path, accumulate=BATCH + 1)
    config = TrainConfig(batch_size=8, accumulate=5)
    with pytest.raises(ConfigError, match="only 4 samples on each of 2 ranks"):
        trainer.check(config, World(0, 2, CPU))


def test_batch_norm_over_ranks_is_refused_on_the_cpu_before_any_work(tmp_path: Path) -> None:
    config = TrainConfig(sync_batchnorm=True)
    trainer.check(config, ALONE)
    trainer.check(config, World(0, 2, torch.device("cuda", 0)))
    one = job(tmp_path)
    with pytest.raises(ConfigError, match="no SyncBatchNorm for the CPU"):
        replace(one, config=config, world=World(0, 2, CPU))


# --- memory format, compilation


def test_channels_last_reaches_the_model_and_changes_no_result(tmp_path: Path) -> None:
    results = []
    for last in (False, True):
        one = steady(tmp_path / str(last), channels_last=last, max_steps=4, lr=0.01)
        torch.manual_seed(0)
        one = with_model(one, Steady(channels=3), validate=lambda _: {"auroc": 0.5})
        one.prepare = showing(lambda batch, _: (batch.images.float() / 255).repeat(1, 3, 1, 1))
        results.append(trained(one))
        seen = one.bare.seen[0]
        assert seen.is_contiguous(memory_format=torch.channels_last) == last
    assert close(*results, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_compiled_model_learns_the_same_and_its_checkpoints_know_nothing_of_it(
    tmp_path: Path,
) -> None:
    options = {"max_steps": 8, "ema": 0.9, "checkpoint_every": 3, "keep": 9}
    diary, again = Diary(), Diary()
    known = trained(steady(tmp_path / "plain", **options))
    one = steady(tmp_path / "compiled", diary, compile=True, **options)
    assert close(trained(one), known, atol=1e-5)
    path = checkpoint.steps(tmp_path / "compiled")[0]
    saved = checkpoint.load(path)
    assert set(saved.weights) == set(saved.average) == set(known)
    two = steady(tmp_path / "again", again, compile=True, **options)
    trainer.fit(two, trainer.restore(two, saved))
    assert [x["loss_hex"] for x in again.lines] == [x["loss_hex"] for x in diary.lines[3:]]
    one_not_compiled = steady(tmp_path / "other", **options)
    assert trainer.restore(one_not_compiled, saved).step == 3


# --- what the model tells


def test_what_a_model_tells_is_logged_as_the_mean_of_the_batch(tmp_path: Path) -> None:
    found = []
    for parts in (1, 3):
        diary, one = Diary(), steady(tmp_path / str(parts), max_steps=1, accumulate=parts)
        model = Steady(stats=lambda images: {"bright": images.mean((1, 2, 3)), "one": images.sum()})
        trainer.fit(with_model(one, model, watcher=diary), Progress())
        found.append(diary.lines[0]["bright"])
        shown = torch.cat(model.seen[:parts])
    assert found == pytest.approx([float(shown.mean())] * 2, rel=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_a_model_cannot_tell_is_not_logged(
    tmp_path: Path, log: folder.Log, value: float
) -> None:
    one = steady(tmp_path / "checkpoints", max_steps=2)
    model = Steady(stats=lambda images: {"none": images.new_full((8,), value), "one": images[0, 0]})
    trainer.fit(with_model(one, model, watcher=Logging(log, Watcher())), Progress())
    lines = [line for line in folder.read_log(tmp_path) if "loss" in line]
    assert len(lines) == 2
    assert all("none" not in line and "one" in line for line in lines)


@pytest.mark.parametrize(("backward", "has"), [("implicit", True), ("phantom", False)])
def test_solver_steps_are_logged_and_those_of_an_adjoint_only_where_there_is_one(
    tmp_path: Path, log: folder.Log, backward: str, has: bool
) -> None:
    one = job(tmp_path / "checkpoints", max_steps=2, ema=0.0)
    config = deq.Config(width=8, backward=backward)
    model = deq.build(config, channels=1, outputs=1, size=(32, 32))
    one = with_model(one, model, validate=lambda _: {"auroc": 0.5}, watcher=Logging(log, Watcher()))
    one.prepare = showing(
        lambda batch, _: functional.interpolate(batch.images.float() / 255, size=(32, 32))
    )
    trainer.fit(one, Progress())
    line = folder.read_log(tmp_path)[0]
    assert line["solver_steps"] >= 1
    assert ("adjoint_steps" in line) is has


# --- divergence


@pytest.mark.parametrize("options", [{"checkpoint_every": 1}, {}], ids=["steps", "epochs"])
def test_weights_that_are_no_numbers_are_never_saved(tmp_path: Path, options: dict) -> None:
    one = steady(tmp_path, epochs=3, **options)
    trainer.fit(replace(one, config=replace(one.config, max_steps=6)), Progress())
    weight, calls = one.bare.layers[4].weight, []

    def spoil(gradient: torch.Tensor) -> torch.Tensor:  # the loss of this step is a number
        calls.append(1)
        return gradient * (torch.inf if len(calls) == 6 else 1)

    weight.register_hook(spoil)
    with pytest.raises(DivergedError, match="Weights of step 12 are no numbers") as error:
        trainer.fit(one, Progress(step=6, epoch=1))
    saved, damaged = checkpoint.newest(tmp_path)
    last = saved.state["progress"]["step"]
    assert (last, damaged) == (11 if options else 6, [])
    assert f"step-{last:08d}, is good" in str(error.value)
    assert all(bool(value.isfinite().all()) for value in saved.weights.values())


def test_a_divergence_before_any_checkpoint_does_not_speak_of_one(tmp_path: Path) -> None:
    one = steady(tmp_path)
    one.prepare = showing(lambda batch, _: batch.images * torch.nan)
    with pytest.raises(DivergedError) as error:
        trainer.fit(one, Progress())
    assert "checkpoint" not in str(error.value)


# --- which checkpoint is best


@pytest.mark.parametrize(("monitor", "best"), [("loss", 0.3), ("ece", 0.3), ("auroc", 0.9)])
def test_the_best_is_the_lowest_or_the_highest_as_the_metric_wants(
    tmp_path: Path, monitor: str, best: float
) -> None:
    one = steady(tmp_path, epochs=5, monitor=monitor)
    values = iter([0.5, np.nan, 0.3, 0.9, 0.4])
    one.validate = lambda _: {monitor: next(values)}
    progress = trainer.fit(one, Progress())
    assert progress.best == best
    assert progress.best_step == {0.3: 18, 0.9: 24}[best]


def test_a_first_score_that_is_no_number_is_no_best_for_ever(tmp_path: Path) -> None:
    one = steady(tmp_path, epochs=3)
    values = iter([np.nan, 0.4, 0.3])
    one.validate = lambda _: {"auroc": next(values)}
    assert trainer.fit(one, Progress()).best == 0.4


def test_patience_with_a_loss_counts_what_does_not_fall(tmp_path: Path) -> None:
    one = steady(tmp_path, epochs=50, monitor="loss", patience=2)
    values = iter([0.5, 0.4, 0.45, 0.6, 0.1])
    one.validate = lambda _: {"loss": next(values)}
    progress = trainer.fit(one, Progress())
    assert (progress.epoch, progress.best) == (4, 0.4)


def test_an_unknown_metric_to_watch_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'f2' is not among the metrics: auroc"):
        trainer.fit(steady(tmp_path, monitor="f2"), Progress())


# --- averaged weights


def test_averaged_weights_are_scored_saved_and_restored(tmp_path: Path) -> None:
    one = job(tmp_path, ema=0.9, epochs=2)
    scored = []

    def validate(model: nn.Module) -> dict[str, float]:
        scored.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"auroc": 0.5 + 0.1 * len(scored)}

    one.validate = validate
    trainer.fit(one, Progress())
    last, bare = scored[-1], one.bare.state_dict()
    assert not close(last, bare, atol=1e-5)
    saved, _ = checkpoint.newest(tmp_path)
    fresh = job(tmp_path / "fresh", ema=0.9, epochs=2)
    trainer.restore(fresh, saved)
    for name, value in fresh.scored_model.state_dict().items():
        assert torch.equal(value, last[name]), name
    for name, value in fresh.bare.state_dict().items():
        assert torch.equal(value, bare[name]), name


def test_without_averaging_the_weights_themselves_are_scored(tmp_path: Path) -> None:
    one = steady(tmp_path)
    assert one.scored_model is one.bare


# --- rates


def rates(optimiser: torch.optim.Optimizer, model: nn.Module) -> dict[str, float]:
    names = {id(value): name for name, value in model.named_parameters()}
    found = {
        names[id(value)]: group["lr"]
        for group in optimiser.param_groups
        for value in group["params"]
    }
    assert len(found) == len(names)
    return found


class Wrapped(nn.Module):
    """A model of ours around one of timm."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(192, 1)


@pytest.mark.parametrize("wrap", [False, True])
def test_layer_decay_gives_lower_layers_lower_rates(wrap: bool) -> None:
    ensure_importable()
    import timm

    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0 if wrap else 1)
    model = Wrapped(vit) if wrap else vit
    config = TrainConfig(optimiser="adamw", lr=1.0, layer_decay=0.5, weight_decay=0.1)
    made = optim.optimiser(model, config)
    optim.set_rate(made.param_groups, 1.0)
    found = rates(made, model)
    before = "encoder." if wrap else ""
    blocks = [found[f"{before}blocks.{n}.mlp.fc1.weight"] for n in range(12)]
    assert blocks == pytest.approx([0.5 ** (12 - n) for n in range(12)])
    assert found[f"{before}patch_embed.proj.weight"] == pytest.approx(0.5**13)
    assert found["head.weight"] == found["head.bias"] == 1
    decays = {
        id(value): group["weight_decay"] for group in made.param_groups for value in group["params"]
    }
    assert {decays[id(v)] for v in model.parameters() if v.ndim <= 1} == {0.0}
    assert decays[id(vit.pos_embed)] == 0.0
    assert decays[id(model.head.weight)] == decays[id(vit.blocks[0].mlp.fc1.weight)] == 0.1


def test_layer_decay_without_weight_decay_forgets_no_parameter() -> None:
    ensure_importable()
    import timm

    model = Wrapped(timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0))
    rates(optim.optimiser(model, TrainConfig(layer_decay=0.7)), model)


def test_layer_decay_of_a_model_without_known_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.layer_decay needs a model of timm"):
        optim.optimiser(Net(), TrainConfig(layer_decay=0.7))


def test_warm_up_and_cosine_are_those_of_timm() -> None:
    ensure_importable()
    from timm.scheduler import CosineLRScheduler

    config = TrainConfig(lr=0.3, min_lr=0.01, schedule="cosine", warmup=0.1)
    total, warmup = 70, 7
    oracle = CosineLRScheduler(
        torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3),
        t_initial=total - warmup, lr_min=0.01, warmup_t=warmup, warmup_prefix=True,
        t_in_epochs=False,
    )  # fmt: skip
    for step in range(total):
        # timm's warm-up begins at 0, where nothing is learned; ours with the first part of it
        (known,) = oracle._get_lr(step + 1 if step < warmup else step)
        assert optim.rate(config, step, total) == pytest.approx(known, rel=1e-12), step


# --- losses

LOGITS = torch.linspace(-60, 50, 41)
BINARY = (torch.arange(41) % 2).float()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_loss_is_torchvisions(gamma: float) -> None:
    ensure_importable()
    from torchvision.ops import sigmoid_focal_loss

    for targets in (BINARY, losses.smoothed(BINARY, 0.1)):
        known = sigmoid_focal_loss(LOGITS.double(), targets.double(), alpha=-1, gamma=gamma)
        found = losses.focal(LOGITS, targets, gamma)
        torch.testing.assert_close(found.double(), known, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_has_a_gradient_however_sure_the_model_is(gamma: float) -> None:
    logits = torch.tensor([-200.0, -30.0, 0.0, 30.0, 200.0] * 2, requires_grad=True)
    losses.focal(logits, torch.tensor([0.0] * 5 + [1.0] * 5), gamma).sum().backward()
    assert bool(logits.grad.isfinite().all())


def task(weights: torch.Tensor, **options: object) -> classify.Classify:
    names = [f"class{n}" for n in range(len(weights))]
    return classify.Classify(classify.Config(**options), np.zeros(1, np.int64), names, weights)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weighted_binary_cross_entropy_is_torchs(smoothing: float) -> None:
    weights, classes = torch.tensor([0.6, 3.0]), BINARY.long()
    made = task(weights, smoothing=smoothing)
    known = functional.binary_cross_entropy_with_logits(
        LOGITS, BINARY * (1 - smoothing) + smoothing / 2, weight=weights[classes]
    )
    found = made.loss(Output(LOGITS[:, None]), classes)
    torch.testing.assert_close(found, known)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_torchs(smoothing: float) -> None:
    logits = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    classes = torch.arange(30) % 4
    known = functional.cross_entropy(logits, classes, label_smoothing=smoothing)
    found = task(torch.ones(4), smoothing=smoothing).loss(Output(logits), classes)
    torch.testing.assert_close(found, known)
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0])
    each = functional.cross_entropy(logits, classes, weights, reduction="none")
    weighed = task(weights).loss(Output(logits), classes)
    torch.testing.assert_close(weighed, each.mean())


def test_balanced_weights_make_classes_weigh_alike() -> None:
    classes = np.array([0] * 90 + [1] * 10)
    made = classify.build(
        classify.Config(class_weights="balanced"), {"label": classes.tolist()}, ("no", "yes"),
        np.arange(100),
    )  # fmt: skip
    assert (made.weights * torch.tensor([0.9, 0.1])).tolist() == pytest.approx([0.5, 0.5])


# --- random numbers and batches


def test_random_numbers_of_a_step_are_those_of_torchs_own_seed() -> None:
    from hashlib import sha256

    trainer.seed_all(3, 14, 1)
    found = torch.rand(5)
    torch.manual_seed(int.from_bytes(sha256(b"3/14/1").digest()[:7], "big"))
    assert torch.equal(found, torch.rand(5))


@pytest.mark.parametrize("sampling", ["natural", "balanced", "per-patient"])
def test_training_never_sees_a_short_batch(built_once: Path, sampling: str) -> None:
    table = open_table([built_once])
    rows = np.arange(len(table) - len(table) % 5 - 2)  # never a multiple of the batch
    options = Options(batch_size=5, training=True, sampling=sampling)
    loader = Loader(table, rows, options, labels=np.arange(len(table)) % 2)
    sizes = [len(batch.keys) for epoch in range(3) for batch in loader.epoch(epoch)]
    assert set(sizes) == {5}
    assert len(sizes) == 3 * len(loader)


# --- several ranks

RANKS = """
import json, os, signal, sys, torch
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_trainer as base, test_trainer_options as t
from mammotrain import checkpoint, distributed, trainer
from mammotrain.contracts import Batch
from mammoprep.core.errors import DivergedError, ResourceError

mode, out = sys.argv[1], Path({out!r})
torch.set_num_threads(1)
with distributed.joined("cpu") as world:
    def part(epoch, position):
        for batch in base.batches(epoch, position):
            mine = slice(world.rank, None, world.size)
            yield Batch(batch.images[mine], None, batch.rows[mine], batch.keys[mine])

    base.ALONE = world
    diary, calls = t.Diary(), []
    options = dict(lr=0.05, accumulate=2, clip_norm=0.5, checkpoint_every=4 * (mode == "nan"))
    folder = out / ("stop" if mode == "again" else mode)
    if mode == "norm":
        job = base.job(folder, diary, optimiser="sgd", ema=0.5)
    else:
        job = t.steady(folder, diary, **options)
    job.batches, plain = part, job.prepare
    validate, scored = job.validate, []

    def score(model):
        scored.append([value.double().sum().item() for value in model.buffers()])
        return validate(model)

    job.validate = score

    def prepare(batch, epoch):
        calls.append(epoch)
        if mode == "stop" and world.rank == 1 and len(calls) == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        spoil = mode == "nan" and world.rank == 1 and len(calls) == 6
        return base.times(plain(batch, epoch), float("nan") if spoil else 1.0)

    job.prepare = prepare
    saved, _ = checkpoint.newest(folder)
    progress = trainer.Progress() if saved is None else trainer.restore(job, saved)
    said = keys = ""
    try:
        trainer.fit(job, progress)
    except (DivergedError, ResourceError) as error:
        said = str(error)
    if mode == "nan":
        keys = list(part(0, 5))[0].keys
    lines = [[line["step"], line["loss_hex"]] for line in diary.lines]
    found = dict(step=progress.step, said=said, lines=lines, keys=keys, scored=scored)
threads = Path("/proc/self/task").glob("*/comm")
found["threads"] = [each.read_text().strip() for each in threads]
(out / f"{{mode}}-{{world.rank}}.json").write_text(json.dumps(found))
"""


@pytest.fixture
def ranks(tmp_path: Path) -> Callable[[str], list[dict]]:
    script = tmp_path / "train.py"
    script.write_text(RANKS.format(tests=str(Path(__file__).parent), out=str(tmp_path)))

    def run(mode: str) -> list[dict]:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node=2", str(script), mode]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return [json.loads((tmp_path / f"{mode}-{rank}.json").read_text()) for rank in (0, 1)]

    return run


@pytest.mark.slow
def test_a_stop_that_one_rank_is_told_stops_all_after_the_same_step_and_loses_no_bit(
    ranks: Callable[[str], list[dict]],
) -> None:
    whole, _ = ranks("whole")
    first, second = ranks("stop")
    assert first["step"] == second["step"]
    assert 9 <= first["step"] <= 10
    assert "--resume" in first["said"]
    assert "--resume" in second["said"]
    again, _ = ranks("again")
    assert first["lines"] + again["lines"] == whole["lines"]
    assert len(whole["lines"]) == 24


@pytest.mark.slow
def test_all_ranks_validate_with_the_batch_norm_that_is_saved(
    ranks: Callable[[str], list[dict]],
) -> None:
    first, second = ranks("norm")
    assert len(first["scored"]) == 4
    assert len({tuple(sums) for sums in first["scored"]}) == 4
    assert first["scored"] == second["scored"]


@pytest.mark.slow
def test_processes_that_parted_have_no_thread_left_that_could_abort_their_end(
    ranks: Callable[[str], list[dict]],
) -> None:
    for found in (*ranks("whole"), *ranks("nan")):
        assert "python" in " ".join(found["threads"])
        assert not any("gloo" in name for name in found["threads"])


@pytest.mark.slow
def test_a_divergence_names_the_batch_of_the_rank_that_had_it(
    ranks: Callable[[str], list[dict]],
) -> None:
    first, second = ranks("nan")
    assert first["said"] == second["said"]
    assert "The loss of step 6 is nan" in first["said"]
    assert "step-00000004, is good" in first["said"]
    for key in second["keys"]:
        assert f" {key}," in first["said"] or f" {key}." in first["said"]
    assert not any(f" {key}," in first["said"] for key in first["keys"])
