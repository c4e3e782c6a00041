"""The `validate_data` component."""
