"""The language model that is shipped, and the way to load it or another in its place.

This folder is itself a checkpoint: config.json, model.safetensors and tokenizer.json are in the format that
transformers reads. README.md says what the model was trained on, what it can do, and what it cannot.
"""
