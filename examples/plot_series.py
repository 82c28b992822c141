"""
Series with few labels, compared with hand-made features
========================================================

Two sensors look at one oscillation. Its waveform is the class: a sine, a square wave, a saw that
rises slowly, or one that falls slowly. Frequency, phase, and the level and strength of each sensor
are random and irrelevant. 1000 series are used for training, without their labels; then a logistic
regression learns from 20 or 40 labelled ones, and is tested on 1000 others.

The raw steps do not help a linear classifier, since the phase is random. The hand-made features
require knowledge of the data: quantiles of the values, the spectrum, and moments of the steps,
which distinguish a slow rise from a slow fall. SimCLR's default views (crops stretched in time,
other strengths, a channel or a span of time left out, noise) keep the waveform and change the rest.
They were not designed for this data. The untrained encoder shows how much is learned.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sslearn import SimCLR

CLASSES = ["sine", "square", "rising saw", "falling saw"]


def draw(n_series, rng, n_steps=96):
    """Series (n, 2 channels, time), and their classes."""
    y = rng.integers(len(CLASSES), size=n_series)
    frequency, phase, lag = rng.uniform([2, 0, -0.1], [6, 1, 0.1], (n_series, 3)).T[..., None]
    first = frequency * np.arange(n_steps) / n_steps + phase
    cycle = np.stack([first, first + lag], axis=1) % 1  # (n, channels, time), from 0 to 1
    waves = [np.sin(2 * np.pi * cycle), np.sign(cycle - 0.5), 2 * cycle - 1, 1 - 2 * cycle]
    strength, level = rng.uniform(0.5, 2, (n_series, 2, 1)), rng.normal(size=(n_series, 2, 1))
    noise = rng.normal(scale=0.25, size=cycle.shape)
    X = np.choose(y[:, None, None], waves) * strength + level + noise
    return X.astype(np.float32), y


def by_hand(X):
    """Level, strength, quantiles, spectrum and moments, for each channel."""
    level, strength = X.mean(axis=2), X.std(axis=2)
    values = (X - level[..., None]) / strength[..., None]
    spectrum = np.abs(np.fft.rfft(values))[..., 1:25].reshape(len(X), -1)
    quantiles = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95], axis=2)  # (5, n, channels)
    steps = np.diff(values)
    moments = [(values**3).mean(2), (values**4).mean(2), (steps**2).mean(2), (steps**3).mean(2)]
    return np.hstack([level, strength, spectrum, *quantiles, *moments])


rng = np.random.default_rng(0)
X_train, y_train = draw(1000, rng)
X_test, y_test = draw(1000, rng)
methods = {
    "raw": FunctionTransformer(lambda X: X.reshape(len(X), -1)),
    "by hand": FunctionTransformer(by_hand),
    # No learning: the encoder as it was drawn.
    "untrained": SimCLR(max_epochs=0, random_state=0),
    "SimCLR": SimCLR(max_epochs=50, random_state=0),
}
n_labelled = [20, 40]

found = {}
print(f"{'features':<10}" + "".join(f"{n:>12} labels" for n in n_labelled))
for name, method in methods.items():
    train, test = method.fit(X_train).transform(X_train), method.transform(X_test)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    found[name] = []
    for n in n_labelled:
        draws = StratifiedShuffleSplit(10, train_size=n, random_state=0).split(train, y_train)
        scores = [
            100 * classifier.fit(train[few], y_train[few]).score(test, y_test) for few, _ in draws
        ]
        found[name].append((np.mean(scores), np.std(scores)))
    print(f"{name:<10}" + "".join(f"{m:11.1f}% +-{s:4.1f}" for m, s in found[name]), flush=True)

_, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for i in range(len(CLASSES)):
    for channel in (0, 1):
        one = X_test[np.flatnonzero(y_test == i)[0], channel]
        # Without level and strength, which would hide the waveform.
        left.plot((one - one.mean()) / np.ptp(one) - 1.3 * i, color=f"C{channel}")
left.set_yticks([0, -1.3, -2.6, -3.9], CLASSES)
left.set(title="one of each class, both channels", xlabel="step")
for i, n in enumerate(n_labelled):
    means, spreads = np.transpose([found[name][i] for name in methods])
    at = np.arange(len(methods)) + 0.4 * i - 0.2
    right.bar(at, means, 0.4, yerr=spreads, color=f"C{i + 2}", label=f"{n} labels")
right.axhline(100 / len(CLASSES), color="0.5", linestyle=":", label="chance")
right.set_xticks(range(len(methods)), methods)
right.set(title="test accuracy, %", ylim=(0, 125), yticks=range(0, 101, 20))
right.legend(loc="upper center", ncols=3)
plt.show()
