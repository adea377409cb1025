"""What has to outlive the gateway's process, in an SQLite file: the spending of budgets."""
