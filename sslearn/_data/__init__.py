"""Input data: validation, samples and streams, standardisation, batches."""
