"""The `sample_negatives` component."""
