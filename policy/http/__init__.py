"""HTTP requests judged: rules and facts to a decision, masks for bodies, and the words for both."""
