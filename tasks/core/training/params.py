"""The training form. Each setting is an independent switch, and its default is fast and safe."""

from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field

from tasks.core.forms import Form
from tasks.core.models.params import Device, Precision
from tasks.core.parsing.patterns import TEACHER

BestBy: TypeAlias = Literal["accuracy", "loss", "last"]
LRSchedulerType: TypeAlias = Literal["linear", "cosine", "constant"]
Packing: TypeAlias = Literal["auto", "on", "off"]


class TrainingParams(Form):
    """The settings of fine-tuning: base model, schedule, batches, precision and methods."""

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
        description="What to start from: 'minilm' (the pretrained BERT that comes with Nightshift), a hub id such as "
        "google-bert/bert-base-uncased or openai-community/gpt2, or a local folder.",
    )
    base_model_revision: str | None = Field(
        default=None,
        description="Branch, tag or commit of a hub model. Empty takes the newest and records which it was.",
    )
    epochs: int = Field(
        default=3, ge=1, le=50, description="Passes over the training reviews at most."
    )
    batch_by: Literal["reviews", "tokens"] = Field(
        default="reviews",
        description="What a batch is measured in: batch_size reviews, or as many of similar length as batch_tokens "
        "allow, which keeps a GPU evenly busy. Either way each review counts the same.",
    )
    batch_size: int = Field(
        default=16,
        ge=1,
        le=1024,
        description="Reviews a batch and process; not used by batches of tokens.",
    )
    batch_tokens: int = Field(
        default=4096,
        ge=8,
        le=2**20,
        description="Tokens a batch and process, padding included; only used where batch_by is tokens.",
    )
    gradient_accumulation_steps: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Batches summed up before a step, where memory is short.",
    )
    learning_rate: float = Field(
        default=1e-4,
        gt=0,
        le=1e-2,
        description="Peak; it warms up and then follows the schedule. 2e-5 to 5e-5 suits larger models.",
    )
    lr_scheduler_type: LRSchedulerType = Field(
        default="linear",
        description="How the rate goes on from its peak: to zero in a line, to zero along a cosine, or constant.",
    )
    warmup_ratio: float = Field(
        default=0.1, ge=0, le=0.5, description="Share of the steps in which the rate rises."
    )
    layerwise_lr_decay: float = Field(
        default=1.0,
        ge=0.1,
        le=1,
        description="Rate of a layer as a share of that of the layer above it; 1 gives all the same. 0.95 keeps more "
        "of what the lower layers of a BERT have learned before.",
    )
    weight_decay: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="AdamW's decoupled weight decay; biases and norms have none.",
    )
    attention_dropout: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Above 0 attention leaves its fused kernel and training is far slower.",
    )
    hidden_dropout: float | None = Field(
        default=None,
        ge=0,
        le=0.5,
        description="All other dropout. Empty: what the model was made with, mostly 0.1. 0 saves a tenth of the time.",
    )
    num_layers: int = Field(
        default=0,
        ge=0,
        le=200,
        description="Train a smaller model of only so many of the base model's layers, evenly spaced, the first and "
        "the last among them; half of the layers score nearly twice as fast. 0 keeps all.",
    )
    frozen_layers: int = Field(
        default=0,
        ge=0,
        le=200,
        description="Lowest layers that are not trained, the embeddings with them. Half of the layers frozen saves a "
        "third of the time.",
    )
    lora_rank: int = Field(
        default=0,
        ge=0,
        le=512,
        description="LoRA: train the head and thin matrices of this rank beside those of the layers, which then need "
        "little memory (8 to 32 are usual, at a rate of 1e-4 to 5e-4). 0 trains all weights. Needs the extra 'lora'.",
    )
    early_stopping_patience: int = Field(
        default=2,
        ge=0,
        le=50,
        description="Epochs in which neither validation accuracy nor validation loss became better, before training "
        "stops; 0 never stops.",
    )
    best_epoch_by: BestBy = Field(
        default="accuracy",
        description="Which epoch's weights are kept. accuracy: the latest that is at most one standard error less "
        "accurate on the validation reviews than the best; loss: that of the lowest validation loss; last: the last, "
        "and training stops at no other, which is wiser where validation reviews number less than a hundred.",
    )
    device: Device = Field(
        default="auto", description="Where to train; auto takes a GPU where there is one."
    )
    processes: int = Field(
        default=0,
        ge=0,
        le=64,
        description="That train together on a machine, one a GPU; each takes a batch of every step. 0: as many as "
        "there are GPUs, and on a CPU one.",
    )
    precision: Precision = Field(
        default="auto",
        description="auto uses bf16 where the processor or GPU multiplies in it, else fp32.",
    )
    bf16_tolerance: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="By what share loss and gradient of the first batches may differ in bf16 from fp32's; where they "
        "differ more, training is done in fp32 and says so. 0 does not look.",
    )
    packing: Packing = Field(
        default="auto",
        description="Batches without padding. auto: on a GPU, where the model gives the same loss and gradient so.",
    )
    background_checkpoints: bool = Field(
        default=True,
        description="Write checkpoints beside the training, from a copy in memory (12 bytes a weight that is trained).",
    )
    seed: int = Field(
        default=42,
        ge=0,
        le=2**31 - 1,
        description="Of the new head's weights and the order of batches.",
    )


class DistillationParams(Form):
    """The settings of distillation: the teacher and its share of the loss."""

    teacher: Annotated[str, TEACHER] = Field(
        default="",
        description="A registered version with the same labels, such as reviews/champion or reviews/3. It is asked "
        "once about each training review. Empty: the model learns from the labels alone.",
    )
    weight: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of the loss that comes from the teacher. 1 does not look at the labels, 0 not at the "
        "teacher.",
    )
    temperature: float = Field(
        default=2.0,
        gt=0,
        le=100,
        description="By which the logits of both are divided before they are compared; above 1 more is learned from "
        "what the teacher thinks unlikely.",
    )

    @property
    def is_on(self) -> bool:
        """True if there is a teacher and its weight is above 0."""
        return bool(self.teacher) and self.weight > 0
