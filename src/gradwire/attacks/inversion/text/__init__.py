"""Inversion of text: what gradients tell of a sentence's tokens and of their order."""
