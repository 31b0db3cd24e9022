"""Copies of one photograph: found, and kept from lying on both sides of a split."""
