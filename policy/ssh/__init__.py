"""SSH operations judged by the policy document: `policy.ssh.evaluate`."""
