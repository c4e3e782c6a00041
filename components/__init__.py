"""Which stages exist and what do they exchange? One folder per component, plus the contract they share."""
