"""What calls of language models mean: requests to facts, the `llm` sections of rules, prices, budgets. Pure."""
