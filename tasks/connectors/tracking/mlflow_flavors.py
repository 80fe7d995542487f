"""MLflow's own description of a model folder, so that MLflow's tools load it: pyfunc, transformers and `models serve`.

The folder stays a Hugging Face folder. MLflow's transformers flavour reads the tokenizer from a separate folder.
"""

import platform
from collections.abc import Sequence
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PACKAGES: Sequence[str] = ("mlflow", "torch", "transformers", "accelerate")
_ENVIRONMENT = "python_env.yaml"
_REQUIREMENTS = "requirements.txt"


def describe_for_mlflow(
    folder: Path, tokenizer: "PreTrainedTokenizerBase", max_length_tokens: int
) -> None:
    """Write MLmodel, the tokenizer where MLflow looks for it, and the requirements of its environment.

    Args:
        folder: a Hugging Face folder of a sequence classifier.
        tokenizer: of that folder.
        max_length_tokens: pyfunc truncates longer texts at their end, as its pipeline would raise.
    """
    tokenizer.save_pretrained(folder / "components" / "tokenizer")
    pinned = "".join(f"{name}=={installed(name)}\n" for name in _PACKAGES)
    (folder / _REQUIREMENTS).write_text(pinned, encoding="utf-8")
    environment = f"python: {platform.python_version()}\ndependencies:\n- -r {_REQUIREMENTS}\n"
    (folder / _ENVIRONMENT).write_text(environment, encoding="utf-8")
    answers = Schema([ColSpec(DataType.string, "label"), ColSpec(DataType.double, "score")])
    texts = Schema([ColSpec(DataType.string)])
    model = Model(signature=ModelSignature(inputs=texts, outputs=answers))
    model.add_flavor(
        "transformers",
        transformers_version=installed("transformers"),
        task="text-classification",
        instance_type="TextClassificationPipeline",
        pipeline_model_type="AutoModelForSequenceClassification",
        model_binary=".",
        components=["tokenizer"],
        tokenizer_type="AutoTokenizer",
    )
    # Does what mlflow.pyfunc.add_to_model does, without its import, which takes seconds.
    model.add_flavor(
        "python_function",
        loader_module="mlflow.transformers",
        python_version=platform.python_version(),
        env={"virtualenv": _ENVIRONMENT},
        config={"truncation": True, "max_length": max_length_tokens},
    )
    model.save(str(folder / "MLmodel"))
