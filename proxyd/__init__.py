"""The daemon: TLS, files, stores, listeners, the command line. The only package that imports both others."""
