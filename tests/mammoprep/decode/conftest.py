"""Keeps pydicom's log lines about the deliberately odd files of these tests out of the report."""

import logging

logging.getLogger("pydicom").setLevel(logging.CRITICAL)
