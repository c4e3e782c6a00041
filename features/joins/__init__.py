"""Which value of a feature was known at a moment, and which is the newest? The offline and the online store."""
