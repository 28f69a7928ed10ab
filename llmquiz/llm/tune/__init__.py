"""Fine-tuning: instruction data, and methods that train a few parameters beside a frozen model."""
