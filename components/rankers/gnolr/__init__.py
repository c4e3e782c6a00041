"""GNOLR: ordered feedback in one space of users and items."""
