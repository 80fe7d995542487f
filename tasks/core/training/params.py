"""The training form. Each setting is an independent switch, and its default is fast and safe."""

from typing import ClassVar, Literal, TypeAlias

from pydantic import Field

from tasks.core.forms import Form
from tasks.core.models.params import Device, Precision

BestBy: TypeAlias = Literal["accuracy", "loss", "last"]
LRSchedulerType: TypeAlias = Literal["linear", "cosine", "constant"]
Packing: TypeAlias = Literal["auto", "on", "off"]


class TrainingParams(Form):
    """Fine-tuning: base model, mini-batches, learning rate, regularization, precision."""

    former_names: ClassVar = {
        "lr_scheduler_type": "schedule",
        "warmup_ratio": "warmup_share",
        "layerwise_lr_decay": "layer_decay",
        "num_layers": "kept_layers",
    }
    later_fields: ClassVar = frozenset({"num_layers"})

    base_model: str = Field(
        default="minilm",
        min_length=1,
        description="'minilm' (bundled pretrained BERT), a Hugging Face id such as google-bert/bert-base-uncased, or "
        "a local folder.",
    )
    base_model_revision: str | None = Field(
        default=None,
        description="Branch, tag or commit of a Hugging Face model. Empty: the newest commit, which is recorded.",
    )
    epochs: int = Field(
        default=3,
        ge=1,
        le=50,
        description="Maximum number of epochs. Early stopping may end training sooner.",
    )
    batch_by: Literal["reviews", "tokens"] = Field(
        default="reviews",
        description="reviews: mini-batches of batch_size reviews. tokens: mini-batches of similar-length reviews "
        "with up to batch_tokens tokens.",
    )
    batch_size: int = Field(
        default=16,
        ge=1,
        le=1024,
        description="Reviews per mini-batch and process. Used only if batch_by is reviews.",
    )
    batch_tokens: int = Field(
        default=4096,
        ge=8,
        le=2**20,
        description="Tokens per mini-batch and process, including padding. Used only if batch_by is tokens.",
    )
    gradient_accumulation_steps: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Mini-batches per optimizer step. Raise it, and lower batch_size, if memory is short.",
    )
    learning_rate: float = Field(
        default=1e-4,
        gt=0,
        le=1e-2,
        description="Peak learning rate, reached after warmup. Larger models need 2e-5 to 5e-5.",
    )
    lr_scheduler_type: LRSchedulerType = Field(
        default="linear",
        description="Learning rate after warmup. linear: linear decay to 0. cosine: cosine decay to 0. constant: no "
        "decay.",
    )
    warmup_ratio: float = Field(
        default=0.1,
        ge=0,
        le=0.5,
        description="Fraction of the steps used for learning rate warmup.",
    )
    layerwise_lr_decay: float = Field(
        default=1.0,
        ge=0.1,
        le=1,
        description="Learning rate of a layer relative to the layer above it. 1: the same for all. 0.95 preserves "
        "more of the pretraining.",
    )
    weight_decay: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Weight decay of AdamW. Not applied to biases and normalization layers.",
    )
    attention_dropout: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Dropout of the attention probabilities. Above 0, training is far slower (no fused attention "
        "kernel).",
    )
    hidden_dropout: float | None = Field(
        default=None,
        ge=0,
        le=0.5,
        description="Dropout everywhere else. Empty: the base model's own value, mostly 0.1. 0 saves about 10% of "
        "the time.",
    )
    num_layers: int = Field(
        default=0,
        ge=0,
        le=200,
        description="Keep only this many layers of the base model, evenly spaced. With half of them, scoring is nearly "
        "twice as fast. 0: keep all.",
    )
    frozen_layers: int = Field(
        default=0,
        ge=0,
        le=200,
        description="Freeze this many of the lowest layers and the embeddings; half of the layers saves a third of "
        "the time. 0: freeze none.",
    )
    lora_rank: int = Field(
        default=0,
        ge=0,
        le=512,
        description="Rank of LoRA adapters: usually 8 to 32, with a learning rate of 1e-4 to 5e-4. Needs "
        "nightshift[lora]. 0: train all weights.",
    )
    early_stopping_patience: int = Field(
        default=2,
        ge=0,
        le=50,
        description="Stop after this many epochs without a better validation accuracy or loss. 0: no early stopping.",
    )
    best_epoch_by: BestBy = Field(
        default="accuracy",
        description="Epoch to keep. accuracy: the latest within one standard error of the best validation accuracy. "
        "loss: the lowest validation loss. last: the last epoch, without early stopping (best with fewer than 100 "
        "validation reviews).",
    )
    device: Device = Field(default="auto", description="auto: a GPU if there is one, else the CPU.")
    processes: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Number of training processes on a machine. 0: one per GPU, or one on a CPU.",
    )
    precision: Precision = Field(
        default="auto",
        description="auto: bf16 if the hardware multiplies in bf16, else fp32.",
    )
    bf16_tolerance: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Largest relative change of loss or gradient that bf16 may cause in the first batches. Above it, "
        "training uses fp32. 0: do not check.",
    )
    packing: Packing = Field(
        default="auto",
        description="Train on batches without padding. auto: on a GPU, if loss and gradient stay the same. on: always; "
        "fails if they change. off: never.",
    )
    background_checkpoints: bool = Field(
        default=True,
        description="Write checkpoints while training continues, from a copy in memory (12 bytes per trained weight).",
    )
    seed: int = Field(
        default=42,
        ge=0,
        le=2**31 - 1,
        description="Random seed of the classification head, the batch order and dropout.",
    )
