"""A base model is loaded as a training will load it, before anything is prepared for it: what is wrong is said then."""

from pathlib import Path

from tasks.core import modeling
from tasks.core.tokenization import TokenizationParams


def try_base_model(folder: Path, tokenization: TokenizationParams) -> list[str]:
    """Check that a base model can be trained.

    Args:
        folder: config, tokenizer and safetensors.
        tokenization: how texts will become tokens.
    Returns:
        What a person should know of it, a sentence each.
    Raises:
        ModelError: it cannot be loaded, or weights are not its own.
        SettingsError: it does not take reviews of the length asked for.
    """
    return list(modeling.load_for_training(folder, ["no", "yes"], tokenization, 0.0).notes)
