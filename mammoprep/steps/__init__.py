"""One file a step: ``apply(image, *, parameters) -> MammoImage``, pure, geometry beside pixels."""
