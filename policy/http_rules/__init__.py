"""What a rule can say about HTTP: its section, its patterns, its compiled form. `policy.http` judges by them."""
