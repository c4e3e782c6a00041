"""The `watch_drift` component."""
