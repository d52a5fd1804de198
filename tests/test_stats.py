"""Intervals and F1 against figures known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from fitra import stats


def test_wilson_known_figures() -> None:
    # Newcombe (1998): 15 of 148 has the 95 % score interval 0.0624 .. 0.1605.
    got = stats.wilson(15, 148)
    assert (got.low, got.high) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert stats.wilson(0, 10).low == 0.0
    assert stats.wilson(10, 10).high == 1.0


@pytest.mark.parametrize(("s", "n"), [(1, 0), (3, 2), (-1, 5)])
def test_wilson_refuses_what_is_no_share(s: int, n: int) -> None:
    with pytest.raises(ValueError):
        stats.wilson(s, n)


def test_macro_f1_of_always_yes_on_acva_counts() -> None:
    # ACVA test: 5,224 yes and 3,487 no; always "yes" gives F1(yes) 0.750 and macro-F1 0.375.
    gold = [True] * 5224 + [False] * 3487
    assert stats.f1(gold, [True] * 8711) == pytest.approx(0.750, abs=5e-4)
    assert stats.macro_f1(gold, [True] * 8711) == pytest.approx(0.375, abs=5e-4)


def test_f1_counts_a_missing_answer_as_wrong_and_zero_over_zero_as_zero() -> None:
    assert stats.macro_f1([True, False], [None, None]) == 0.0
    assert stats.f1([False], [False], positive=True) == 0.0
    assert stats.macro_f1([True, False], [True, False]) == 1.0


def test_bootstrap_agrees_with_the_normal_interval_and_is_seeded() -> None:
    values = np.random.default_rng(1).random(400) < 0.3
    got = stats.bootstrap(values, seed=3)
    se = np.sqrt(got.value * (1 - got.value) / 400)
    assert got.value == pytest.approx(values.mean())
    assert got.high - got.low == pytest.approx(2 * 1.96 * se, rel=0.1)
    assert got == stats.bootstrap(values, seed=3)
    assert got != stats.bootstrap(values, seed=4)


def test_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for i in range(200):
        got = stats.bootstrap(rng.random(120) < 0.4, draws=400, seed=i)
        hits += got.low <= 0.4 <= got.high
    assert 178 <= hits <= 199  # 95 % of 200, four standard errors wide


def test_clusters_widen_the_interval_when_items_repeat() -> None:
    values = np.repeat(np.random.default_rng(2).random(60) < 0.5, 10)
    alone = stats.bootstrap(values)
    together = stats.bootstrap(values, clusters=[i // 10 for i in range(600)])
    assert together.clusters == 60 and together.value == alone.value
    assert (together.high - together.low) > 2.5 * (alone.high - alone.low)  # sqrt(10) in theory


def test_ratio_of_sums_is_weighted_by_its_denominator() -> None:
    assert stats.bootstrap([[10.0, 100.0], [90.0, 100.0], [0.0, 800.0]], stats.ratio).value == pytest.approx(0.1)


def test_paired_difference_sees_what_unpaired_intervals_hide() -> None:
    rng = np.random.default_rng(5)
    hard = rng.random(500)
    a, b = hard < 0.5, hard < 0.55  # b answers everything a does, and a little more
    got = stats.paired_difference(a, b)
    assert got.value == pytest.approx(b.mean() - a.mean())
    assert got.low > 0 and got.p < 0.01
    assert stats.bootstrap(a).high > stats.bootstrap(b).low  # the two intervals overlap
    same = stats.paired_difference(a, a)
    assert (same.value, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)


def test_paired_difference_of_macro_f1() -> None:
    gold = [True, False] * 50
    good, bad = stats.confusion_parts(gold, gold), stats.confusion_parts(gold, [True] * 100)
    assert stats.paired_difference(bad, good, stats.macro_f1_of).value == pytest.approx(1 - 1 / 3)


def test_no_items_and_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError):
        stats.bootstrap([])
    with pytest.raises(ValueError):
        stats.paired_difference([1, 0], [1, 0, 1])
    with pytest.raises(ValueError):
        stats.bootstrap([1, 0], clusters=["a"])
