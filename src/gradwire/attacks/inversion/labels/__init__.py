"""Labels that are not known: read where the logits are made, proved or estimated, and how good estimates are."""
