"""Weights from a file or from timm's hub: adapted, refused, or done without, and always said."""

import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mammoprep.core.errors import ConfigError
from mammotrain import _hub, pretrained
from mammotrain._torchvision import ensure_importable
from mammotrain.contracts import Output
from mammotrain.models import deq

ensure_importable()
import timm  # noqa: E402

NAME, REPOSITORY = "test_resnet", "timm/test_resnet.r160_in1k"


class Small(nn.Module):
    """A stem, a norm that counts, a head."""

    def __init__(self, channels: int = 1, outputs: int = 2, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, outputs)

    def forward(self, images: torch.Tensor) -> Output:
        return Output(self.head(self.norm(self.stem(images)).mean((2, 3))))


class Encoded(nn.Module):
    """An encoder of timm's without its head, and a head of its own."""

    def __init__(self, name: str = NAME, **options: Any) -> None:
        super().__init__()
        self.timm_name, self.timm_options = name, options
        self.encoder = timm.create_model(name, num_classes=0, **options)
        self.own = nn.Linear(self.encoder.num_features, 2)

    def forward(self, images: torch.Tensor) -> Output:
        return Output(self.own(self.encoder(images)))


def saved(model: nn.Module, path: Path, **changes: torch.Tensor | None) -> str:
    tensors = {**model.state_dict(), **changes}
    save_file({n: v.contiguous() for n, v in tensors.items() if v is not None}, path)
    return str(path)


def loaded(model: nn.Module, where: str, **options: str) -> list[str]:
    told: list[str] = []
    pretrained.load(model, where, told.append, **options)
    return told


