"""
A table of numbers and categories, with few labels
==================================================

SimCLR takes a data frame of numbers and categories as it is, with ``categorical_features``, and
learns from all training rows, without labels; a logistic regression learns from the few rows that
have one. It is compared with the columns, also with a random forest, and with principal components,
for which a ``ColumnTransformer`` makes the categories one-hot.

The views are made by ``FeatureCorruption``, which replaces values of a row by those of other rows.
The encoder has to predict the original values from the other columns, so columns must depend on one
another. One table is generated in this way: visitors of a shop belong to twelve hidden kinds, the
kind decides which values are frequent, and half of the kinds buy; eight more columns are pure
noise. There SimCLR is better. The other is real: scikit-learn's diabetes data, 442 patients with
ten columns, their sex as a category, and whether the disease progressed more than in half of them.
There nothing is gained, the columns as they are do best. Always compare with them.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_diabetes
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sslearn import SimCLR
from sslearn.augment import FeatureCorruption


def shop(n_rows=2000, n_kinds=12, seed=0):
    """Visitors of a shop, and whether they buy."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(n_kinds, size=n_rows)
    categories = {
        "device": ["phone", "tablet", "desktop"],
        "source": ["search", "mail", "advert", "direct"],
        "region": ["north", "east", "south", "west"],
        "day": ["workday", "weekend"],
        "payment": ["card", "transfer", "voucher"],
    }
    columns = {}
    for name, values in categories.items():
        frequencies = rng.dirichlet(np.full(len(values), 0.5), size=n_kinds)
        columns[name] = [rng.choice(values, p=frequencies[k]) for k in kind]
    for name in ["age", "minutes", "pages", "visits", "basket", "searches", "price", "returns"]:
        columns[name] = rng.normal(size=n_kinds)[kind] + rng.normal(scale=0.7, size=n_rows)
    for number in range(8):
        columns[f"nothing {number}"] = rng.normal(size=n_rows)
    return pd.DataFrame(columns).astype(dict.fromkeys(categories, "category")), kind % 2


def diabetes():
    """Patients, and whether their disease progressed more than in half of them."""
    X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    X["sex"] = X["sex"].astype("category")
    return X, (y > y.median()).to_numpy()


views = FeatureCorruption(rate=0.3)
simclr = SimCLR(augment=views, categorical_features="from_dtype", max_epochs=60, random_state=0)
columns = make_column_transformer(
    (OneHotEncoder(sparse_output=False), make_column_selector(dtype_exclude="number")),
    remainder=StandardScaler(),
)
linear, forest = LogisticRegression(max_iter=1000), RandomForestClassifier(random_state=0)
methods = {
    "raw": ([columns], linear),
    "raw, forest": ([columns], forest),
    "PCA": ([columns, PCA(8, random_state=0)], linear),
    "SimCLR": ([simclr], linear),
}
n_labelled = [10, 20, 40]

_, axes = plt.subplots(1, 2, figsize=(9, 3.5), sharex=True, sharey=True, layout="constrained")
for ax, (table, (X, y)) in zip(axes, {"shop": shop(), "diabetes": diabetes()}.items(), strict=True):
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    print(f"{table:<12}" + "".join(f"{n:>4} labels" for n in n_labelled))
    for name, (steps, classifier) in methods.items():
        features = make_pipeline(*steps).fit(X_train)  # all training rows, no labels
        # Then a few rows with labels; `FrozenEstimator` does not fit the features again.
        model = make_pipeline(FrozenEstimator(features), StandardScaler(), classifier)
        means = []
        for n in n_labelled:
            draws = StratifiedShuffleSplit(10, train_size=n, random_state=0)
            scores = [
                100 * model.fit(X_train.iloc[few], y_train[few]).score(X_test, y_test)
                for few, _ in draws.split(X_train, y_train)
            ]
            means.append(np.mean(scores))
        print(f"{name:<12}" + "".join(f"{mean:10.1f}%" for mean in means), flush=True)
        ax.plot(n_labelled, means, "o-", label=name)
    ax.set(title=table, xlabel="labelled rows", xticks=n_labelled)
axes[0].set_ylabel("test accuracy, %")
axes[1].legend(loc="upper left")
plt.show()
