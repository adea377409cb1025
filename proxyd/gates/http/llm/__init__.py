"""Calls of language models at the HTTP door: facts of a request, denials, budgets, what an answer says. No I/O."""
