"""Facts to decision: pure functions over the policy document. No I/O, no clock, no protocol bytes."""
