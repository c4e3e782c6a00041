"""The `build_training_set` component."""
