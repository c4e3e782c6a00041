"""How do we know? Tests by cost: unit, contract, architecture, integration, e2e."""
