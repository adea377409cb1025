"""What a rule can say about SSH: its section, its patterns, its compiled form. `policy.ssh` judges by them."""
