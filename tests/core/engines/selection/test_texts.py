"""Which texts engines are compared on: each once, what was trained on counts as that, and some have labels."""

import numpy as np
import pytest

from tasks.core.engines.selection.texts import SCORED, TRAINING, VALIDATION, JudgedTexts, TokenRows


def rows(first: int, count: int) -> TokenRows:
    return TokenRows([[n, n + 1] for n in range(first, first + count)], np.arange(count) % 2)


def distinct(texts: JudgedTexts) -> set[tuple[int, ...]]:
    return {tuple(row) for row in texts.rows.input_ids}


def test_a_text_that_was_scored_and_trained_on_counts_once_and_as_trained() -> None:
    """The file that was trained on was scored, too."""
    train, validation = rows(0, 1500), rows(1500, 150)
    scored = [*train.input_ids, *validation.input_ids, *rows(1650, 20).input_ids]
    scored += scored
    texts = JudgedTexts.gathered(scored, validation, train, 5000, labelled_first=False)
    assert texts.counts == {SCORED: 20, VALIDATION: 150, TRAINING: 1500}
    assert len(texts) == len(distinct(texts)) == 1670
    untrained = texts.rows.at(texts.untrained).input_ids
    assert not {tuple(row) for row in untrained} & {tuple(row) for row in train.input_ids}
    assert (texts.rows.labels >= 0).sum() == len(texts.validation) == 150


def test_reviews_that_repeat_within_validation_or_training_count_once() -> None:
    twice = TokenRows([[1], [1], [2]], np.array([0, 0, 1]))
    texts = JudgedTexts.gathered([], twice, TokenRows([[2], [3], [3]], np.zeros(3, int)), 9, False)
    assert texts.counts == {SCORED: 0, VALIDATION: 2, TRAINING: 1}
    assert distinct(texts) == {(1,), (2,), (3,)}


def test_labels_stay_with_their_rows() -> None:
    validation = rows(100, 50)
    texts = JudgedTexts.gathered(rows(0, 10).input_ids, validation, rows(200, 5), 40, False)
    by_row = dict(zip(map(tuple, validation.input_ids), validation.labels.tolist(), strict=True))
    found = texts.rows.at(texts.validation)
    assert len(found) == 30
    assert [by_row[tuple(row)] for row in found.input_ids] == found.labels.tolist()


@pytest.mark.parametrize(
    ("arrived", "labelled", "counts"),
    [(6000, 1500, (4000, 1000, 0)), (6000, 300, (4700, 300, 0)), (2000, 1500, (2000, 1500, 100))],
    ids=["a fifth", "fewer there are not", "room for all"],
)
def test_however_many_arrive_there_is_room_for_labels(
    arrived: int, labelled: int, counts: tuple[int, int, int]
) -> None:
    scored, validation = rows(0, arrived).input_ids, rows(10_000, labelled)
    texts = JudgedTexts.gathered(scored, validation, rows(20_000, 100), 5000, False)
    assert tuple(texts.counts[name] for name in (SCORED, VALIDATION, TRAINING)) == counts


def test_what_int8_was_fitted_to_comes_last() -> None:
    """Also where some of it are validation reviews and drop out, which must not draw the others anew."""
    train = rows(0, 400)
    validation = TokenRows(train.input_ids[:40], train.labels[:40])
    texts = JudgedTexts.gathered([], validation, train, 90, False)
    of_training = [tuple(row) for row in texts.rows.input_ids[40:]]
    fitted_to = {tuple(row) for row in train.drawn(300).input_ids}
    assert len(of_training) == 50 and not fitted_to.intersection(of_training)


def test_labelled_ones_come_first_where_they_are_what_counts() -> None:
    texts = JudgedTexts.gathered(rows(0, 300).input_ids, rows(500, 100), rows(900, 9), 120, True)
    assert texts.counts == {VALIDATION: 100, SCORED: 20, TRAINING: 0}
    assert list(texts.counts) == [VALIDATION, SCORED, TRAINING]
