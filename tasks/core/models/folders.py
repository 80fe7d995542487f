"""Read and check a Hugging Face model folder without loading its weights.

Pickles are not read, and code from a model's folder is never run.
"""

import math
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from tasks.core.errors import ModelError, SettingsError
from tasks.core.models.files import refuse_foreign_code

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")


def check_base_folder(folder: Path) -> None:
    """Check early that a folder can serve as a base model for fine-tuning.

    Raises:
        ModelError: no config, no tokenizer, no safetensors (pickles only), damaged weights, an adapter or a foreign
            kernel. Each error says what to do.
    """
    if not (folder / "config.json").is_file():
        raise ModelError("No config.json: not a Hugging Face model folder", str(folder))
    refuse_foreign_code(folder)
    if not any(folder.glob("*.safetensors")):
        pickles = [p.name for pattern in _PICKLES for p in folder.glob(pattern)]
        if pickles:
            raise ModelError(
                f"The weights are pickles ({', '.join(sorted(pickles))}), which can run code when loaded",
                str(folder),
                "load them once where you trust them, and save again with save_pretrained (safetensors)",
            )
        raise ModelError(
            "No *.safetensors weights", str(folder), "download or save the complete model"
        )
    parameters(folder)
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt", "vocab.json")):
        raise ModelError("No tokenizer files", str(folder), "save the tokenizer beside the model")


def parameters(folder: Path) -> int:
    """Return the number of parameters in a folder's weights. Raises ModelError if a file is damaged."""
    total = 0
    for path in folder.glob("*.safetensors"):
        try:
            with safe_open(path, "numpy") as weights:
                for name in weights.keys():  # noqa: SIM118 - not a dict
                    total += math.prod(weights.get_slice(name).get_shape())
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"The weights cannot be read: {error}",
                str(path),
                "download or save the model again",
            ) from error
    return total


def require_layers(folder: Path, frozen: int) -> None:
    """Raise SettingsError if more layers are to be frozen than the model has."""
    if frozen > depth(folder):
        raise SettingsError(
            f"The model has {depth(folder)} layers", "training.frozen_layers", "freeze fewer"
        )


def depth(folder: Path) -> int:
    """Return the number of layers of a folder's model."""
    return int(read_config(folder).get_text_config().num_hidden_layers)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model folder. If it has no pad token (GPT-style), end-of-text serves as one."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"The tokenizer cannot be loaded: {error}", str(folder)) from error
    if tokenizer.pad_token is None:
        spare = tokenizer.eos_token or tokenizer.unk_token
        if spare is None:
            raise ModelError(
                "The tokenizer has neither a pad, an end-of-text nor an unknown token", str(folder)
            )
        tokenizer.pad_token = spare
    return tokenizer


def read_config(folder: Path) -> Any:
    """Read a model folder's configuration. Raises ModelError if transformers cannot read it."""
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        what = str(error).strip().splitlines()[0]
        raise ModelError(
            f"transformers cannot read config.json: {what}",
            str(folder),
            "choose a model that transformers supports; code that comes with a model is never run",
        ) from error


def architecture(folder: Path) -> str:
    """Return the model type in a folder's config, such as bert or gpt2."""
    return str(read_config(folder).model_type)
