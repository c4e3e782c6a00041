"""How do fields meet before the towers? One exchangeable part per file."""
