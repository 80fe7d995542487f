"""Distillation: a student is trained on what a teacher says of each review, and not on its label alone.

A teacher that finds a review 80% positive says more than its label does. Both are softened by a temperature, and the
student is drawn towards the teacher by the Kullback-Leibler divergence: Hinton, Vinyals and Dean, 2015, "Distilling
the Knowledge in a Neural Network".
"""

import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from tasks.core.errors import SettingsError
from tasks.core.training.job import TrainingJob
from tasks.core.training.params import DistillationParams

#: Column of the training rows: a list of as many numbers as there are classes.
TEACHER_LOGITS = "teacher_logits"


def taught_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    teacher_logits: torch.Tensor,
    params: DistillationParams,
) -> torch.Tensor:
    """(1 - w) times the cross-entropy with the labels, and w T^2 times KL(teacher || student) at the temperature T.

    T^2 makes up for what softening takes from the gradient, so that w means the same at each T (Hinton et al., 2015,
    section 2).

    Args:
        logits: of the student, shape (rows, classes), float32.
        labels: class ids, shape (rows,).
        teacher_logits: shape (rows, classes), the classes in the same order.
        params: w and T.
    Returns:
        In nats, the sum over the rows.
    """
    heat = params.temperature
    plain = cross_entropy(logits, labels, reduction="sum")
    student = log_softmax(logits / heat, dim=-1)
    teacher = log_softmax(teacher_logits.float() / heat, dim=-1)
    apart = kl_div(student, teacher, reduction="sum", log_target=True)
    return (1 - params.weight) * plain + params.weight * heat**2 * apart


def require_lessons(train: Dataset, job: TrainingJob) -> None:
    """Raises SettingsError if a training with a teacher has no teacher logits, or those of other labels."""
    if job.distillation is None:
        return
    if TEACHER_LOGITS not in train.column_names:
        raise SettingsError(
            "Column teacher_logits is missing in the training rows", "distillation.teacher"
        )
    if len(train) and len(train[0][TEACHER_LOGITS]) != len(job.label_names):
        raise SettingsError(
            f"The teacher knows {len(train[0][TEACHER_LOGITS])} labels, and the reviews have {len(job.label_names)}",
            "distillation.teacher",
            "choose a teacher of the same labels",
        )
