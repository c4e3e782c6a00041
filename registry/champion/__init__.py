"""Who is champion, since when, and how does that change? The ledger and the promotion."""
