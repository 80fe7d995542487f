"""The batch schedule of a training: the reviews of each step, determined by seed and epoch alike in every process.

A step consists of `gradient_accumulation_steps` batches in each process. Every epoch has the same number of batches,
because Trainer uses that number to count steps and to locate a checkpoint within an epoch.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from tasks.core.errors import SettingsError
from tasks.core.training.params import TrainingParams

PAD_TO = 8  # tokens; a width that suits matrix units


def multiple_for(width: int, longest: int | None) -> int | None:
    """Return the multiple to pad a batch to, or None if that would exceed what the model takes."""
    fits = longest is None or math.ceil(width / PAD_TO) * PAD_TO <= longest
    return PAD_TO if fits else None


Step = list[list[int]]


class TrainingBatches(Sampler[list[int]]):
    """The batches of one process, epoch by epoch, each of rows of similar length.

    transformers' own sampler draws from the global generator, whose state within an epoch differs from its beginning: a
    training resumed there would see some reviews twice and others never.

    Args:
        lengths: tokens of each training review.
        params: the settings.
        process: the index of this process, from 0.
        processes: the number of processes; each step is divided among them.
    Raises:
        SettingsError: there are fewer reviews than processes.
    """

    def __init__(
        self, lengths: Sequence[int], params: TrainingParams, process: int = 0, processes: int = 1
    ) -> None:
        super().__init__()
        if len(lengths) < processes:
            raise SettingsError(
                f"{len(lengths)} reviews cannot be shared by {processes} processes",
                "training.processes",
                "use fewer processes",
            )
        self._lengths = np.asarray(lengths, dtype=np.int64)
        self._params, self._process, self._processes = params, process, processes
        self._epoch = 0
        self._batches_an_epoch = 0
        if params.batch_by == "tokens":
            cut = [len(self._cut_by_tokens(self._order(e))) for e in range(params.epochs)]
            whole = params.gradient_accumulation_steps * processes
            fitting = math.ceil(max(cut) / whole) * whole  # every step is complete
            most = len(lengths) // processes * processes
            self._batches_an_epoch = min(fitting, most)
        steps = self.steps(0)
        self.steps_an_epoch = len(steps)
        self._length = sum(map(len, steps)) // processes
        whole = params.batch_size * params.gradient_accumulation_steps * processes
        by_reviews = min(len(lengths), whole)
        #: The mean number of reviews per step, by which a step's summed loss is divided. It is the same for every
        #: step, so each review has the same weight.
        self.reviews_a_step: float = (
            len(lengths) / len(steps) if params.batch_by == "tokens" else by_reviews
        )

    def __len__(self) -> int:
        """Return the number of batches per epoch of this process."""
        return self._length

    @property
    def epoch(self) -> int:
        """The epoch whose batches come next, counted from 0."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch. Trainer calls this when an epoch begins."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps(self._epoch):
            yield from step[self._process :: self._processes]

    def steps(self, epoch: int) -> list[Step]:
        """Return the steps of an epoch, with the batches of all processes. Each review is in exactly one batch."""
        order = self._order(epoch)
        if self._params.batch_by == "tokens":
            return self._steps_by_tokens(order, epoch)
        return self._steps_by_reviews(order)

    def _order(self, epoch: int) -> list[int]:
        """Return the rows shuffled, then sorted by length within groups of many batches, longest first."""
        generator = torch.Generator().manual_seed(self._params.seed + epoch)
        rows = self._params.batch_size * self._params.gradient_accumulation_steps * self._processes
        if self._params.batch_by == "tokens":
            rows = max(1, int(self._params.batch_tokens / self._lengths.mean()))
        lengths: list[int] = self._lengths.tolist()
        return get_length_grouped_indices(lengths, rows, generator=generator)

    def _steps_by_reviews(self, order: list[int]) -> list[Step]:
        batches = self._params.gradient_accumulation_steps * self._processes
        whole = self._params.batch_size * batches
        steps = [order[i : i + whole] for i in range(0, len(order), whole)]
        if len(steps) > 1 and len(steps[-1]) < self._processes:  # fewer rows than processes
            rest = steps.pop()
            steps[-1] = steps[-1] + rest
        return [self._shared(step, batches) for step in steps]

    def _shared(self, step: list[int], most: int) -> Step:
        """Split a step's rows into `most` batches, or fewer in the last step, as many for each process."""
        each = math.ceil(len(step) / self._params.batch_size / self._processes)
        batches = min(most, each * self._processes)
        while batches > len(step):
            batches -= self._processes
        return [part.tolist() for part in np.array_split(np.asarray(step), batches)]

    def _steps_by_tokens(self, order: list[int], epoch: int) -> list[Step]:
        batches = self._cut_by_tokens(order)
        while len(batches) < self._batches_an_epoch:  # match the other epochs
            i = max(range(len(batches)), key=lambda b: len(batches[b]))
            half = len(batches[i]) // 2
            batches[i : i + 1] = [batches[i][:half], batches[i][half:]]
        # if there are hardly more reviews than processes
        while len(batches) > self._batches_an_epoch:
            rest = batches.pop()
            batches[-1] = batches[-1] + rest
        together = self._params.gradient_accumulation_steps * self._processes
        steps = [batches[i : i + together] for i in range(0, len(batches), together)]
        # the last step may be smaller, and Trainer expects it at the end
        whole = len(batches) // together
        generator = np.random.default_rng([self._params.seed, epoch])
        shuffled: NDArray[np.int64] = 1 + generator.permutation(max(whole - 1, 0))
        ranks = [0, *shuffled.tolist(), *range(max(whole, 1), len(steps))]
        return [steps[i] for i in ranks]  # longest first: too little memory shows at once

    def _cut_by_tokens(self, order: list[int]) -> list[list[int]]:
        """Cut the rows into batches whose padded size is within the budget. A longer review is alone in its batch."""
        batches: list[list[int]] = []
        longest = 0
        for row in order:
            padded = math.ceil(int(self._lengths[row]) / PAD_TO) * PAD_TO
            longest = max(longest, padded)
            if not batches or longest * (len(batches[-1]) + 1) > self._params.batch_tokens:
                batches.append([])
                longest = padded
            batches[-1].append(row)
        return batches
