"""The way of X: validation, samples and streams, standardisation, batches."""
