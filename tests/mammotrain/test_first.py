"""Two stages: masks are predicted by who has not seen the patient, once, and are said to be so."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

import mammoprep
from mammoprep.core.errors import ConfigError
from mammotrain import ablation, checkpoint, config, finished, first, setup, summary, tuning
from mammotrain import predict as predict_module
from mammotrain.cross import cross
from mammotrain.data.shards import open_table
from mammotrain.data.splits import Side
from mammotrain.distributed import joined
from mammotrain.predict import Request as Asked
from mammotrain.predict import predict
from mammotrain.report import tables
from mammotrain.run import Request, run
from mammotrain.tasks import segment
from mammotrain.trainer import Watcher

pytestmark = pytest.mark.usefixtures("one_thread")

UNET = (
    "train.amp=none", "data.size=[]", "train.max_steps=2", "train.epochs=1", "train.batch_size=8",
    "train.warmup=0", "train.pretrained=none", "train.ema=0", "data.workers=1",
)  # fmt: skip
SMALL = (
    f"first.set={json.dumps(UNET)}", "data.size=[]", "data.augmentation={}", "train.epochs=1",
    "train.max_steps=1", "train.batch_size=8", "train.pretrained=none", "data.workers=1",
    "model.name=deq", "model.width=8", "model.groups=4",
)  # fmt: skip


class Telling(Watcher):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("busi")
    mammoprep.phantom("busi", home / "raw", patients=9, seed=4, size_scale=0.25)
    mammoprep.build(
        source="busi", input=home / "raw", out=home / "shards", size="32x32", folds=3, workers=1,
        intersection=True,
    )  # fmt: skip
    return home / "shards"


def asking(shards: Path, out: Path, *changes: str, **more: object) -> Request:
    found = config.load("two-stage", (*SMALL, *changes))
    return Request(found, (str(shards),), out, device="cpu", **more)


@pytest.fixture(scope="module")
def staged(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Request, Path]:
    """A request whose first stage is done, and where that lies."""
    out = tmp_path_factory.mktemp("runs") / "two"
    return first.ready(asking(shards, out), Watcher()), out.with_name("two-first")


def test_a_recipe_without_a_first_stage_is_left_as_it_is(shards: Path, tmp_path: Path) -> None:
    plain = Request(config.load("densenet"), (str(shards),), tmp_path / "a")
    assert first.ready(plain, Watcher()) is plain
    assert "first" not in plain.config.to_table()


@pytest.mark.slow
def test_every_mask_is_of_the_model_that_left_the_sample_out(
    staged: tuple[Request, Path], shards: Path
) -> None:
    request, place = staged
    table = open_table(request.data)
    rows = {str(key): row for row, key in enumerate(table.keys)}
    found: dict[str, np.ndarray] = {}
    for fold in range(3):
        one = finished.open_run(place / "cv" / f"fold{fold}")
        with joined("cpu") as world:
            original = setup.open_shards(one.config, (str(shards),))
            found |= masks_by(*finished.prepare(one, original, world))
    assert sorted(found) == sorted(rows)
    for key, mask in found.items():
        stored = np.frombuffer(table.read(rows[key], "mask.png"), np.uint8)
        assert np.array_equal(cv2.imdecode(stored, cv2.IMREAD_UNCHANGED) > 0, mask)
    assert 0 < np.mean([mask.mean() for mask in found.values()]) < 1
    about = table.summary["predicted_masks"]
    assert about["learned_from"] == 0
    assert len(set(about["weights_sha256"].values())) == 3


def masks_by(made: setup.Setup, net: nn.Module) -> dict[str, np.ndarray]:
    """Return the masks of what a run left out, straight from its model."""
    found = {}
    net.eval()
    for shown in made.plain(made.roles.score):
        with torch.no_grad():
            said = net(shown.images).logits[:, 0].sigmoid().numpy()
        for row, each in zip(shown.rows, said, strict=True):
            found[str(made.table.keys[row])] = each >= made.task.config.threshold
    return found


@pytest.mark.slow
def test_what_is_done_is_not_done_again(
    staged: tuple[Request, Path], shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, place = staged

    def never(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(first, "cross", never)
    monkeypatch.setattr(predict_module, "predict", never)
    again = first.ready(asking(shards, request.out), Watcher())
    assert again.data == request.data == (str(place / "predicted" / "dataset"),)
    assert first.ready(request, Watcher()) is not request  # masks that are there are taken
    assert first.ready(request, Watcher()).data == request.data


@pytest.mark.slow
def test_an_interrupted_first_stage_goes_on_and_gives_the_same_masks(
    staged: tuple[Request, Path], shards: Path, tmp_path: Path
) -> None:
    _, place = staged
    copy = tmp_path / "two-first"
    shutil.copytree(place, copy)
    whole = (copy / "predicted" / "dataset" / "dataset.json").read_bytes()
    (copy / "cv" / "report.json").unlink()
    shutil.rmtree(copy / "cv" / "fold2")
    (copy / "predicted" / "dataset" / "dataset.json").unlink()
    first.ready(asking(shards, tmp_path / "two"), Watcher())
    assert (copy / "predicted" / "dataset" / "dataset.json").read_bytes() == whole


@pytest.mark.slow
def test_other_settings_of_the_first_stage_are_no_reason_to_mix(
    staged: tuple[Request, Path], shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, _ = staged
    other = f"first.set={json.dumps([*UNET, 'train.lr=0.5'])}"
    with pytest.raises(
        ConfigError, match=r"first holds a first stage with other .*lr: 0.001 -> 0.5"
    ):
        first.ready(asking(shards, request.out, other), Watcher())
    by = replace(asking(shards, request.out), side=Side(by="site"))
    with pytest.raises(ConfigError, match="--by site: the samples do not tell two or more apart"):
        first.ready(by, Watcher())
    monkeypatch.setattr(first, "check", lambda _: True)
    with pytest.raises(ConfigError, match="by: fold -> site"):
        first.ready(by, Watcher())


@pytest.mark.slow
def test_true_masks_are_those_of_the_shards(
    staged: tuple[Request, Path], shards: Path, tmp_path: Path
) -> None:
    truth = first.ready(asking(shards, tmp_path / "a", "first.mask=truth"), Watcher())
    assert truth.data == (str(shards),)
    predicted = replace(truth, data=staged[0].data)
    with pytest.raises(ConfigError, match=r"first.mask is truth, but the masks of .* predicted"):
        first.ready(predicted, Watcher())


@pytest.mark.slow
def test_masks_by_who_has_learned_from_the_samples_are_refused_and_named(
    staged: tuple[Request, Path], shards: Path, tmp_path: Path
) -> None:
    one = staged[1] / "cv" / "fold0"
    predict(Asked(one, str(shards), tmp_path / "all", masks=True, everything=True), Watcher())
    taught = replace(asking(shards, tmp_path / "run"), data=(str(tmp_path / "all" / "dataset"),))
    with pytest.raises(ConfigError, match="have learned from these very samples"):
        first.ready(taught, Watcher())
    blind = replace(taught.config, first=config.FirstConfig())
    report = run(replace(taught, config=blind), Watcher())
    assert tables.first_alarms(report)[0] == tables.TOLD["taught"]


def test_a_run_that_wants_predicted_masks_does_not_take_true_ones(
    shards: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="sees masks that unet-busi predicts"):
        run(asking(shards, tmp_path / "run"), Watcher())


@pytest.mark.slow
def test_what_some_variant_cannot_have_is_said_before_any_is_trained(
    staged: tuple[Request, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(ablation.cross, "cross_in", never)
    request = replace(staged[0], out=tmp_path / "all")
    with pytest.raises(ConfigError, match=r"first.mask is truth, but the masks of"):
        ablation.ablate(ablation.Ablation("two-stage", SMALL, request), Watcher())
    (tmp_path / "all" / "truth").mkdir(parents=True)
    (tmp_path / "all" / "truth" / "something").touch()
    with pytest.raises(ConfigError, match="truth is not empty"):
        ablation.ablate(ablation.Ablation("two-stage", SMALL, request), Watcher())


def test_trials_do_not_differ_in_masks_that_they_do_not_see(shards: Path, tmp_path: Path) -> None:
    spaces = dict([tuning.parse("first.mask=predicted|truth")])
    asked = tuning.Request("two-stage", SMALL, (str(shards),), tmp_path / "tune", 1, spaces)
    with pytest.raises(ConfigError, match=r"first.mask cannot be tried"):
        tuning.tune(asked, Watcher())


def test_what_the_first_stage_cannot_do_is_said_before_any_work(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asking(shards, tmp_path / "run", "first.recipe=densenet", "first.set=[]")
    with pytest.raises(ConfigError, match="densenet is of task classify, which predicts no masks"):
        first.ready(asked, Watcher())
    with pytest.raises(ConfigError, match="must be one of predicted, truth"):
        asking(shards, tmp_path / "run", "first.mask=guess")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    with pytest.raises(ConfigError, match="is not empty"):
        first.ready(asking(shards, tmp_path / "full"), Watcher())
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        ConfigError, match=r"mammotrain cv unet-busi --set train.amp=none .* --masks"
    ):
        first.ready(asking(shards, tmp_path / "run"), Watcher())
    assert not (tmp_path / "run-first").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.widht=9", "unknown key"),
        ("model.kernel_sizes=[2]", "kernel_sizes are odd"),
        ("train.monitor=aurc", "Did you mean 'auroc'"),
        (f"first.set={json.dumps([*UNET, 'train.monitor=dise'])}", "Did you mean 'dice'"),
        (f"first.set={json.dumps([*UNET, 'data.sampling=even'])}", "data.sampling must be"),
    ],
)
def test_what_either_stage_cannot_be_is_said_before_the_first_is_trained(
    shards: Path, tmp_path: Path, change: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        first.ready(asking(shards, tmp_path / "run", change), Watcher())
    assert not list(tmp_path.iterdir())


def test_shards_without_any_mask_are_named_before_the_first_stage_is_trained(
    patches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "known", lambda columns, _: np.zeros(len(columns["key"]), bool))
    with pytest.raises(
        ConfigError, match=r"what task segment learns.* these shards are of inbreast"
    ):
        first.ready(asking(patches, tmp_path / "run"), Watcher())
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_around_predicted_masks_gives_scores_but_no_places(
    staged: tuple[Request, Path], tmp_path: Path
) -> None:
    request = replace(staged[0], out=tmp_path / "run")
    report = run(request, Watcher())
    assert report["input"] == {"member": "crop", "masks": "predicted"}
    assert tables.TOLD["truth"] not in tables.first_alarms(report)
    assert "mask" in report["baselines"]
    remembered = finished.open_run(tmp_path / "run").config
    assert remembered.first.recipe == "unet-busi"
    heard = Telling()
    said = predict(Asked(tmp_path / "run", request.data[0], tmp_path / "said", device="cpu"), heard)
    assert any("no maps and no boxes" in line for line in heard.lines)
    assert len(said.findings.samples) > 0
    boxes = json.loads((tmp_path / "said" / "boxes.json").read_text())["samples"]
    assert all(each["boxes"] == [] for each in boxes)


@pytest.mark.slow
def test_a_run_that_is_shown_true_masks_says_first_that_they_tell_the_label(
    shards: Path, tmp_path: Path
) -> None:
    truth = asking(shards, tmp_path / "run", "first.mask=truth", "data.member=intersection.png")
    report = run(first.ready(truth, Watcher()), Watcher())
    assert report["input"] == {"member": "intersection.png", "masks": "truth"}
    assert tables.alarms(report)[0] == tables.TOLD["truth"]
    assert tables.TOLD["truth"] in (tmp_path / "run" / "report.html").read_text()
    assert tables.TOLD["truth"] in summary.summary(report, tmp_path)
    alone = report["baselines"]["mask"]["metrics"]["macro_auroc"]["value"]
    assert alone > 0.7  # a normal picture has no mask


@pytest.mark.slow
def test_an_ablation_trains_the_first_stage_once_and_shows_each_variant_its_own_pictures(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(first, "cross", lambda *given: calls.append(1) or cross(*given))
    request = asking(shards, tmp_path / "all")
    found = ablation.ablate(ablation.Ablation("two-stage", SMALL, request), Watcher())
    assert [Path(each["run"]).name for each in found["runs"]] == [
        "full", "direct", "intersection", "truth"
    ]  # fmt: skip
    assert len(calls) == 1
    content = {
        name: finished.open_run(tmp_path / "all" / name / "fold0").place
        for name in ("full", "truth")
    }
    kept = {k: checkpoint.best(v / "checkpoints").state["about"] for k, v in content.items()}
    assert kept["full"]["preparation"]["predicted_masks"] is True
    assert kept["truth"]["preparation"]["predicted_masks"] is False
    page = (tmp_path / "all" / "report.html").read_text()
    assert page.count("true masks, which tell the label") == 1
    assert {"majority", "mask of truth"} <= set(found["baselines"])  # constant masks tell nothing
    assert "mask of truth" in page
