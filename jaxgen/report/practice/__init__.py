"""Files and pictures of what is trained, tuned and swept: one agent's course, and many beside."""
