"""What a config costs on TPUs that one does not have: its programs compiled ahead of time, and what limits them."""
