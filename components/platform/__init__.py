"""What is a component, and how does one stage of it run? Contract, catalogue, store, cache."""
