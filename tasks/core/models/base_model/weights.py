"""Load a base model's weights, and check that the whole encoder or decoder comes from the file.

transformers fills missing tensors with random numbers and ignores unknown ones, so that a new head is possible. Here
only the head, and a pooler that the file lacks, may be new, and only heads of other tasks may be ignored. Everything
else is an error that names the tensors.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from tasks.core.errors import ModelError, first_line

_POOLER = "pooler"
_NAMED = 3  # most tensors listed in an error
_WHOLE = "download or save the complete model again, with the config.json that belongs to it"
#: Errors that transformers and its converters raise for files and configurations that do not fit.
UNLOADABLE = (OSError, ValueError, KeyError, RuntimeError, ImportError, AssertionError, SafetensorError)  # fmt: skip


@dataclass(frozen=True)
class Loaded:
    """A model whose body comes from its file.

    Attributes:
        model: in fp32 on the CPU.
        new_head: tensors of the head that the file lacks, or has in another size.
        new_pooler: tensors of the pooler, if the file lacks it.
        ignored: tensors of the file that the model does not use: heads of other tasks.
    """

    model: Any
    new_head: list[str]
    new_pooler: list[str]
    ignored: list[str]

    def notes(self) -> list[str]:
        """Return remarks for people, one sentence each."""
        notes: list[str] = []
        if self.new_pooler:
            notes.append(f"The weights have no pooler, so a new one is trained: {_list(self.new_pooler)}")  # fmt: skip
        if self.ignored:
            notes.append(f"Heads of other tasks in the weights are ignored: {_list(self.ignored)}")
        return notes


def load_body(kind: Any, folder: Path, config: Any = None) -> Loaded:
    """Load a model by one of transformers' Auto classes. Its head may be new, its body may not.

    Args:
        kind: such as AutoModelForSequenceClassification, or AutoModel for the body alone.
        folder: config and safetensors.
        config: replaces the folder's.
    Raises:
        ModelError: a tensor of the body is missing or has another size, or the file holds more than the model has.
    """
    model, loading_info = _from_pretrained(kind, folder, config)
    body = _Body(model)
    sizes = {name: (theirs, ours) for name, theirs, ours in loading_info["mismatched_keys"]}
    absent = sorted(loading_info["missing_keys"])
    extra = sorted(loading_info["unexpected_keys"])
    new_pooler = [name for name in absent if body.is_pooler(name)]
    if len(new_pooler) < len(body.poolers):  # a partly missing pooler means damage
        new_pooler = []
    lacking = [n for n in absent if body.has(n) and n not in new_pooler]
    constants = _constants(model) if lacking else set[str]()
    lacking = [n for n in lacking if n not in constants]
    resized = {n: both for n, both in sizes.items() if body.has(n)}
    beyond = [n for n in extra if body.looks_like_a_part(n)] if not lacking else []
    beyond = _learned(folder, beyond)
    if lacking or resized or beyond:
        raise _unlike(model, folder, lacking, resized, beyond, extra)
    head = [name for name in (*absent, *sizes) if not body.has(name)]
    return Loaded(
        model, sorted(head), new_pooler, [n for n in extra if not body.has_the_part_of(n)]
    )


def load_whole(kind: Any, folder: Path) -> Any:
    """Load a model whose tensors, including the head's, are exactly those of its file.

    Raises:
        ModelError: tensors are missing, left over or of another size.
    """
    model, loading_info = _from_pretrained(kind, folder)
    absent, extra = sorted(loading_info["missing_keys"]), sorted(loading_info["unexpected_keys"])
    sizes = {name: (theirs, ours) for name, theirs, ours in loading_info["mismatched_keys"]}
    if absent or sizes or extra:
        raise _unlike(model, folder, absent, sizes, extra, extra)
    return model


def require_loaded(model: torch.nn.Module, missing: Iterable[str], unexpected: Iterable[str]) -> None:  # fmt: skip
    """Check the result of `load_state_dict(strict=False)`: the checkpoint must have held all it should.

    Args:
        model: its `_keys_to_ignore_on_save` lists the names that checkpoints leave out.
        missing: names that the checkpoint lacks.
        unexpected: names that the model lacks.
    Raises:
        ModelError: a trained tensor is missing, or the checkpoint is another model's.
    """
    state = model.state_dict(keep_vars=True)
    lacking = set(missing) - set(getattr(model, "_keys_to_ignore_on_save", None) or ())
    stored_pointers = {tensor.data_ptr() for name, tensor in state.items() if name not in lacking}
    # tied tensors are stored once
    lost = sorted(name for name in lacking if state[name].data_ptr() not in stored_pointers)
    if wrong := lost or sorted(unexpected):
        what = "lacks" if lost else "has tensors that the model lacks:"
        raise ModelError(
            f"A checkpoint of the training {what} {_list(wrong)}",
            type(model).__name__,
            "set another training.seed, which starts a new training",
        )


def _from_pretrained(kind: Any, folder: Path, config: Any = None) -> tuple[Any, dict[str, Any]]:
    """Return the model and transformers' loading info, which the callers check."""
    try:
        return kind.from_pretrained(
            folder,
            config=config,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # so that the loading info lists them
            dtype=torch.float32,
            output_loading_info=True,
        )
    except UNLOADABLE as error:
        raise ModelError(f"The weights cannot be loaded: {first_line(error)}", str(folder)) from error  # fmt: skip


