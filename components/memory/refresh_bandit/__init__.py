"""The `refresh_bandit` component."""
