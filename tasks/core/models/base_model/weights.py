"""Loads a base model's weights, and checks that the encoder or decoder comes whole from the file.

transformers fills in whatever a file lacks with random numbers, and passes over what it does not know, because a new
head must be possible. Here only a head may be new, and a pooler that the file lacks; and only heads of other tasks may
be passed over. All else is an error that names the tensors.
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
_NAMED = 3  # tensors, in an error
_WHOLE = "download or save the model again, whole, with the config.json that it was made with"
#: What transformers and its converters raise of files and configurations that do not fit.
UNLOADABLE = (OSError, ValueError, KeyError, RuntimeError, ImportError, AssertionError, SafetensorError)  # fmt: skip


@dataclass(frozen=True)
class Loaded:
    """A model whose body comes from its file.

    Attributes:
        model: in fp32 on the CPU.
        new_head: tensors of the head that the file lacks, or has in another size.
        new_pooler: the same of the pooler.
        ignored: what the file holds besides: heads of other tasks.
    """

    model: Any
    new_head: list[str]
    new_pooler: list[str]
    ignored: list[str]

    def notes(self) -> list[str]:
        """What a person should know: a sentence each."""
        notes: list[str] = []
        if self.new_pooler:
            notes.append(f"The weights have no pooler, so a new one is trained: {_list(self.new_pooler)}")  # fmt: skip
        if self.ignored:
            notes.append(f"Heads of other tasks in the weights are ignored: {_list(self.ignored)}")
        return notes


def load_body(kind: Any, folder: Path, config: Any = None) -> Loaded:
    """A model of one of transformers' Auto classes; its head may be new, its body may not.

    Args:
        kind: such as AutoModelForSequenceClassification, or AutoModel for the body alone.
        folder: config and safetensors.
        config: instead of the folder's.
    Raises:
        ModelError: a tensor of the body is missing or has another size, or the file holds more than the model has.
    """
    model, found = _from_pretrained(kind, folder, config)
    body = _Body(model)
    sizes = {name: (theirs, ours) for name, theirs, ours in found["mismatched_keys"]}
    absent = sorted(found["missing_keys"])
    extra = sorted(found["unexpected_keys"])
    new_pooler = [name for name in absent if body.is_pooler(name)]
    if len(new_pooler) < len(body.poolers):  # a part of one is damage
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
    """A model whose every tensor comes from its file, the head's as well, and which has no more.

    Raises:
        ModelError: it is not so.
    """
    model, found = _from_pretrained(kind, folder)
    absent, extra = sorted(found["missing_keys"]), sorted(found["unexpected_keys"])
    sizes = {name: (theirs, ours) for name, theirs, ours in found["mismatched_keys"]}
    if absent or sizes or extra:
        raise _unlike(model, folder, absent, sizes, extra, extra)
    return model


def require_loaded(model: torch.nn.Module, missing: Iterable[str], unexpected: Iterable[str]) -> None:  # fmt: skip
    """Check what `load_state_dict(strict=False)` says of a checkpoint: all that it should hold must have been there.

    Args:
        model: with the names that it leaves out of checkpoints in `_keys_to_ignore_on_save`.
        missing: names that the checkpoint lacks.
        unexpected: names that the model lacks.
    Raises:
        ModelError: a tensor that is trained is missing, or the checkpoint is another model's.
    """
    state = model.state_dict(keep_vars=True)
    lacking = set(missing) - set(getattr(model, "_keys_to_ignore_on_save", None) or ())
    there = {tensor.data_ptr() for name, tensor in state.items() if name not in lacking}
    # a tensor that is tied to another is kept once
    lost = sorted(name for name in lacking if state[name].data_ptr() not in there)
    if wrong := lost or sorted(unexpected):
        what = "lacks" if lost else "holds what the model does not have:"
        raise ModelError(
            f"A checkpoint of the training {what} {_list(wrong)}",
            type(model).__name__,
            "set another training.seed, which starts the training anew",
        )


def _from_pretrained(kind: Any, folder: Path, config: Any = None) -> tuple[Any, dict[str, Any]]:
    """The model, and what became of each tensor: nothing is forgiven yet."""
    try:
        return kind.from_pretrained(
            folder,
            config=config,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # so that they are told, with their names
            dtype=torch.float32,
            output_loading_info=True,
        )
    except UNLOADABLE as error:
        raise ModelError(f"The weights cannot be loaded: {first_line(error)}", str(folder)) from error  # fmt: skip


class _Body:
    """The encoder or decoder of a model, by the names of its tensors."""

    def __init__(self, model: Any) -> None:
        body = model.base_model
        self._prefix = "" if body is model else f"{model.base_model_prefix}."
        self._names = {name for name in model.state_dict() if name.startswith(self._prefix)}
        self._own = {name.removeprefix(self._prefix) for name in self._names}
        self._parts = {name for name, _ in body.named_children()}
        self._buffers = {name for name, _ in model.named_buffers()}
        self.poolers = {name for name in self._names if self.is_pooler(name)}

    def has(self, name: str) -> bool:
        """Whether a tensor of the model belongs to it."""
        return name in self._names

    def has_the_part_of(self, name: str) -> bool:
        """Whether a tensor that the model does not know lies in a part of it, such as `encoder`."""
        return name.removeprefix(self._prefix).split(".")[0] in self._parts

    def is_pooler(self, name: str) -> bool:
        """Whether a tensor of the model belongs to the body's pooler."""
        return name.startswith(self._prefix) and _POOLER in name.split(".")

    def looks_like_a_part(self, name: str) -> bool:
        """Whether a tensor that the model does not know can be no other task's head or decoder."""
        own = name.removeprefix(self._prefix)
        if _POOLER in own.split(".") or self._prefix + own in self._buffers:
            return False
        return self.has_the_part_of(name) or self._is_a_copy(own)

    def _is_a_copy(self, name: str) -> bool:
        """Whether it has the name of a layer's tensor behind another word, such as `module.`."""
        return any(
            rest in self._own and rest.count(".") > 1
            for rest in _endings(name)
        )  # fmt: skip


