"""A learned inverter: a network that is trained, on examples of the adversary's own, to undo what the wire does."""
