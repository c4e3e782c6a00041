"""How does a history become one vector? One exchangeable part per file."""
