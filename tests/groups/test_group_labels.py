import numpy as np
import pandas as pd
import pytest
import torch

from sslearn.groups._labels import numbered


@pytest.mark.parametrize(
    "labels",
    [
        [7, 3, 7, -1],
        ["b", "a", "b", "c"],
        np.array([2.5, 0.0, 2.5, 1.0]),
        torch.tensor([5, 9, 5, 0]),
        pd.Series(["x", "y", "x", "z"], dtype="category"),
        pd.Series([1, 2, 1, 3], dtype="Int64", index=[9, 8, 7, 6]),
        np.array(["2020-01-01", "2021-01-01", "2020-01-01", "2022-01-01"], dtype="M8[D]"),
        np.array(["x", 1, "x", (1, 2)], dtype=object),
        np.array([1, 2, 1, 2**63], dtype=np.uint64),
    ],
)
def test_labels_of_any_kind_are_numbered(labels):
    assert numbered(labels, 4).tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([1, 2, 3], ValueError, r"one label for each of the 4 samples. Got shape \(3,\) instead"),
        ([[1], [2], [3], [4]], ValueError, r"Got shape \(4, 1\)"),
        ("abcd", ValueError, r"Got shape \(\)"),
        ([1.0, np.nan, 2.0, np.nan], ValueError, "a label for each sample. Got missing .* 2 of 4"),
        (["a", None, "b", "c"], ValueError, "Got missing values for 1 of 4"),
        (pd.Series([1, 2, None, 3], dtype="Int64"), ValueError, "Got missing values for 1 of 4"),
        (np.array(["NaT", 0, 1, 2], dtype="M8[s]"), ValueError, "Got missing values for 1 of 4"),
        ([3, 3, 3, 3], ValueError, "two different labels or more. Got one for all .*, 3"),
        (["a"] * 4, ValueError, "Got one for all samples instead, 'a'"),
        (
            np.array([{}, 1, 2, 3], dtype=object),
            TypeError,
            "numbers or strings. Got a dict instead",
        ),
    ],
)
def test_other_labels_are_refused(labels, error, message):
    with pytest.raises(error, match=f"^The 'groups' parameter must .*{message}"):
        numbered(labels, 4)
