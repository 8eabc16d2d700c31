"""Runs written as one file: loaded again, the file says what the model says, or it is not kept."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mammoprep
from mammoprep.core.errors import ConfigError
from mammotrain import config, exporting, scores
from mammotrain.contracts import Output
from mammotrain.data.around import MARGIN
from mammotrain.data.shards import open_table
from mammotrain.data.splits import Side
from mammotrain.exporting import Exported, Request, export
from mammotrain.models import deq, unet
from mammotrain.predict import Request as Asked
from mammotrain.predict import predict
from mammotrain.predicting import panel, unlabelled
from mammotrain.priors import Prior, correct
from mammotrain.run import Request as Training
from mammotrain.run import run
from mammotrain.setup import PREDICTED
from mammotrain.watching import Watcher

pytestmark = pytest.mark.usefixtures("one_thread")

needs_onnx = pytest.mark.skipif(
    any(not exporting.find_spec(name) for name in exporting.PACKAGES), reason="no onnx"
)


@pytest.fixture(scope="module")
def shards(once: Callable[[Any, Any], Path]) -> Path:
    """Phantoms in the layout of rsna; read only."""

    def make(home: Path) -> None:
        mammoprep.phantom("rsna", home / "raw", patients=8, seed=5, size_scale=0.05, prevalence=0.6)
        mammoprep.build(
            source="rsna", input=home / "raw", out=home / "shards", size="32x64", folds=3, workers=1
        )

    return once("export, shards", make) / "shards"


@pytest.fixture(scope="module")
def screened(shards: Path, once: Callable[[Any, Any], Path]) -> Path:
    """A run of a classifier; read only."""
    found = config.load("resnext", (
        "model.variant=resnet10t", "data.size=[32, 64]", "data.workers=1", "train.batch_size=8",
        "train.max_steps=2", "train.epochs=1", "train.pretrained=none", "train.warmup=0",
        "train.amp=none", "data.sampling=balanced",
    ))  # fmt: skip

    def make(out: Path) -> None:
        run(Training(found, (str(shards),), out, Side(), device="cpu"), Watcher())

    return once("export, resnext", make)


@pytest.fixture(scope="module")
def equilibrium(patches: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("deq") / "deq"
    found = config.load("deq", (
        "model.width=8", "model.groups=4", "train.batch_size=8", "train.epochs=1",
        "data.workers=1", "data.size=[32, 32]",
    ))  # fmt: skip
    run(Training(found, (str(patches),), out, Side(), device="cpu"), Watcher())
    return out


@pytest.fixture(scope="module")
def tiled(patches: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that scores a picture in four tiles."""
    out = tmp_path_factory.mktemp("unet") / "unet"
    found = config.load("unet", (
        "data.size=[48, 48]", "model.tile=[32, 32]", "data.augmentation={}", "task.smallest=0",
        "data.workers=1", "train.batch_size=8", "train.max_steps=2", "train.pretrained=none",
        "train.warmup=0", "train.amp=none",
    ))  # fmt: skip
    run(Training(found, (str(patches),), out, Side(), device="cpu"), Watcher())
    return out


def told(path: Path) -> dict:
    return json.loads(path.with_name(f"{path.name}.json").read_text())


def shown(place: Path, data: Path) -> tuple[list[str], np.ndarray]:
    """Return keys and pictures as a run's model is shown them."""
    table = open_table([data])
    member = panel.open_panel(place).members[0]
    rows = np.arange(6, dtype=np.int64)
    made = unlabelled.asking(member, table, rows, exporting.CPU)
    (batch,) = made.loader(rows, training=False).epoch(0)
    return list(batch.keys), made.shown(batch, None).images.numpy()


@pytest.mark.slow
@needs_onnx
def test_onnx_runtime_says_what_predict_says(screened: Path, shards: Path, tmp_path: Path) -> None:
    import onnxruntime

    out = tmp_path / "model.onnx"
    checked = export(Request(screened, "onnx", out, str(shards)))
    assert checked.on == "samples of shards"
    assert checked.difference <= 1e-5
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    keys, images = shown(screened, shards)
    found, _ = session.run(["scores", "logits"], {"images": images})
    predict(
        Asked(screened, str(shards), tmp_path / "said", everything=True, overlays=False), Watcher()
    )
    said = scores.read(tmp_path / "said" / "scores.csv")
    known = dict(zip(said.key, said.values, strict=True))
    assert np.allclose(found, [known[key] for key in keys], atol=1e-5)


