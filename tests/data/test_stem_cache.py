"""Features of views that are computed once."""

import torch

from sslearn._data._stem_cache import StemCache


def _cache(n_samples=10, n_kept=4, block=3, scale=1.0, seed=0):
    generator, calls = torch.Generator().manual_seed(seed), []

    def draw(places):
        calls.append(places)
        # The number of the sample, and a number that no other view has.
        noise = torch.rand(len(places), generator=generator)
        return scale * torch.stack((places.float(), noise), dim=1)

    order = torch.Generator().manual_seed(seed)
    return StemCache(draw, n_samples, n_kept, block, order), calls


def test_every_sample_is_drawn_as_often_as_views_are_kept():
    cache, calls = _cache()
    assert cache.values.shape == (10, 4, 2)
    assert cache.values.dtype == torch.float16
    assert torch.cat(calls).bincount().tolist() == [4] * 10
    assert {len(places) for places in calls} == {3, 1}
    assert not torch.equal(torch.cat(calls[:4]), torch.cat(calls[4:8]))  # shuffled anew
    assert torch.equal(cache.values[:, :, 0], torch.arange(10.0)[:, None].expand(10, 4).half())


def test_views_of_a_sample_differ_and_are_its_own():
    cache, _ = _cache()
    places = torch.tensor([7, 2, 7, 0])
    seen = set()
    for _ in range(30):
        first, second = cache.views(
            places, 2, generator := torch.Generator().manual_seed(len(seen))
        )
        assert first.dtype == torch.float32
        for view in (first, second):
            assert torch.equal(view[:, 0], places.float())
        assert not bool((first[:, 1] == second[:, 1]).any())
        seen |= set(first[:, 1].tolist())
        assert torch.rand(1, generator=generator) is not None
    assert len(seen) > 4


def test_equal_seeds_give_equal_bits():
    assert torch.equal(_cache()[0].values, _cache()[0].values)
    assert not torch.equal(_cache()[0].values, _cache(seed=1)[0].values)


def test_large_features_do_not_become_infinite():
    cache, _ = _cache(scale=1e6)
    assert cache.values.dtype == torch.bfloat16
    assert bool(cache.values.isfinite().all())
    torch.testing.assert_close(
        cache.values[:, 0, 0].float(), 1e6 * torch.arange(10.0), rtol=1e-2, atol=0
    )
