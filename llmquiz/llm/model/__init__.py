"""A decoder-only transformer of the Llama family, one idea a module."""