@pytest.mark.slow
def test_torchscript_says_the_same_and_the_file_beside_it_how_to_use_it(
    screened: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model.pt"
    checked = export(Request(screened, "torchscript", out))
    assert checked.on == "drawn pictures"
    assert checked.difference <= 1e-5
    about = told(out)
    assert about["inputs"][0]["shape"] == ["batch", 1, 64, 32]
    assert about["classes"] == ["not_cancer", "cancer"]
    assert about["preparation"]["size"] == [32, 64]
    assert about["threshold"] == json.loads((screened / "report.json").read_text())["threshold"]
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_file_takes_batches_of_any_size(screened: Path, shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.pt"
    export(Request(screened, "torchscript", out))
    loaded = torch.jit.load(str(out))
    _, images = shown(screened, shards)
    with torch.no_grad():
        together = loaded(torch.from_numpy(images))[0]
        alone = loaded(torch.from_numpy(images[2:3]))[0]
    assert torch.allclose(together[2:3], alone, atol=1e-6)


def test_the_prior_is_part_of_the_file() -> None:
    class Flat(nn.Module):
        def forward(self, images: Tensor) -> Output:
            return Output(images.mean((1, 2, 3))[:, None])

    class Task:
        score_names = ("no", "yes")

        @staticmethod
        def scores(output, shown):
            positive = torch.sigmoid(output.logits)
            return torch.cat([1 - positive, positive], 1)

    prior = Prior((0.5, 0.5), (0.98, 0.02))
    images = torch.rand(5, 1, 4, 4)
    plain, _ = Exported(Flat(), Task(), None)(images)
    corrected, _ = Exported(Flat(), Task(), prior)(images)
    expected = correct(plain.double().numpy(), prior)
    assert np.allclose(corrected.numpy(), expected, atol=1e-6)


@pytest.mark.slow
@needs_onnx
def test_a_deq_is_refused_as_onnx_with_the_reason(
    equilibrium: Path, patches: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="steps it takes depends on the picture"):
        export(Request(equilibrium, "onnx", tmp_path / "deq.onnx", str(patches)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(deq.DEQ, "cam_grid"), reason="the model cannot be traced")
def test_a_deq_as_torchscript_says_the_same_also_of_a_blank_picture(
    equilibrium: Path, patches: Path, tmp_path: Path
) -> None:
    checked = export(Request(equilibrium, "torchscript", tmp_path / "deq.pt", str(patches)))
    assert checked.difference <= 1e-5
    assert checked.pictures == 18


@pytest.mark.slow
@pytest.mark.parametrize("format", ["torchscript", pytest.param("onnx", marks=needs_onnx)])
def test_a_unet_that_looks_at_tiles_says_the_same(
    tiled: Path, patches: Path, tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[torch.Size] = []
    whole = unet.UNet._of_one

    def counted(self: unet.UNet, images: Tensor) -> Tensor:
        looks.append(images.shape[-2:])
        return whole(self, images)

    monkeypatch.setattr(unet.UNet, "_of_one", counted)
    checked = export(Request(tiled, format, tmp_path / "unet", str(patches)))
    assert checked.difference <= 1e-5
    assert {tuple(map(int, look)) for look in looks} == {(32, 32)}
    assert len(looks) % 4 == 0
    assert told(tmp_path / "unet")["inputs"][0]["shape"] == ["batch", 1, 48, 48]


@pytest.mark.slow
def test_what_says_something_else_is_not_kept(
    screened: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = exporting._to_script

    def off(module, example, path):
        runner, doubt = written(module, example, path)
        return (lambda batch: (runner(batch)[0] + 2e-4, runner(batch)[1])), doubt

    monkeypatch.setattr(exporting, "_to_script", off)
    with pytest.raises(ConfigError, match=r"differs by 0\.0002"):
        export(Request(screened, "torchscript", tmp_path / "model.pt"))

    def nothing(module, example, path):
        runner, doubt = written(module, example, path)
        return (lambda batch: (runner(batch)[0] * torch.nan, runner(batch)[1])), doubt

    monkeypatch.setattr(exporting, "_to_script", nothing)
    with pytest.raises(ConfigError, match="differs by inf"):
        export(Request(screened, "torchscript", tmp_path / "model.pt"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_the_file_beside_it_says_which_part_of_a_picture_the_model_is_shown(
    screened: Path, tmp_path: Path
) -> None:
    found = {}
    for member in ("image", "crop", "intersection.png"):
        place = tmp_path / member
        shutil.copytree(screened, place)
        recipe = (place / "config.toml").read_text()
        assert 'member = "image"' in recipe
        (place / "config.toml").write_text(recipe.replace('"image"', f'"{member}"'))
        export(Request(place, "torchscript", tmp_path / f"{member}.pt"))
        found[member] = told(tmp_path / f"{member}.pt")["picture"]
    assert found["image"] == {"member": "image", "how": found["image"]["how"]}
    assert "whole" in found["image"]["how"]
    crop = found["crop"]
    assert (crop["member"], crop["mask"], crop["margin"]) == ("crop", "true", MARGIN)
    assert crop["proportions"] == [32, 64]
    assert "part around a true mask" in crop["how"]
    assert "outside of a true mask" in found["intersection.png"]["how"]
    for each in ("crop", "intersection.png"):
        assert "mammotrain predict does all this" in found[each]["how"]


def test_whose_masks_a_picture_is_shown_by_is_told() -> None:
    data = SimpleNamespace(member="crop", size=(32, 64))
    run = SimpleNamespace(config=SimpleNamespace(data=data))
    for predicted, word in ((True, "predicted"), (False, "true")):
        about = {"preparation": {PREDICTED: predicted}}
        found = exporting._picture(SimpleNamespace(run=run, about=about))
        assert found["mask"] == word
        assert f"shards that hold {word} masks" in found["how"]


@pytest.mark.parametrize("there", ["model.pt", "model.pt.json"])
def test_nothing_that_exists_is_overwritten(there: str, tmp_path: Path) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(ConfigError, match=f"{there} exists. Give another --out, or remove it"):
        export(Request(tmp_path / "no run is looked at", "torchscript", tmp_path / "model.pt"))
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


@pytest.mark.slow
def test_mistakes_are_said_before_any_work(
    screened: Path, patches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'onnx'"):
        export(Request(screened, "onxx", tmp_path / "x"))
    with pytest.raises(ConfigError, match="existing folder"):
        export(Request(screened, "torchscript", tmp_path / "no" / "x"))
    with pytest.raises(ConfigError, match="prepared differently"):
        export(Request(screened, "torchscript", tmp_path / "x", str(patches)))
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'mammoprep\[onnx\]'"):
        export(Request(screened, "onnx", tmp_path / "x"))


@pytest.mark.slow
def test_the_command_line_prints_the_difference(screened: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "mammotrain", "export", str(screened), "--format", "torchscript",
        "--out", str(tmp_path / "model.pt"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "differ by" in done.stdout
