"""Rankers of exchangeable parts."""
