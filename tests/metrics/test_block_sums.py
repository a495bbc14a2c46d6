"""Sums of a block bootstrap by sums of blocks, against the bootstrap that draws every value."""

import numpy as np

from components.metrics.inference import block_bootstrap_interval, block_bootstrap_sums


def test_sums_have_the_distribution_of_the_plain_bootstrap():
    generator = np.random.default_rng(1)
    values = np.cumsum(generator.normal(size=503)) * 0.01 + generator.normal(size=503)
    drawn = block_bootstrap_sums(values[:, None], block_bars=10, draws=4_000, seed=2)[:, 0]
    low, high = block_bootstrap_interval(
        values, lambda one: one.sum(axis=1), block_bars=10, draws=4_000, seed=3
    )
    found = np.quantile(drawn, [0.05, 0.95])
    assert np.abs(found - [low, high]).max() < 0.1 * (high - low)


def test_series_are_drawn_together_and_every_draw_has_as_many_values():
    values = np.column_stack([np.ones(47), np.arange(47.0), 2 * np.arange(47.0)])
    drawn = block_bootstrap_sums(values, block_bars=10, draws=300, seed=1)
    assert (drawn[:, 0] == 47).all()
    assert np.allclose(2 * drawn[:, 1], drawn[:, 2])
    assert drawn[:, 1].std() > 0


def test_a_block_of_everything_gives_the_total():
    values = np.arange(20.0)[:, None]
    assert np.allclose(block_bootstrap_sums(values, block_bars=50, draws=10, seed=1), values.sum())


def test_too_few_values_give_no_draws():
    assert block_bootstrap_sums(np.ones((2, 3)), block_bars=1, draws=10, seed=1).shape == (0, 3)
