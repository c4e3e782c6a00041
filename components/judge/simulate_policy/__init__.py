"""The `simulate_policy` component."""
