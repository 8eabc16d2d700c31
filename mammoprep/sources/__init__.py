"""One file per dataset, named as on the command line: its own table in, records out."""
