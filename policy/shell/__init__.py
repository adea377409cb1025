"""Command texts to facts: what a shell would run if it were given the text of an SSH exec. Pure, and fails closed."""
