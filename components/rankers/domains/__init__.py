"""How do towers adapt to domains? One exchangeable part per file."""
