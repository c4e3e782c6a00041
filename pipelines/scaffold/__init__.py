"""How does something new begin? As a small example that works, with its test."""
