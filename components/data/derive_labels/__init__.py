"""The `derive_labels` component."""
