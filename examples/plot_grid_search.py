"""
A grid search over the views and the temperature
================================================

With some labels, ``GridSearchCV`` chooses the parameters of a method as those of any other step of
a ``Pipeline``: ``simclr__temperature`` is a parameter of SimCLR, ``simclr__augment__rotation`` one
of the object that draws its views. Each combination is trained on one half of 500 handwritten
digits and scored on the other half, by a logistic regression on its features, and the other way
round. A pipeline fits all of its steps on the same samples, so all samples have labels here.

Features ignore what the views change. The orientation of a digit matters: a rotated six is a nine.
The heat map shows it: the accuracy falls with wider rotations, and that matters more than the
temperature, of which only the highest is clearly worse. Halves of 250 images are small: differences
of one or two points mean little, the trend from top to bottom is clear. Raw pixels are printed for
comparison, on the same halves and on the remaining images, which the search has not seen. With so
many labels they are nearly as good, and better than the widest rotations; with fewer labels the
gain is larger, see ``quickstart.py``.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sslearn import SimCLR
from sslearn.augment import RandomAffine

X, y = load_digits(return_X_y=True)
X = X.reshape(-1, 1, 8, 8)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=500, stratify=y, random_state=0
)

pipeline = Pipeline(
    [
        # `augment=None` has no parameters to search over; an object has.
        ("simclr", SimCLR(augment=RandomAffine(), max_epochs=20, random_state=0)),
        ("scale", StandardScaler()),
        ("classifier", LogisticRegression(max_iter=1000)),
    ]
)
grid = {
    "simclr__augment__rotation": [0, 15, 60, 180],  # degrees, to either side
    "simclr__temperature": [0.1, 0.5, 2.0],
}
search = GridSearchCV(pipeline, grid, cv=2).fit(X_train, y_train)

results = search.cv_results_
for parameters, mean in zip(results["params"], results["mean_test_score"], strict=True):
    print(*(f"{name}={value}" for name, value in parameters.items()), f"{100 * mean:.1f}%")
print("best:", search.best_params_)

raw = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
flat_train, flat_test = X_train.reshape(len(X_train), -1), X_test.reshape(len(X_test), -1)
raw_halves = cross_val_score(raw, flat_train, y_train, cv=2).mean()
raw_test = raw.fit(flat_train, y_train).score(flat_test, y_test)
print(f"raw pixels: {100 * raw_halves:.1f}% on the halves, {100 * raw_test:.1f}% on the rest")
print(
    f"best setting: {100 * search.best_score_:.1f}% on the halves, "
    f"{100 * search.score(X_test, y_test):.1f}% on the rest"
)

# The settings come in the order of the grid, its last parameter (by name) fastest.
rotations, temperatures = grid.values()
accuracy = 100 * results["mean_test_score"].reshape(len(rotations), len(temperatures))
_, ax = plt.subplots(figsize=(5, 4), layout="constrained")
picture = ax.imshow(accuracy, cmap="viridis", aspect="auto")
for i, row in enumerate(accuracy):
    for j, value in enumerate(row):
        shade = "black" if value > (accuracy.min() + accuracy.max()) / 2 else "white"
        ax.text(j, i, f"{value:.1f}", ha="center", va="center", color=shade)
ax.set_xticks(range(len(temperatures)), temperatures)
ax.set_yticks(range(len(rotations)), rotations)
ax.set(xlabel="temperature", ylabel="rotation of the views, degrees")
ax.set_title("accuracy over two folds, %")
plt.colorbar(picture, ax=ax)
plt.show()
