"""The hub that timm publishes its weights on: what is kept here already, else a download.

Asked before its own client is, which tries again for a minute when there is no network.
"""

import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from ssl import SSLError
from threading import Thread
from typing import Any

from torch import Tensor

from mammoprep.core.errors import ConfigError
from mammotrain._torchvision import ensure_importable

WEIGHTS = "model.safetensors"  # of every repository of timm's
PROBE_SECONDS = 5.0
LOST = (  # errors of the hub's HTTP client, which is another one by its version
    ("httpx2", "TransportError"),
    ("httpx", "TransportError"),
    ("requests", "ConnectionError"),
    ("requests", "Timeout"),
)
Tensors = dict[str, Tensor]


class UnreachableError(ConfigError):
    """The hub gave no answer; the only case in which a recipe may go on without."""


def config(name: str) -> Any:
    """Return timm's PretrainedCfg of a model.

    Raises:
        ConfigError: timm knows no such weights.
    """
    ensure_importable()
    from timm.models import get_pretrained_cfg

    try:
        found = get_pretrained_cfg(name)
    except RuntimeError:  # an unknown tag
        found = None
    if found is None or not found.hf_hub_id:
        raise ConfigError(f"train.pretrained = 'timm': timm has no weights of {name!r} on its hub.")
    return found


def weights(name: str, read: Callable[[Path], Tensors]) -> Tensors:
    """Return the published weights of one of timm's models: kept ones, else from the hub.

    Args:
        name: Of the model, with or without a tag.
        read: Opens a safetensors file.

    Raises:
        UnreachableError: the hub gives no answer.
        ConfigError: it has no such weights.
    """
    identifier = config(name).hf_hub_id  # after the models, so that the hub's client is there
    from huggingface_hub import constants, try_to_load_from_cache

    repository, _, revision = identifier.partition("@")
    kept = try_to_load_from_cache(repository, WEIGHTS, revision=revision or None)
    if isinstance(kept, str):
        return read(Path(kept))
    url = f"{constants.ENDPOINT}/{repository}/resolve/{revision or 'main'}/{WEIGHTS}"
    if why := _unreachable(constants.ENDPOINT, offline=constants.HF_HUB_OFFLINE):
        raise UnreachableError(_lost(name, why, url))
    return _downloaded(name, identifier, url)


def _downloaded(name: str, identifier: str, url: str) -> Tensors:
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError
    from safetensors import SafetensorError
    from timm.models import load_state_dict_from_hf

    lost = [getattr(sys.modules[module], kind) for module, kind in LOST if module in sys.modules]
    try:
        # with a name that ends in .safetensors timm looks for nothing else
        found: Tensors = load_state_dict_from_hf(identifier, filename=WEIGHTS)
    except (LocalEntryNotFoundError, ConnectionError, TimeoutError, *lost) as error:
        raise UnreachableError(_lost(name, type(error).__name__, url)) from None
    except (EntryNotFoundError, HfHubHTTPError) as error:
        raise ConfigError(
            f"train.pretrained = 'timm': the hub refuses {url} ({type(error).__name__})."
        ) from None
    except SafetensorError as error:
        raise ConfigError(f"train.pretrained = 'timm': {url} is damaged ({error}).") from None
    return found


def _lost(name: str, why: str, url: str) -> str:
    return (
        f"train.pretrained = 'timm': the weights of {name} were wanted, and the hub could not be "
        f"reached ({why}). To go on: fetch {url} where there is a network and give its path, --set "
        "train.pretrained=PATH; or --set train.pretrained=none."
    )


def _unreachable(endpoint: str, *, offline: bool) -> str:
    """Return why the hub cannot be reached, or nothing.

    Its own client tries again for a minute, and more where packets vanish, so it is asked first.
    """
    if offline:
        return "HF_HUB_OFFLINE is set"
    found: list[str] = []
    asking = Thread(target=lambda: found.append(_answer(endpoint)), daemon=True)
    asking.start()
    asking.join(PROBE_SECONDS)  # a name's many addresses are tried one after another
    return found[0] if found else f"no answer in {PROBE_SECONDS:g} s"


def _answer(endpoint: str) -> str:
    try:
        request = urllib.request.Request(endpoint, method="HEAD")
        with urllib.request.urlopen(request, timeout=PROBE_SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return "" if error.code < 500 else f"HTTP {error.code}"
    except urllib.error.URLError as error:
        # certificates are the client's business: it may have others
        return "" if isinstance(error.reason, SSLError) else str(error.reason)
    except (OSError, HTTPException, ValueError) as error:
        return type(error).__name__
