"""Rules of "auto" that no other test goes through."""

import pytest

from sslearn._training._auto import resolve_cached_views, resolve_max_epochs


def _kept(cached_views="auto", **given):
    usual = {"max_epochs": 50, "n_views": 2, "n_samples": 1000, "input_shape": (1512,)}
    return resolve_cached_views(cached_views, **{**usual, **given})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 8),
        ({"max_epochs": 2}, 4),  # which looks at no more
        ({"max_epochs": 0}, 0),
        ({"n_samples": 100_000}, 3),  # 1 GiB
        ({"n_samples": 200_000}, 0),
        ({"n_views": 0}, 1),
        ({"n_views": 0, "n_samples": 1_000_000}, 0),
        ({"cached_views": 20, "n_samples": 1_000_000}, 20),
        ({"cached_views": 0}, 0),
    ],
)
def test_cached_views_go_by_sizes(given, expected):
    assert _kept(**given) == expected


@pytest.mark.parametrize(
    ("n_rows", "steps", "expected"),
    [(200, 6, 134), (60, 1, 200), (1000, 15, 54), (7352, 28, 29), (100_000, 390, 20), (3, 0, 200)],
)
def test_layers_behind_a_stem_make_no_more_steps_than_are_enough(n_rows, steps, expected):
    assert resolve_max_epochs("auto", n_rows, steps_per_epoch=steps) == expected
    assert resolve_max_epochs(500, n_rows, steps_per_epoch=steps) == 500


def test_layers_behind_the_stem_of_a_table_make_fewer():
    assert resolve_max_epochs("auto", 1000, steps_per_epoch=15, is_table=True) == 20
    assert resolve_max_epochs("auto", 200, steps_per_epoch=6, is_table=True) == 50
    assert resolve_max_epochs("auto", 200, is_table=True) == 200
