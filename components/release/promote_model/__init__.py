"""The `promote_model` component."""
