"""Attacks: from what an adversary sees to what the parties held. They import views and schemes, never training."""