class _Body:
    """The encoder or decoder of a model, identified by the names of its tensors."""

    def __init__(self, model: Any) -> None:
        body = model.base_model
        self._prefix = "" if body is model else f"{model.base_model_prefix}."
        self._names = {name for name in model.state_dict() if name.startswith(self._prefix)}
        self._own = {name.removeprefix(self._prefix) for name in self._names}
        self._parts = {name for name, _ in body.named_children()}
        self._buffers = {name for name, _ in model.named_buffers()}
        self.poolers = {name for name in self._names if self.is_pooler(name)}

    def has(self, name: str) -> bool:
        """True if a tensor of the model belongs to the body."""
        return name in self._names

    def has_the_part_of(self, name: str) -> bool:
        """True if an unknown tensor is in a part of the body, such as `encoder`."""
        return name.removeprefix(self._prefix).split(".")[0] in self._parts

    def is_pooler(self, name: str) -> bool:
        """True if a tensor of the model belongs to the body's pooler."""
        return name.startswith(self._prefix) and _POOLER in name.split(".")

    def looks_like_a_part(self, name: str) -> bool:
        """True if an unknown tensor cannot be another task's head or decoder."""
        own = name.removeprefix(self._prefix)
        if _POOLER in own.split(".") or self._prefix + own in self._buffers:
            return False
        return self.has_the_part_of(name) or self._is_a_copy(own)

    def _is_a_copy(self, name: str) -> bool:
        """True if it has the name of a layer's tensor with a prefix, such as `module.`."""
        return any(
            rest in self._own and rest.count(".") > 1
            for rest in _endings(name)
        )  # fmt: skip


def _endings(name: str) -> Iterable[str]:
    while "." in name:
        name = name.partition(".")[2]
        yield name


def _constants(model: Any) -> set[str]:
    """Return the tensors that are never trained and are computed if a file lacks them: sinusoids, masks.

    They are read from a newly built model, because loading marks missing tensors as trained.
    """
    try:
        with torch.device("meta"):
            fresh = type(model)(model.config)
    except UNLOADABLE:
        return set()
    trained = {n for n, p in fresh.named_parameters(remove_duplicate=False) if p.requires_grad}
    return set(fresh.state_dict()) - trained


def _learned(folder: Path, names: Collection[str]) -> list[str]:
    """Return the tensors that training can have changed. Files also hold masks and constants of older versions."""
    candidates, learned = set(names), list[str]()
    for path in sorted(folder.glob("*.safetensors")) if candidates else ():
        with safe_open(path, "numpy") as weights:
            for name in candidates & set(weights.keys()):
                tensor = weights.get_slice(name)
                if tensor.get_dtype().startswith(("F", "BF")) and tensor.get_shape() not in ([], [1]):  # fmt: skip
                    learned.append(name)
    return sorted(learned)


def _unlike(
    model: Any,
    folder: Path,
    lacking: list[str],
    sizes: Mapping[str, tuple[Any, Any]],
    beyond: list[str],
    extra: list[str],
) -> ModelError:
    name = type(model).__name__
    fix = _WHOLE
    if lacking:
        what = f"The weights lack {len(lacking)} of the tensors of a {name}: {_list(lacking)}"
        if extra:
            what += f", and hold others, such as {extra[0]}"
        if word := _wrapper(model, lacking, extra):
            fix = (
                f"remove the prefix {word!r} from the names: save the model that is inside the wrapper "
                "with save_pretrained"
            )
    elif sizes:
        mismatches = [
            f"{n} has {_size(file)} instead of {_size(own)}"
            for n, (file, own) in sorted(sizes.items())
        ]
        what = (
            f"The weights have other sizes than a {name} with this config.json: {_list(mismatches)}"
        )
    else:
        what = f"The weights hold more than a {name} with this config.json takes: {_list(beyond)}"
    return ModelError(what, str(folder), fix)


def _wrapper(model: Any, lacking: list[str], extra: list[str]) -> str:
    """Return the prefix of a wrapper on the missing tensors' names, such as `_orig_mod.`, or '' if there is none."""
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    own = {name.removeprefix(prefix) for name in lacking}
    words = Counter(
        name.removesuffix(rest).removesuffix(prefix)
        for name in extra
        for rest in _endings(name)
        if rest in own
    )
    word, count = words.most_common(1)[0] if words else ("", 0)
    return word if 2 * count > len(own) else ""  # transformers does not list all tensors there are


def _size(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "one number"


def _list(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:_NAMED])
    more = len(names) - _NAMED
    return f"{shown} and {more:,} more" if more > 0 else shown