def copy(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(model: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# files


def test_none_changes_nothing_and_says_nothing() -> None:
    model = Small()
    before = copy(model)
    assert loaded(model, "none") == []
    assert same(model, before)


def test_a_files_weights_are_in_the_model_and_one_line_says_so(tmp_path: Path) -> None:
    source, model = Small(), Small()
    (line,) = loaded(model, saved(source, tmp_path / "w.safetensors"))
    assert same(model, copy(source))
    assert f"{len(source.state_dict())} tensors" in line


@pytest.mark.parametrize(("given", "wanted"), [(3, 1), (1, 3)])
def test_a_grey_picture_gives_what_it_gave_as_a_colour_picture(
    given: int, wanted: int, tmp_path: Path
) -> None:
    source, model = Small(given).eval(), Small(wanted).eval()
    (line,) = loaded(model, saved(source, tmp_path / "w.safetensors"))
    grey = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    then = source(grey.expand(-1, given, -1, -1)).logits
    now = model(grey.expand(-1, wanted, -1, -1)).logits
    torch.testing.assert_close(now, then)
    assert f"stem.weight from {given} to {wanted} channels" in line


def test_a_head_of_other_outputs_keeps_its_initial_values_and_this_is_said(tmp_path: Path) -> None:
    source, model = Small(outputs=5), Small(outputs=2)
    before = copy(model)
    (line,) = loaded(model, saved(source, tmp_path / "w.safetensors"))
    assert torch.equal(model.head.weight, before["head.weight"])
    assert torch.equal(model.head.bias, before["head.bias"])
    assert torch.equal(model.stem.weight, source.stem.weight)
    assert "head.weight" in line
    assert "head.bias" in line


def test_a_head_of_several_layers_stays_as_a_whole(tmp_path: Path) -> None:
    source, model = Small(outputs=5), Small(outputs=2)
    for each in (source, model):
        each.head = nn.Sequential(nn.Linear(4, 4), each.head)
    before = copy(model)
    loaded(model, saved(source, tmp_path / "w.safetensors"))
    assert torch.equal(model.head[0].weight, before["head.0.weight"])
    assert torch.equal(model.stem.weight, source.stem.weight)


def test_the_equilibrium_model_goes_from_two_classes_to_five(tmp_path: Path) -> None:
    config = deq.Config(width=8, groups=4)
    source, model = (deq.build(config, channels=1, outputs=n, size=(32, 32)) for n in (1, 5))
    (line,) = loaded(model, saved(source, tmp_path / "w.safetensors"))
    assert "head.weight" in line
    mine, theirs = model.state_dict(), source.state_dict()
    assert all(torch.equal(mine[n], theirs[n]) for n in mine if not n.startswith("head."))


def test_an_inner_layer_of_other_outputs_is_no_head(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"shape: .*stem\.weight \(\[8, 1, 3, 3\], not \[4, "):
        loaded(Small(), saved(Small(width=8), tmp_path / "w.safetensors"))


def test_what_is_missing_and_what_is_too_much_is_named_and_counted(tmp_path: Path) -> None:
    more = {f"other.{i}": torch.zeros(1) for i in range(5)}
    where = saved(Small(), tmp_path / "w.safetensors", **more, **{"stem.bias": None})
    model = Small()
    before = copy(model)
    with pytest.raises(ConfigError) as caught:
        loaded(model, where)
    text = str(caught.value)
    assert "1 tensors are missing: stem.bias" in text
    assert "5 tensors are not its own: other.0, other.1, other.2, ..." in text
    assert same(model, before)


def test_a_file_from_before_batch_norm_counted_fits(tmp_path: Path) -> None:
    source = Small()
    where = saved(source, tmp_path / "w.safetensors", **{"norm.num_batches_tracked": None})
    model = Small()
    loaded(model, where)
    assert torch.equal(model.norm.running_var, source.norm.running_var)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    where = saved(Small(), tmp_path / "w.safetensors", **{"stem.bias": torch.full((4,), torch.nan)})
    with pytest.raises(ConfigError, match=r"stem\.bias of .* holds values that are no numbers"):
        loaded(Small(), where)


def test_half_precision_weights_are_summed_in_single_precision(tmp_path: Path) -> None:
    source, model = Small(3), Small(1)
    half = {"stem.weight": source.stem.weight.detach().half()}
    loaded(model, saved(source, tmp_path / "w.safetensors", **half))
    assert model.stem.weight.dtype == torch.float32
    wanted = half["stem.weight"].float().sum(1, keepdim=True)
    assert torch.equal(model.stem.weight.detach(), wanted)


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.safetensors", "w"])
def test_a_file_that_could_run_code_is_not_opened(name: str, tmp_path: Path) -> None:
    torch.save(Small().state_dict(), tmp_path / name)
    with pytest.raises(ConfigError, match="turn it into safetensors"):
        loaded(Small(), str(tmp_path / name))


def test_the_command_that_turns_a_file_into_safetensors_works(tmp_path: Path) -> None:
    source = Small()
    torch.save({"state_dict": source.state_dict()}, tmp_path / "weights.pth")
    with pytest.raises(ConfigError) as caught:
        loaded(Small(), str(tmp_path / "weights.pth"))
    command = shlex.split(str(caught.value).partition("first: ")[2])
    subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True, timeout=120)
    assert same(source, load_file(tmp_path / "weights.safetensors"))


@pytest.mark.parametrize(
    ("content", "words"), [(b"not tensors at all", "is no safetensors file"), (None, "be read")]
)
def test_a_file_that_is_none_is_refused(content: bytes | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        loaded(Small(), str(path))
    with pytest.raises(ConfigError, match="is a folder"):
        loaded(Small(), str(tmp_path))


# timm and its hub


class Handler(BaseHTTPRequestHandler):
    """As much of a hub as a download needs."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        server: Any = self.server
        server.asked.append(self.path)
        data = server.files.get(self.path)
        self.send_response(200 if data is not None or self.path == "/" else 404)
        self.send_header("Content-Length", str(len(data or b"")))
        if data is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("ETag", '"0123456789abcdef0123456789abcdef01234567"')
        self.send_header("X-Repo-Commit", "c" * 40)
        self.end_headers()
        if body and data is not None:
            self.wfile.write(data)

    def log_message(self, format: str, *values: Any) -> None:
        """Say nothing."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache"


def point_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("/{repo_id}")
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + template[1] + template[2]
    )


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A hub on this machine that holds nothing yet; ``files`` is path -> bytes."""
    from huggingface_hub import close_session

    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.asked = {}, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    point_to(f"http://127.0.0.1:{server.server_port}", monkeypatch)
    yield server
    close_session()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def nowhere(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's address is a port that nobody listens at."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    point_to(f"http://127.0.0.1:{port}", monkeypatch)


def published(name: str = NAME, **options: Any) -> nn.Module:
    torch.manual_seed(1)
    return timm.create_model(name, **options)


def put(hub: Any, model: nn.Module, repository: str, tmp_path: Path) -> None:
    where = saved(model, tmp_path / "published.safetensors")
    hub.files[f"/{repository}/resolve/main/model.safetensors"] = Path(where).read_bytes()


def test_timms_weights_come_from_the_hub_once(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = published()
    put(hub, source, REPOSITORY, tmp_path)
    model = Encoded(in_chans=1)
    own = model.own.weight.detach().clone()
    (line,) = loaded(model, "timm")
    theirs = source.state_dict()
    first = "conv1.0.weight" if "conv1.0.weight" in theirs else "conv1.weight"
    mine = model.encoder.state_dict()
    assert torch.allclose(mine.pop(first), theirs[first].sum(1, keepdim=True), atol=1e-6)
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    assert torch.equal(model.own.weight, own)
    assert NAME in line

    asked = len(hub.asked)
    again = Encoded(in_chans=1)
    loaded(again, "timm")
    assert same(again.encoder, copy(model.encoder))
    assert len(hub.asked) == asked


def test_an_encoder_with_a_head_of_other_outputs_keeps_that_head(hub: Any, tmp_path: Path) -> None:
    put(hub, published(), REPOSITORY, tmp_path)
    model = timm.create_model(NAME, num_classes=3)
    model.timm_name = NAME
    before = copy(model)
    (line,) = loaded(model, "timm")
    assert torch.equal(model.fc.weight, before["fc.weight"])
    assert not torch.equal(model.layer1[0].conv1.weight, before["layer1.0.conv1.weight"])
    assert "fc.weight" in line


def test_a_grey_encoder_need_not_say_that_it_is_grey(tmp_path: Path) -> None:
    source, model = published(), Encoded(in_chans=1)
    model.timm_options = {}
    where = saved(source, tmp_path / "by_hand.safetensors")
    (line,) = loaded(model, where)
    assert "from 3 to 1 channels" in line
    grey = torch.rand(1, 1, 64, 64)
    then = source.eval().forward_features(grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(model.encoder.eval().forward_features(grey), then)


def test_a_vision_transformer_of_another_size_gets_its_positions_resized(tmp_path: Path) -> None:
    source = published("test_vit")
    model = Encoded("test_vit", in_chans=1, img_size=96)
    loaded(model, saved(source, tmp_path / "by_hand.safetensors"))
    assert model.encoder.pos_embed.shape != source.pos_embed.shape
    torch.testing.assert_close(
        model.encoder.pos_embed.mean(), source.pos_embed.mean(), atol=2e-3, rtol=0
    )
    assert torch.equal(model.encoder.blocks[0].attn.qkv.weight, source.blocks[0].attn.qkv.weight)


def test_an_encoder_of_features_takes_weights_too(tmp_path: Path) -> None:
    source = published()
    model = nn.Module()
    model.timm_name, model.timm_options = NAME, {"features_only": True, "in_chans": 1}
    model.encoder = timm.create_model(NAME, **model.timm_options)
    loaded(model, saved(source, tmp_path / "by_hand.safetensors"))
    theirs = source.state_dict()
    assert torch.equal(
        model.encoder.state_dict()["layer4.0.conv1.weight"], theirs["layer4.0.conv1.weight"]
    )


def test_a_run_of_the_same_model_goes_into_encoder_and_head(tmp_path: Path) -> None:
    source, model = Encoded(in_chans=1), Encoded(in_chans=1)
    loaded(model, saved(source, tmp_path / "w.safetensors"))
    assert same(model, copy(source))


def test_another_encoders_file_is_refused(tmp_path: Path) -> None:
    where = saved(published("test_vit"), tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match="test_resnet"):
        loaded(Encoded(), where)


def test_loading_leaves_random_numbers_as_they_were(tmp_path: Path) -> None:
    where = saved(published(), tmp_path / "w.safetensors")
    model = Encoded()
    before = torch.get_rng_state()
    loaded(model, where)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_hub_the_error_says_what_was_wanted_and_how_to_go_on(nowhere: None) -> None:
    model = Encoded()
    before, began = copy(model), time.monotonic()
    with pytest.raises(ConfigError) as caught:
        loaded(model, "timm")
    assert time.monotonic() - began < 5
    text = str(caught.value)
    for part in (
        NAME, "could not be reached", f"{REPOSITORY}/resolve/main/model.safetensors",
        "--set train.pretrained=PATH", "--set train.pretrained=none",
    ):  # fmt: skip
        assert part in text
    assert same(model, before)


def test_a_hub_that_never_answers_is_given_up_within_seconds(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_hub, "PROBE_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        point_to(f"http://127.0.0.1:{silent.getsockname()[1]}", monkeypatch)
        began = time.monotonic()
        with pytest.raises(ConfigError, match="could not be reached"):
            loaded(Encoded(), "timm")
    assert time.monotonic() - began < 3


def test_a_name_that_takes_forever_to_look_up_is_given_up_too(
    nowhere: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(_hub, "_answer", lambda endpoint: str(released.wait(20)))
    monkeypatch.setattr(_hub, "PROBE_SECONDS", 0.2)
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"no answer in 0\.2 s"):
        loaded(Encoded(), "timm")
    assert time.monotonic() - began < 3
    released.set()


def test_who_wants_no_network_gets_none(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE is set"):
        loaded(Encoded(), "timm")
    assert hub.asked == []


def test_a_recipe_may_go_on_without_and_says_so_loudly_in_one_line(nowhere: None) -> None:
    model = Encoded()
    before = copy(model)
    (line,) = loaded(model, "timm", fallback="none")
    assert "NO PRETRAINED WEIGHTS" in line
    assert NAME in line
    assert "\n" not in line
    assert same(model, before)


def test_only_a_missing_hub_is_a_reason_to_go_on_without(hub: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the hub refuses"):
        loaded(Encoded(), "timm", fallback="none")
    with pytest.raises(ConfigError, match="be read"):
        loaded(Small(), str(tmp_path / "absent.safetensors"), fallback="none")
    put(hub, published("test_vit"), REPOSITORY, tmp_path)
    with pytest.raises(ConfigError, match="test_resnet"):
        loaded(Encoded(), "timm", fallback="none")


def test_a_damaged_download_is_refused(hub: Any) -> None:
    hub.files[f"/{REPOSITORY}/resolve/main/model.safetensors"] = b"not tensors at all"
    with pytest.raises(ConfigError, match="is damaged"):
        loaded(Encoded(), "timm")


@pytest.mark.parametrize("name", ["no_such_model", "resnet18.no_such_tag"])
def test_a_name_that_timm_does_not_know_is_refused(name: str) -> None:
    model = Small()
    model.timm_name = name
    with pytest.raises(ConfigError, match=f"no weights of '{name}'"):
        loaded(model, "timm")


def test_a_model_without_an_encoder_of_timms_says_so() -> None:
    with pytest.raises(ConfigError, match="no encoder of timm's"):
        loaded(Small(), "timm")


def test_an_unknown_fallback_is_refused() -> None:
    with pytest.raises(ConfigError, match="pretrained_fallback must be"):
        loaded(Small(), "none", fallback="perhaps")
