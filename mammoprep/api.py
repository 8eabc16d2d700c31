"""The public functions that take options as the command line does."""

from typing import Any

from mammoprep import builder, options
from mammoprep.builder import Result, Watcher


def build(watcher: Watcher | None = None, **given: Any) -> Result:
    """Build, resume, repair or extend a dataset.

    Args:
        watcher: Is told about warnings and progress.
        **given: The options of ``mammoprep build`` by name with ``_`` for ``-``: ``source="rsna"``,
            ``size="728x1456"``, ``out="shards"``, ``workers=2``, ...

    Raises:
        ConfigError: options, table or output folder are wrong; nothing was done.
        ResourceError: interrupted, disk full, or the folder is in use; call it again to go on.
    """
    return builder.build(options.build_config(given), watcher)
