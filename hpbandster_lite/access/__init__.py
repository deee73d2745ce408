"""Who may connect to a server and where it listens: certificates, keys of TLS, addresses."""
