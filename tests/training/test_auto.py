"""Rules of "auto" that no other test goes through."""

import pytest

from sslearn._training._auto import resolve_cached_views


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
