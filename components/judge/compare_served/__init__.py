"""The `compare_served` component."""
