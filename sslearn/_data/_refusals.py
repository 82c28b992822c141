"""Objects that are no samples, and how to make samples of them, in one sentence each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ._rows import is_picture, refuse_masked
from ._shapes import check_shape

__all__ = ["explain_no_numbers", "refuse_other_things"]

# Conversion of PIL images.
_REMEDY_FOR_PICTURES = (
    "make an array (n, channels, height, width) of the images first, of each by "
    "np.asarray(image.convert('RGB')).transpose(2, 0, 1)"
)


def explain_no_numbers(name: str, X: Any, error: Exception) -> None:
    """Explain it in the caller's terms, with a remedy."""
    if "Sparse data was passed" in str(error):
        raise TypeError(
            f"Sparse data was passed, but {name} needs dense rows: X.toarray(), or in a pipeline "
            "FunctionTransformer(lambda A: A.toarray()), ColumnTransformer(..., "
            "sparse_threshold=0) or OneHotEncoder(sparse_output=False)."
        ) from error
    if "bytes/strings" in str(error) or "could not convert string" in str(error):
        raise ValueError(
            f"{name} needs real numbers (bool, integer or float). Got strings instead; first "
            "encode text, for example by skrub.TableVectorizer or OneHotEncoder."
        ) from error
    if "setting an array element" in str(error):
        samples = list(X)
        try:
            for sample in samples:
                check_shape(np.shape(sample), np.shape(samples[0]))
        except ValueError as of_shapes:  # also that of a sample that has none
            if "All samples" in str(of_shapes):
                raise of_shapes from error
            return
        raise TypeError(
            f"{name} needs one array. Got an array of {len(samples)} objects instead, each of "
            f"shape {np.shape(samples[0])}: pass np.stack(X)."
        ) from error


def refuse_other_things(name: str, X: Any) -> None:
    """Refuse objects that are no arrays, and sequences of objects that are no samples."""
    is_frame = hasattr(type(X), "dtypes") and type(X).__name__ != "LazyFrame"
    if is_frame or (type(X) is np.ndarray and X.dtype.kind in "biuf"):
        return
    refuse_masked(X)
    got, remedy = type(X).__name__, _remedy(X)
    if remedy is None and _is_sequence(X):
        try:
            sample = X[0]
        except Exception:  # empty, or without access by number; scikit-learn decides
            return
        if isinstance(sample, np.ma.MaskedArray):
            for part in X:
                refuse_masked(part)
        got, remedy = f"{got} of {type(sample).__name__}", _remedy_for_samples(X, sample)
    if remedy is not None:
        raise TypeError(
            f"{name} takes arrays, data frames, tensors, and torch Datasets or DataLoaders. Got "
            f"{got} instead{remedy and '; '}{remedy}."
        )


def _is_sequence(X: Any) -> bool:
    if isinstance(X, np.ndarray):
        return X.ndim == 1 and X.dtype.kind in "OUS"
    return not hasattr(X, "shape") and hasattr(X, "__getitem__")


def _remedy(X: Any) -> str | None:
    """Return a remedy where X is no array; None where it is one."""
    if isinstance(X, str | bytes | os.PathLike):
        return "load the file first, a folder of images by sslearn.data.ImageFolder"
    if is_picture(X):
        return _REMEDY_FOR_PICTURES
    if callable(getattr(X, "train_dataloader", None)):
        return "pass its train_dataloader()"
    if type(X).__name__ == "LazyFrame":
        return "pass X.collect()"
    if isinstance(X, Mapping) and not hasattr(X, "toarray"):  # a sparse array may be one
        return "pass one of its values, or a data frame of columns"
    if isinstance(X, set | frozenset):
        return "a set has no order"
    if hasattr(X, "__next__"):
        return "pass np.stack(list(X)), or an IterableDataset"
    if isinstance(X, np.ndarray) and X.dtype.names:
        return "pass numpy.lib.recfunctions.structured_to_unstructured(X)"
    is_array = any(hasattr(X, name) for name in ("shape", "__array__", "__getitem__"))
    is_array |= isinstance(X, memoryview)
    return None if is_array and not isinstance(X, type) else ""


def _remedy_for_samples(X: Any, sample: Any) -> str | None:
    """Return a remedy for a sequence whose first element is no sample."""
    if isinstance(sample, str | bytes | os.PathLike):
        return (
            "load the files first, images by sslearn.data.LoadImages or in a torch Dataset; texts "
            "need a TfidfVectorizer"
        )
    if is_picture(sample):
        return _REMEDY_FOR_PICTURES
    if isinstance(sample, Mapping):
        return "take one array from each, or make a data frame of them"
    x = sample[0] if isinstance(sample, tuple) and sample else None
    if isinstance(X, tuple) and (
        isinstance(sample, torch.Tensor) or (isinstance(sample, np.ndarray) and sample.ndim > 1)
    ):
        return "pass one of them, or all in one by np.stack or torch.stack if they are samples"
    if isinstance(sample, torch.Tensor) or isinstance(x, torch.Tensor | np.ndarray):
        samples = "X" if x is None else "[x for x, *_ in X]"
        if x is None and sample.ndim == 2 and any(x.shape != sample.shape for x in X):
            return "pass [x.numpy() for x in X] if these are series (channels, time)"
        return (
            f"pass torch.stack({samples}), or a torch Dataset. If cross-validation made the list "
            "of one, cross-validate an array (of samples, or of paths that an earlier step loads), "
            "or fit on a torch.utils.data.Subset"
        )
    return None
