"""Which pairs of fields deserve a table, a product or nothing? Tried in one network, chosen on validation."""
