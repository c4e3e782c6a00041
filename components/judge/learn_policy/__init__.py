"""The `learn_policy` component."""
