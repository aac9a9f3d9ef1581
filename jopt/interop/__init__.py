"""Bridges to other libraries: thin adapters driven by each optimizer's Spec."""
