"""Knowledge distillation: train a student on a teacher's soft labels besides the reviews' own labels.

A teacher that finds a review 80% positive gives more information than the label. A temperature softens the logits of
both models, and the loss adds the Kullback-Leibler divergence between them: Hinton, Vinyals and Dean, 2015,
"Distilling the Knowledge in a Neural Network".
"""

import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from tasks.core.errors import SettingsError
from tasks.core.training.job import TrainingJob
from tasks.core.training.params import DistillationParams

#: Column of the training rows: a list of one logit per class.
TEACHER_LOGITS = "teacher_logits"


def taught_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    teacher_logits: torch.Tensor,
    params: DistillationParams,
) -> torch.Tensor:
    """(1 - w) times the cross-entropy with the labels, plus w T^2 times KL(teacher || student) at the temperature T.

    T^2 compensates for the smaller gradient of softened logits, so that w means the same at each T (Hinton et al.,
    2015, section 2).

    Args:
        logits: the student's logits, shape (rows, classes), float32.
        labels: class ids, shape (rows,).
        teacher_logits: shape (rows, classes), the classes in the same order.
        params: w and T.
    Returns:
        The sum over the rows, in nats.
    """
    temperature = params.temperature
    plain = cross_entropy(logits, labels, reduction="sum")
    student = log_softmax(logits / temperature, dim=-1)
    teacher = log_softmax(teacher_logits.float() / temperature, dim=-1)
    divergence = kl_div(student, teacher, reduction="sum", log_target=True)
    return (1 - params.weight) * plain + params.weight * temperature**2 * divergence


def require_teacher_logits(train: Dataset, job: TrainingJob) -> None:
    """Raise SettingsError if a training with a teacher has no teacher logits, or logits of other labels."""
    if job.distillation is None:
        return
    if TEACHER_LOGITS not in train.column_names:
        raise SettingsError(
            "Column teacher_logits is missing in the training rows", "distillation.teacher"
        )
    if len(train) and len(train[0][TEACHER_LOGITS]) != len(job.label_names):
        raise SettingsError(
            f"The teacher has {len(train[0][TEACHER_LOGITS])} labels, but the reviews have {len(job.label_names)}",
            "distillation.teacher",
            "choose a teacher with the same labels",
        )
