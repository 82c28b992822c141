"""The length of a series as a feature, and in the default encoder."""

import math

import pytest
import torch

from sslearn.encoders import LogLength, default_encoder


def _ending(lengths, n_channels=2, n_steps=64):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(len(lengths), n_channels, n_steps, generator=generator)
    return x.masked_fill(torch.arange(n_steps) >= torch.tensor(lengths)[:, None, None], torch.nan)


def test_it_is_the_standardised_logarithm():
    lengths = [4, 8, 16, 32, 64] * 4
    x = _ending(lengths)
    for total, width in ((1.0, 1), (9.0, 4)):
        found = LogLength.from_samples(x, width, total_variance=total)(x)
        assert found.shape == (20, width)
        assert abs(float(found.mean())) < 1e-6
        assert float(found.var(0, correction=0).sum()) == pytest.approx(total, rel=1e-5)
        steps = found[:5, 0].diff()
        torch.testing.assert_close(steps, steps[:1].expand(4))  # from octave to octave


def test_lengths_far_from_those_of_training_are_clipped():
    module = LogLength.from_samples(_ending([40, 41] * 5))
    # Differences of a few percent are hardly any.
    assert module(_ending([40, 41] * 5)).abs().max() < 0.5
    assert module(_ending([1])).item() == -3
    assert module(torch.randn(1, 2, 100_000)).item() == 3
    assert module(torch.full((1, 2, 5), torch.nan)).isfinite().all()


def test_the_default_encoder_has_it_where_lengths_differ():
    def names(rows):
        encoder = default_encoder(tuple(rows.shape[1:]), rows=rows)
        assert encoder.body[0].in_features == encoder.stem_width
        return [name for name, _ in encoder.stem.named_modules() if name.endswith("length")]

    complete = _ending([64] * 20)
    gappy = complete.clone()
    gappy[:, :, 5:9] = torch.nan
    assert names(complete) == names(gappy) == []
    for n_channels in (1, 3, 25, 100):
        differing = _ending([20, 40, 64, 33] * 5, n_channels)
        assert names(differing) == ["bank.length"]
        # Rows of other widths begin at places in memory by which a product may round.
        assert default_encoder((n_channels, 64), rows=differing).stem_width % 4 == 0


def test_lengths_differ_in_the_output():
    x = _ending([20, 64] * 50, 1)
    encoder = default_encoder((1, 64), rows=x)
    encoder.calibrate(encoder.stem(x), trained=False)
    features = encoder.eval()(x)
    distance = features[::2].mean(0) - features[1::2].mean(0)
    assert distance.norm() > 2 * math.sqrt(0.05) * 0.9 / math.sqrt(1.05)


def test_mistakes():
    for make, message in (
        (lambda: LogLength(0), "'in_channels' parameter of LogLength must be an int"),
        (lambda: LogLength(1, 0.5), "'n_features' parameter of LogLength must be an int"),
        (lambda: LogLength.from_samples(torch.zeros(3, 4)), "Got .3, 4. instead"),
        (lambda: LogLength(2)(torch.zeros(3, 1, 4)), r"\(n, 2, time\). Got \(3, 1, 4\) instead"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
