"""The `attribute_conversions` component."""
