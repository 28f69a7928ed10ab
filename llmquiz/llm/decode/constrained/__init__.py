"""Decoding that can only produce what a regular expression or a JSON schema allows."""
