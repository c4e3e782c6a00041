"""Is a second version good enough? As a shadow that only the log hears, or as a canary for a share of the users."""