def _endings(name: str) -> Iterable[str]:
    while "." in name:
        name = name.partition(".")[2]
        yield name


def _constants(model: Any) -> set[str]:
    """Tensors that are never trained, and are computed where a file lacks them: sinusoids, masks.

    A new model tells them: loading one has what was missing look as if it were trained.
    """
    try:
        with torch.device("meta"):
            fresh = type(model)(model.config)
    except UNLOADABLE:
        return set()
    trained = {n for n, p in fresh.named_parameters(remove_duplicate=False) if p.requires_grad}
    return set(fresh.state_dict()) - trained


def _learned(folder: Path, names: Collection[str]) -> list[str]:
    """Those of them that a training can have changed: masks and constants of older versions lie in files, too."""
    wanted, learned = set(names), list[str]()
    for path in sorted(folder.glob("*.safetensors")) if wanted else ():
        with safe_open(path, "numpy") as weights:
            for name in wanted & set(weights.keys()):
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
            what += f"; and hold others, such as {extra[0]}"
        if word := _wrapper(model, lacking, extra):
            fix = (
                f"take {word!r} off the beginning of the names: save the model that is inside the wrapper "
                "with save_pretrained"
            )
    elif sizes:
        told = [f"{n} has {_size(file)} for {_size(own)}" for n, (file, own) in sorted(sizes.items())]  # fmt: skip
        what = f"The weights have other sizes than a {name} with this config.json: {_list(told)}"
    else:
        what = f"The weights hold more than a {name} with this config.json takes: {_list(beyond)}"
    return ModelError(what, str(folder), fix)


def _wrapper(model: Any, lacking: list[str], extra: list[str]) -> str:
    """What stands before the names of the tensors that are lacking, such as `_orig_mod.`; '' where nothing does."""
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    own = {name.removeprefix(prefix) for name in lacking}
    words = Counter(
        name.removesuffix(rest).removesuffix(prefix)
        for name in extra
        for rest in _endings(name)
        if rest in own
    )
    word, count = words.most_common(1)[0] if words else ("", 0)
    return word if 2 * count > len(own) else ""  # transformers does not name all that is there


def _size(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "one number"


def _list(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:_NAMED])
    more = len(names) - _NAMED
    return f"{shown} and {more:,} more" if more > 0 else shown
