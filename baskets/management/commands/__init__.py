"""The commands an operator or a scheduler runs: each parses its arguments, makes domain calls and prints."""
