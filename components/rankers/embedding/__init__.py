"""How do indices become vectors, and how do those learn? Tables, hashed tables, sparse gradients."""
