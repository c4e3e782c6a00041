"""How do feedback types share what they learn? One exchangeable part per file."""
