"""What lines between forks say, as tables, figures and files."""
