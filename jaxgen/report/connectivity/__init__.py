"""Tables, figures and files of lines between forks."""
