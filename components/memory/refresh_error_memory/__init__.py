"""The `refresh_error_memory` component."""
