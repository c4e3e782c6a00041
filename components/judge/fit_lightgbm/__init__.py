"""The `fit_lightgbm` component."""
