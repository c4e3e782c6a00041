"""May a challenger become champion? A policy, paired rows, one verdict."""
