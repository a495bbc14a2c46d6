"""What is known of a book at a moment: inputs of models, sampled by clock or by event."""
