"""A trained model that somebody hostile has made: its files, its sizes, and what its configuration leads to."""

import json
import shutil
from pathlib import Path

import pytest

from tasks.core.data.params import TokenizationParams
from tasks.core.errors import ModelError
from tasks.core.models import classifier, folders
from tasks.core.models.files import check_model_files
from tasks.core.records import StoredFile

GOOD = {
    "config.json": 600,
    "generation_config.json": 100,
    "model.safetensors": 4_000_000,
    "nightshift.json": 300,
    "special_tokens_map.json": 100,
    "tokenizer.json": 700_000,
    "tokenizer_config.json": 300,
    "vocab.txt": 230_000,
}
SHARDS = {"model-00001-of-00002.safetensors": 9, "model-00002-of-00002.safetensors": 9}


def check(**changed: int) -> None:
    sizes = GOOD | {name.replace("__", "."): size for name, size in changed.items()}
    check_sizes(sizes)


def check_sizes(sizes: dict[str, int]) -> None:
    files = {name: StoredFile(bytes=size, sha256="0" * 64) for name, size in sizes.items()}
    check_model_files(files, 1_000_000, "s3://b/prepared/model/x")


def test_a_model_passes() -> None:
    check()
    check_sizes({k: v for k, v in GOOD.items() if k != "model.safetensors"} | SHARDS)
    check_sizes(GOOD | {"merges.txt": 1, "vocab.json": 1, "spiece.model": 1, "tokenizer.model": 1})


@pytest.mark.parametrize(
    "name",
    [
        "modeling_evil.py",
        "pytorch_model.bin",
        "training_args.bin",
        "model.pkl",
        "optimizer.pt",
        "adapter_config.json",
        "adapter_model.safetensors",
        "engines/x/model.json",
        ".hidden.json",
        "run.sh",
        "model.safetensors.py",
        "lib.so",
    ],
)
def test_other_files_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match=r"no file such as"):
        check_sizes(GOOD | {name: 10})


def test_what_lay_beside_the_base_model_may_go_along() -> None:
    large = StoredFile(bytes=1 << 30, sha256="1" * 64)
    files = {name: StoredFile(bytes=size, sha256="0" * 64) for name, size in GOOD.items()}
    files["our corpus.txt"] = large
    with pytest.raises(ModelError, match="which is too large"):
        check_model_files(files, 1_000_000, "here")
    check_model_files(files, 1_000_000, "here", base_files={"our corpus.txt": large})
    other = large.model_copy(update={"sha256": "2" * 64})
    with pytest.raises(ModelError, match="which is too large"):
        check_model_files(files, 1_000_000, "here", base_files={"our corpus.txt": other})


def test_sizes_follow_from_the_base_model() -> None:
    with pytest.raises(ModelError, match=r"weights have .* 1,000,000 parameters allows at most"):
        check(model__safetensors=100_000_000)
    with pytest.raises(ModelError, match="which is too large"):
        check(tokenizer__json=65 << 20)
    with pytest.raises(ModelError, match="too many for a model"):
        check_sizes(GOOD | {f"x{number}.json": 1 for number in range(100)})
    for name in ("model.safetensors", "config.json"):
        with pytest.raises(ModelError, match="are missing"):
            check_sizes({k: v for k, v in GOOD.items() if k != name})


def saved(bert: Path, folder: Path) -> Path:
    params = TokenizationParams(max_length_tokens=32)
    classifier.save(classifier.load_for_training(bert, ["a", "b"], params, 0.0), folder)
    return folder


def change(folder: Path, name: str, **given: object) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | given))


def test_what_training_saves_passes(bert: Path, tmp_path: Path) -> None:
    folder = saved(bert, tmp_path)
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    files = {name: StoredFile(bytes=size, sha256="0" * 64) for name, size in sizes.items()}
    check_model_files(files, folders.parameters(bert), "here")


@pytest.mark.parametrize("known", [True, False], ids=["known type", "unknown type"])
def test_code_that_a_configuration_names_is_never_run(
    known: bool, bert: Path, tmp_path: Path
) -> None:
    """`auto_map` leads to code only with trust_remote_code, which is off in every call."""
    folder, mark = saved(bert, tmp_path / "model"), tmp_path / "ran"
    code = f"open({str(mark)!r}, 'w').close()\nfrom transformers import BertConfig as EvilConfig\n"
    code += "from transformers import BertForSequenceClassification as EvilModel\n"
    code += "from transformers import BertTokenizerFast as EvilTokenizer\n"
    (folder / "evil.py").write_text(code)
    classes = {
        "AutoConfig": "evil.EvilConfig",
        "AutoModelForSequenceClassification": "evil.EvilModel",
        "AutoTokenizer": ["evil.EvilTokenizer", "evil.EvilTokenizer"],
    }
    change(folder, "config.json", auto_map=classes, **({} if known else {"model_type": "evil"}))
    change(folder, "tokenizer_config.json", auto_map=classes)
    if known:
        assert classifier.load(folder).label_names == ["a", "b"]
    else:
        with pytest.raises(ModelError):
            classifier.load(folder)
        with pytest.raises(ModelError):
            folders.read_config(folder)
    assert not mark.exists()


@pytest.mark.parametrize(
    "given",
    [
        {"attn_implementation": "evil/kernel"},
        {"_attn_implementation": "evil/kernel@main:f"},
        {"experts_implementation": "evil/kernel"},
        {"_attn_implementation_internal": "evil/kernel"},
        {"_experts_implementation_internal": "evil/kernel"},
        {"attn_implementation": {"": "evil/kernel"}},
        {"text_config": {"attn_implementation": "paged|evil/kernel"}},
    ],
    ids=str,
)
def test_a_kernel_of_a_hub_is_refused(given: dict[str, object], bert: Path, tmp_path: Path) -> None:
    folder = saved(bert, tmp_path)
    change(folder, "config.json", **given)
    with pytest.raises(ModelError, match=r"names a kernel to fetch.*evil/kernel"):
        classifier.load(folder)
    base = tmp_path / "base"
    shutil.copytree(bert, base)
    change(base, "config.json", **given)
    with pytest.raises(ModelError, match="names a kernel"):
        folders.check_base_folder(base)


def test_a_second_model_is_refused(bert: Path, tmp_path: Path) -> None:
    folder = saved(bert, tmp_path)
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "evil/model"}')
    with pytest.raises(ModelError, match="adapter, which names another model"):
        classifier.load(folder)
