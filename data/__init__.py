"""Encoder cards, presets and prompts: TOML and text, no logic."""
