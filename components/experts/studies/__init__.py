"""What is asked of an expert beside training it: search, ablation, evidence."""
