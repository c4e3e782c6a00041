"""The `estimate_propensity` component."""
