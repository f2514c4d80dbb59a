"""Text: the tokens of a batch, and whole sentences, from what was sent of the embeddings' gradients."""
