"""The `study_error_memory` component."""
