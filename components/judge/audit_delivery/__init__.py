"""The `audit_delivery` component."""
