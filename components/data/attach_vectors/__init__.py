"""The `attach_vectors` component."""
