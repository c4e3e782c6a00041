"""The `take_champion` component."""
