"""How do logs become a typed events table? One folder per source, and what they share."""
