"""An SSH listener while it runs: who may log in (`authenticator`), and the host keys that it shows.

Made by the SSH door when the daemon starts; the files behind it are read anew at each reload.
"""
