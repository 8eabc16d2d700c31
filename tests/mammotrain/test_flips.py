"""Runs scored on flipped pictures: means of what is said of each position, and that is told."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from mammoprep.core.errors import ConfigError
from mammotrain import cli, config, finished, measures, scores, setup, summary
from mammotrain.contracts import Output, Shown
from mammotrain.data.splits import Side
from mammotrain.distributed import joined
from mammotrain.predict import Request as Asking
from mammotrain.predict import predict
from mammotrain.predicting.flips import Flipped, Together, mean_scores
from mammotrain.report import tables
from mammotrain.rescore import Request, rescore
from mammotrain.run import Request as Training
from mammotrain.run import run
from mammotrain.tasks import reconstruct, segment
from mammotrain.watching import Watcher

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = (
    "model.width=8", "model.groups=4", "train.batch_size=8", "train.epochs=1", "data.workers=1",
    "data.sampling=balanced", "data.size=[32, 32]", "train.validate=next-fold",
)  # fmt: skip
POSITIONS = {"horizontal": [(), (3,)], "vertical": [(), (2,)], "flip": [(), (3,), (2,), (2, 3)]}


@pytest.fixture(scope="module")
def trained(patches: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "deq"
    asked = Training(config.load("deq", SMALL), (str(patches),), out, Side(), device="cpu")
    run(asked, Watcher())
    return out


def by_hand(place: Path, shards: Path, positions: list[tuple[int, ...]]) -> dict[str, float]:
    """Return key -> the mean of the sigmoids of the logits of flipped pictures."""
    found = finished.open_run(place)
    with joined("cpu") as world:
        table = setup.open_shards(found.config, (str(shards),))
        made, model = finished.prepare(found, table, world)
        model.eval()
        said = {}
        for shown in made.plain(made.roles.score):
            with torch.no_grad():
                each = [torch.sigmoid(model(torch.flip(shown.images, p)).logits[:, 0])
                        for p in positions]  # fmt: skip
            mean = torch.stack(each).mean(dim=0).tolist()
            said |= {str(table.keys[row]): m for row, m in zip(shown.rows, mean, strict=True)}
    return said


@pytest.mark.parametrize("tta", POSITIONS)
def test_scores_are_means_over_the_flipped_pictures_and_the_report_tells(
    trained: Path, patches: Path, tmp_path: Path, tta: str
) -> None:
    asked = Request(trained, (str(patches),), tmp_path / "out", "cpu", tta)
    report, place = rescore(asked, Watcher())
    table = scores.read(place / "scores.csv")
    expected = by_hand(trained, patches, POSITIONS[tta])
    plain = by_hand(trained, patches, [()])
    assert set(table.key) == set(expected)
    wanted = [expected[key] for key in table.key]
    assert np.allclose(table.given[:, 1], wanted, atol=1e-6)
    assert not np.allclose(table.given[:, 1], [plain[key] for key in table.key], atol=1e-5)
    assert report["threshold"] == finished.open_run(trained).threshold  # not chosen again
    assert report["tta"]["views"] == tta
    assert report["tta"]["pictures"] == len(POSITIONS[tta])
    assert report["tta"]["threshold_from"] == "none"
    assert json.loads((place / "report.json").read_text())["tta"] == report["tta"]
    (alarm,) = [line for line in tables.alarms(report) if f"--tta {tta}" in line]
    assert "chosen on pictures that were not flipped" in alarm
    assert alarm in summary.summary(report, place)
    assert "not flipped" in (place / "report.html").read_text()


def test_without_flips_nothing_is_told_and_the_scores_are_the_runs(
    trained: Path, patches: Path, tmp_path: Path
) -> None:
    report, place = rescore(Request(trained, (str(patches),), tmp_path / "out", "cpu"), Watcher())
    assert "tta" not in report
    mine, own = scores.read(place / "scores.csv"), scores.read(trained / "scores.csv")
    assert np.allclose(mine.given, own.given, atol=1e-6)


def test_eval_and_predict_say_the_same_of_flipped_pictures(
    trained: Path, patches: Path, tmp_path: Path
) -> None:
    _, place = rescore(
        Request(trained, (str(patches),), tmp_path / "eval", "cpu", "flip"), Watcher()
    )
    asked = Asking(trained, str(patches), tmp_path / "out", "flip", overlays=False, device="cpu")
    predict(asked, Watcher())
    one, other = scores.read(place / "scores.csv"), scores.read(tmp_path / "out" / "scores.csv")
    assert one.key.tolist() == other.key.tolist()
    assert np.allclose(one.given, other.given, atol=1e-6)
    assert np.allclose(one.values, other.values, atol=1e-6)


def test_another_name_is_refused_before_anything_is_written(
    trained: Path, patches: Path, tmp_path: Path
) -> None:
    arguments = ["eval", str(trained), "--data", str(patches), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli.app, [*arguments, "--tta", "flop", "--device", "cpu"])
    assert isinstance(done.exception, ConfigError)
    assert "Did you mean 'flip'" in str(done.exception)
    assert not (tmp_path / "out").exists()


class Corner(nn.Module):
    """Says what each pixel is, but for the upper left quarter of what it is shown."""

    def forward(self, images: Tensor) -> Output:
        logits = 8 * images[:, :1] - 4
        logits[..., : images.shape[2] // 2, : images.shape[3] // 2] = -1.0
        count = torch.arange(len(images)).float()
        return Output(logits, None, {"kl": count, "steps": torch.tensor(3.0)})


def shown(side: int = 8) -> Shown:
    torch.manual_seed(0)
    images = (torch.rand(3, 1, side, side) > 0.5).float()
    return Shown(images, images.clone(), np.arange(3))


def test_masks_are_measured_as_the_mean_of_the_maps_turned_back() -> None:
    given = shown()
    task = segment.Segment(segment.Config(filter=1), np.array([1, 1, 1]))
    alone = measures.values({n: p.numpy() for n, p in task.measures(
        Corner()(given.images), given).items()})  # fmt: skip
    assert alone["dice"] < 0.9
    flipped = Flipped(Corner(), "flip")(given.images)
    # of the four maps of a pixel one does not see it, and the mean of the others is right
    seen, blind = 3 * torch.sigmoid(torch.tensor(4.0)), torch.sigmoid(torch.tensor(-1.0))
    mean = segment.probabilities(flipped)
    torch.testing.assert_close(mean[given.images > 0], ((seen + blind) / 4).expand(
        int(given.images.sum())))  # fmt: skip
    together = {n: p.numpy() for n, p in mean_scores(task).measures(flipped, given).items()}
    assert measures.values(together)["dice"] == 1.0
    assert flipped.stats["kl"].tolist() == [0, 1, 2]
    assert flipped.stats["steps"] == 3


def test_pictures_that_come_back_are_scored_by_position_and_then_averaged() -> None:
    given = shown()
    task = reconstruct.Reconstruct(reconstruct.Config(), np.array([0, 1, 0]), ("a", "b"), None)
    wanted = []
    for axes in POSITIONS["flip"]:
        turned = torch.flip(given.images, axes)
        wanted.append(task.scores(Corner()(turned), Shown(turned, None, given.rows)))
    flipped = Flipped(Corner(), "flip")(given.images)
    assert isinstance(flipped, Together)
    found = mean_scores(task).scores(flipped, given)
    torch.testing.assert_close(found, torch.stack(wanted).mean(dim=0))
    assert type(task).scores is reconstruct.Reconstruct.scores
    assert "scores" not in vars(task)  # the run's own task is left as it is


def test_a_model_that_is_sure_stays_finite() -> None:
    class Sure(nn.Module):
        def forward(self, images: Tensor) -> Output:
            return Output(200 * (images - 0.5))

    given = shown()
    flipped = Flipped(Sure(), "horizontal")(given.images)
    task = segment.Segment(segment.Config(), np.array([1, 1, 1]))
    assert torch.isfinite(task.loss(flipped, given.images))
